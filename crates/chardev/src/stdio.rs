//! Stdin and stdout as one stream.
//!
//! Each may be anything (see [`Duplex`]). What is polled is made non-blocking, a property of the open file that the
//! process's parent (a shell) may share, so the flag is put back in the end: when the stream is dropped, or by
//! [`restore_stdio`]. End of file on stdin is the end of the connection's input and nothing more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;

use crate::duplex::{Duplex, duplicate, set_nonblocking};
use crate::error::OpenError;
use crate::terminal::restore_terminals;

/// Whether a chardev has stdin and stdout. Process-wide, as they are: two readers would take bytes from one another.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What of stdin and stdout is to be made blocking again. Process-wide, because [`restore_stdio`] is for whoever ends the
/// process.
static CHANGED: Mutex<Vec<OwnedFd>> = Mutex::new(Vec::new());

fn changed() -> MutexGuard<'static, Vec<OwnedFd>> {
    // Nothing under this lock can panic half-way.
    CHANGED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Holds [`TAKEN`] until dropped.
#[derive(Debug)]
struct Claim;

impl Drop for Claim {
    /// The flags have been put back: a claim is dropped after them.
    fn drop(&mut self) {
        changed().clear();
        TAKEN.store(false, Ordering::Release);
    }
}

/// Takes the process's stdin and stdout. Dropping the stream puts their flags back.
///
/// # Errors
/// Another chardev has them, or they cannot be used.
pub(crate) fn open() -> Result<Duplex, OpenError> {
    if TAKEN.swap(true, Ordering::Acquire) {
        return Err(OpenError::StdioInUse);
    }
    let claim = Claim;
    let (stdin, stdout) = (io::stdin(), io::stdout());
    new(stdin.as_fd(), stdout.as_fd(), Some(claim)).map_err(|source| OpenError::Stdio { source })
}

/// Makes the process's stdin and stdout, and terminals, what they were before chardevs used them. For a process that ends
/// without dropping its chardevs: by [`std::process::exit`], or with a panic that aborts. (A dropped chardev does the
/// same for itself.) A signal that kills leaves no time for it: catch those that users send.
pub fn restore_stdio() {
    restore_terminals();
    for fd in std::mem::take(&mut *changed()) {
        restore(fd.as_fd());
    }
}

fn restore(fd: BorrowedFd<'_>) {
    if let Err(error) = set_nonblocking(fd, false) {
        tracing::debug!(%error, "cannot restore the flags of stdio");
    }
}

fn new(input: BorrowedFd<'_>, output: BorrowedFd<'_>, claim: Option<Claim>) -> io::Result<Duplex> {
    // Both flags are read before either is changed: the two may be one open file.
    let restore = (Restore::new(input)?, Restore::new(output)?);
    if claim.is_some() {
        let mut changed = changed();
        for one in [&restore.0, &restore.1].into_iter().filter(|one| one.was_blocking) {
            changed.push(duplicate(one.fd.as_fd())?);
        }
    }
    Duplex::new(Some(duplicate(input)?.into()), duplicate(output)?.into(), Some(Box::new((restore, claim))))
}

/// Puts the flags of a standard stream back when it is dropped. It has a duplicate: the stream itself stays open.
#[derive(Debug)]
struct Restore {
    fd: OwnedFd,
    was_blocking: bool,
}

impl Restore {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = duplicate(fd)?;
        let was_blocking = !rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK);
        Ok(Self { fd, was_blocking })
    }
}

impl Drop for Restore {
    fn drop(&mut self) {
        if self.was_blocking {
            restore(self.fd.as_fd());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::{Read, Write};

    use super::*;

    fn nonblocking(fd: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[tokio::test]
    async fn pipes() {
        let (input, mut feed) = io::pipe().unwrap();
        let (mut drain, output) = io::pipe().unwrap();
        let stdio = new(input.as_fd(), output.as_fd(), None).unwrap();
        assert!(nonblocking(&input) && nonblocking(&output));

        let mut buf = [0; 16];
        assert_eq!(stdio.try_read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        feed.write_all(b"in").unwrap();
        poll_fn(|cx| stdio.poll_read_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_read(&mut buf).unwrap(), 2);
        poll_fn(|cx| stdio.poll_write_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_write(b"out").unwrap(), 3);
        assert_eq!(drain.read(&mut buf).unwrap(), 3);

        drop(feed);
        let end = loop {
            poll_fn(|cx| stdio.poll_read_ready(cx)).await.unwrap();
            match stdio.try_read(&mut buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                end => break end,
            }
        };
        assert_eq!(end.unwrap(), 0);
        assert_eq!(stdio.try_write(b"still").unwrap(), 5); // the end of input ends nothing else
        drop(stdio);
        assert!(!nonblocking(&input) && !nonblocking(&output));
    }

    #[tokio::test]
    async fn one_socket_for_both() {
        let (socket, peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let stdio = new(socket.as_fd(), socket.as_fd(), None).unwrap();
        assert!(nonblocking(&socket));
        drop(peer);
        poll_fn(|cx| stdio.poll_write_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(stdio);
        assert!(!nonblocking(&socket));
    }
}
