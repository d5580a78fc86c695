//! Descriptors of tokio's that are closed where nobody waits.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

/// Something of tokio's that can be taken out of its runtime.
pub(crate) trait Detach: Sized {
    /// Whether it is a socket, whose peer is to see the end at once.
    const SOCKET: bool;

    fn detach(self) -> io::Result<OwnedFd>;
}

impl Detach for tokio::net::UnixStream {
    const SOCKET: bool = true;

    fn detach(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

#[cfg(feature = "tcp")]
impl Detach for tokio::net::TcpStream {
    const SOCKET: bool = true;

    fn detach(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

impl Detach for tokio::net::unix::pipe::Receiver {
    const SOCKET: bool = false;

    fn detach(self) -> io::Result<OwnedFd> {
        self.into_nonblocking_fd()
    }
}

impl Detach for tokio::net::unix::pipe::Sender {
    const SOCKET: bool = false;

    fn detach(self) -> io::Result<OwnedFd> {
        self.into_nonblocking_fd()
    }
}

/// A descriptor whose close can block: it was given to us and lingers, or descriptors that do are unread in its queue,
/// or its file system is slow. So it is closed by [`fd_closer`].
#[derive(Debug)]
pub(crate) struct Aside<T: Detach>(Option<T>);

impl<T: Detach> From<T> for Aside<T> {
    fn from(inner: T) -> Self {
        Self(Some(inner))
    }
}

impl<T: Detach> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(inner) => inner,
            None => unreachable!("only drop takes it"),
        }
    }
}

impl<T: Detach> Drop for Aside<T> {
    fn drop(&mut self) {
        // An error says that the runtime is gone, and closes the descriptor here.
        if let Some(Ok(fd)) = self.0.take().map(T::detach) {
            // A socket's peer sees the end now, however long the close takes.
            if T::SOCKET { fd_closer::close_connection(fd) } else { fd_closer::close(fd) }
        }
    }
}
