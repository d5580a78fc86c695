//! Stdin and stdout as one stream.
//!
//! Each may be anything: a terminal, pipe or socket is polled, a regular file or `/dev/null` (which epoll refuses) is
//! always ready. What is polled is made non-blocking, a property of the open file that the process's parent (a shell) may
//! share, so the flag is put back in the end. End of file on stdin is the end of the connection's input and nothing
//! more.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use rustix::fs::OFlags;
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::error::OpenError;

/// Whether a chardev has stdin and stdout. Process-wide, as they are: two readers would take bytes from one another.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Holds [`TAKEN`] until dropped.
#[derive(Debug)]
struct Claim;

impl Drop for Claim {
    fn drop(&mut self) {
        TAKEN.store(false, Ordering::Release);
    }
}

/// Stdin and stdout. Dropping it puts their flags back.
#[derive(Debug)]
pub(crate) struct Stdio {
    /// Says when there is input; `None` if there always is. (tokio's pipe ends poll whatever epoll takes.)
    readable: Option<Receiver>,
    /// Likewise for output.
    writable: Option<Sender>,
    output_is_socket: bool,
    input: Duplicate,
    output: Duplicate,
    /// Last, so that the flags are back before another takes them.
    _claim: Option<Claim>,
}

impl Stdio {
    /// Takes the process's stdin and stdout.
    pub(crate) fn open() -> Result<Self, OpenError> {
        if TAKEN.swap(true, Ordering::Acquire) {
            return Err(OpenError::StdioInUse);
        }
        let claim = Claim;
        let (stdin, stdout) = (io::stdin(), io::stdout());
        Self::new(stdin.as_fd(), stdout.as_fd(), Some(claim)).map_err(|source| OpenError::Stdio { source })
    }

    fn new(input: BorrowedFd<'_>, output: BorrowedFd<'_>, claim: Option<Claim>) -> io::Result<Self> {
        // Both flags are read before either is changed: the two may be one open file.
        let (input, output) = (Duplicate::new(input)?, Duplicate::new(output)?);
        let readable = if_pollable(Receiver::from_owned_fd_unchecked(duplicate(input.fd.as_fd())?))?;
        let writable = if_pollable(Sender::from_owned_fd_unchecked(duplicate(output.fd.as_fd())?))?;
        if readable.is_some() {
            set_nonblocking(&input.fd, true)?;
        }
        if writable.is_some() {
            set_nonblocking(&output.fd, true)?;
        }
        let output_is_socket = rustix::net::sockopt::socket_type(&output.fd).is_ok();
        Ok(Self { readable, writable, output_is_socket, input, output, _claim: claim })
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.readable.as_ref().map_or(Poll::Ready(Ok(())), |readable| readable.poll_read_ready(cx))
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writable.as_ref().map_or(Poll::Ready(Ok(())), |writable| writable.poll_write_ready(cx))
    }

    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut read = || Ok(retry_on_intr(|| rustix::io::read(&self.input.fd, &mut *buf))?);
        match &self.readable {
            Some(readable) => readable.try_io(&mut read),
            None => read(),
        }
    }

    pub(crate) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let write = || match self.output_is_socket {
            true => crate::scm::transmit(self.output.fd.as_fd(), buf),
            false => Ok(retry_on_intr(|| rustix::io::write(&self.output.fd, buf))?),
        };
        match &self.writable {
            Some(writable) => writable.try_io(write),
            None => write(),
        }
    }
}

/// A duplicate of stdin or stdout, which themselves stay open.
#[derive(Debug)]
struct Duplicate {
    fd: OwnedFd,
    was_blocking: bool,
}

impl Duplicate {
    fn new(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let fd = duplicate(fd)?;
        let was_blocking = !rustix::fs::fcntl_getfl(&fd)?.contains(OFlags::NONBLOCK);
        Ok(Self { fd, was_blocking })
    }
}

impl Drop for Duplicate {
    fn drop(&mut self) {
        if self.was_blocking
            && let Err(error) = set_nonblocking(&self.fd, false)
        {
            tracing::debug!(%error, "cannot restore the flags of stdio");
        }
    }
}

/// Above 2, so that it never becomes a standard stream where one is closed.
fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

/// `None` for what epoll refuses (`EPERM`) because it is always ready.
fn if_pollable<T>(registered: io::Result<T>) -> io::Result<Option<T>> {
    match registered {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        other => other.map(Some),
    }
}

fn set_nonblocking(fd: &OwnedFd, on: bool) -> io::Result<()> {
    let mut flags = rustix::fs::fcntl_getfl(fd)?;
    if flags.contains(OFlags::NONBLOCK) != on {
        flags.set(OFlags::NONBLOCK, on);
        rustix::fs::fcntl_setfl(fd, flags)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
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
        let stdio = Stdio::new(input.as_fd(), output.as_fd(), None).unwrap();
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
        let stdio = Stdio::new(socket.as_fd(), socket.as_fd(), None).unwrap();
        assert!(nonblocking(&socket));
        drop(peer);
        poll_fn(|cx| stdio.poll_write_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        drop(stdio);
        assert!(!nonblocking(&socket));
    }

    #[tokio::test]
    async fn files_are_always_ready() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in"), "hello").unwrap();
        let input = File::open(dir.path().join("in")).unwrap();
        let output = File::options().write(true).open("/dev/null").unwrap();
        let stdio = Stdio::new(input.as_fd(), output.as_fd(), None).unwrap();
        let mut buf = [0; 16];
        poll_fn(|cx| stdio.poll_read_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_read(&mut buf).unwrap(), 5);
        assert_eq!(stdio.try_read(&mut buf).unwrap(), 0);
        poll_fn(|cx| stdio.poll_write_ready(cx)).await.unwrap();
        assert_eq!(stdio.try_write(b"gone").unwrap(), 4);
    }
}
