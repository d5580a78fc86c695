//! Two open files, one read and one written, as one stream: stdin and stdout, two fifos, a file that is only written.
//!
//! Each may be anything: a terminal, fifo or socket is polled and made non-blocking, a regular file or `/dev/null`
//! (which epoll refuses) is always ready. Whoever else has it may make it blocking again at any moment (a client may have
//! passed it, for an fd set), so that is not what is relied on: see [`nowait`].

use std::any::Any;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use fd_closer::Received;
use rustix::io::{fcntl_dupfd_cloexec, retry_on_intr};
use tokio::net::unix::pipe::{Receiver, Sender};

use crate::aside::Aside;
use crate::nowait;

/// What must live as long as a stream, and end after it.
pub(crate) type Keep = Box<dyn Any + Send + Sync>;

/// A file to read and a file to write.
pub(crate) struct Duplex {
    /// `None`: there is never any input, and no end of it.
    input: Option<Input>,
    input_is_socket: bool,
    output: Output,
    output_is_socket: bool,
    /// Last: it ends when the files are closed.
    _keep: Option<Keep>,
}

/// (tokio's pipe ends poll whatever epoll takes.)
enum Input {
    Polled(Aside<Receiver>),
    AlwaysReady(Received),
}

enum Output {
    Polled(Aside<Sender>),
    AlwaysReady(Received),
}

impl Duplex {
    /// Takes two files, which may be one open file. What can be polled becomes non-blocking, which reaches everybody
    /// who has it. Where that fails, neither is closed here: a client may have passed them.
    pub(crate) fn new(input: Option<Received>, output: Received, keep: Option<Keep>) -> io::Result<Self> {
        let is_socket = |fd: &Received| rustix::net::sockopt::socket_type(fd).is_ok();
        let (input_is_socket, output_is_socket) = (input.as_ref().is_some_and(is_socket), is_socket(&output));
        let input = input.map(Input::new).transpose()?;
        Ok(Self { input, input_is_socket, output: Output::new(output)?, output_is_socket, _keep: keep })
    }

    /// What is read.
    pub(crate) fn input(&self) -> Option<BorrowedFd<'_>> {
        Some(match self.input.as_ref()? {
            Input::Polled(receiver) => receiver.as_fd(),
            Input::AlwaysReady(fd) => fd.as_fd(),
        })
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.input {
            Some(Input::Polled(receiver)) => receiver.poll_read_ready(cx),
            Some(Input::AlwaysReady(_)) => Poll::Ready(Ok(())),
            None => Poll::Pending,
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.output {
            Output::Polled(sender) => sender.poll_write_ready(cx),
            Output::AlwaysReady(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn try_read(&self, buf: &mut [u8]) -> io::Result<usize> {
        match &self.input {
            Some(Input::Polled(receiver)) if self.input_is_socket => {
                receiver.try_io(|| crate::scm::receive_plain(receiver.as_fd(), buf))
            }
            Some(Input::Polled(receiver)) => receiver.try_io(|| nowait::read(receiver.as_fd(), buf)),
            Some(Input::AlwaysReady(fd)) => Ok(retry_on_intr(|| rustix::io::read(fd, &mut *buf))?),
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Writes what fits. A file that takes nothing and does not say why (the memory of a process that has gone) never will, and
    /// whoever writes would go on for ever: that is an error.
    pub(crate) fn try_write(&self, buf: &[u8]) -> io::Result<usize> {
        let written = match &self.output {
            Output::Polled(sender) if self.output_is_socket => {
                sender.try_io(|| crate::scm::transmit(sender.as_fd(), buf))
            }
            Output::Polled(sender) => sender.try_io(|| nowait::write(sender.as_fd(), buf)),
            Output::AlwaysReady(fd) => Ok(retry_on_intr(|| rustix::io::write(fd, buf))?),
        };
        match written {
            Ok(0) if !buf.is_empty() => Err(io::ErrorKind::WriteZero.into()),
            written => written,
        }
    }
}

impl Input {
    fn new(fd: Received) -> io::Result<Self> {
        match if_pollable(Receiver::from_owned_fd_unchecked(duplicate(fd.as_fd())?))? {
            Some(receiver) => {
                // What is there when this fails is not closed here either.
                let receiver = Aside::from(receiver);
                set_nonblocking(fd.as_fd(), true)?;
                Ok(Self::Polled(receiver))
            }
            None => Ok(Self::AlwaysReady(fd)),
        }
    }
}

impl Output {
    fn new(fd: Received) -> io::Result<Self> {
        match if_pollable(Sender::from_owned_fd_unchecked(duplicate(fd.as_fd())?))? {
            Some(sender) => {
                let sender = Aside::from(sender);
                set_nonblocking(fd.as_fd(), true)?;
                Ok(Self::Polled(sender))
            }
            None => Ok(Self::AlwaysReady(fd)),
        }
    }
}

impl std::fmt::Debug for Duplex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Duplex").field("reads", &self.input.is_some()).finish_non_exhaustive()
    }
}

/// Above 2, so that it never becomes a standard stream where one is closed.
pub(crate) fn duplicate(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(fd, 3)?)
}

/// `None` for what epoll refuses (`EPERM`) because it is always ready.
fn if_pollable<T>(registered: io::Result<T>) -> io::Result<Option<T>> {
    match registered {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(None),
        other => other.map(Some),
    }
}

/// In one call that changes no other flag. To set all of them as they were before would change those that who shares the file has
/// set meanwhile, and some of these wait for a lock that he may hold.
pub(crate) fn set_nonblocking(fd: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(fd, on)?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn files_are_always_ready() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("in"), "hello").unwrap();
        let input = File::open(dir.path().join("in")).unwrap();
        let output = File::options().write(true).open("/dev/null").unwrap();
        let duplex =
            Duplex::new(Some(OwnedFd::from(input).into()), OwnedFd::from(output).into(), None).unwrap();
        let mut buf = [0; 16];
        poll_fn(|cx| duplex.poll_read_ready(cx)).await.unwrap();
        assert_eq!(duplex.try_read(&mut buf).unwrap(), 5);
        assert_eq!(duplex.try_read(&mut buf).unwrap(), 0);
        poll_fn(|cx| duplex.poll_write_ready(cx)).await.unwrap();
        assert_eq!(duplex.try_write(b"gone").unwrap(), 4);
    }

    #[tokio::test]
    async fn what_takes_nothing_is_an_error() {
        let mut child =
            std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let memory = File::options().write(true).open(format!("/proc/{}/mem", child.id())).unwrap();
        drop(child.stdin.take());
        child.wait().unwrap();
        let duplex = Duplex::new(None, OwnedFd::from(memory).into(), None).unwrap();
        assert_eq!(duplex.try_write(b"x").unwrap_err().kind(), io::ErrorKind::WriteZero);
        assert_eq!(duplex.try_write(b"").unwrap(), 0);
    }

    #[tokio::test]
    async fn without_input_there_is_never_anything_to_read() {
        let output = File::options().write(true).open("/dev/null").unwrap();
        let duplex = Duplex::new(None, OwnedFd::from(output).into(), None).unwrap();
        assert_eq!(duplex.try_read(&mut [0; 4]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let ready = poll_fn(|cx| Poll::Ready(duplex.poll_read_ready(cx).is_ready())).await;
        assert!(!ready);
    }
}
