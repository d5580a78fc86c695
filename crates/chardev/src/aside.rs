//! Sockets that are closed where nobody waits.

use std::io;
use std::ops::Deref;
use std::os::fd::OwnedFd;

/// A socket of tokio's that can be taken out of its runtime.
pub(crate) trait Detach: Sized {
    fn detach(self) -> io::Result<OwnedFd>;
}

impl Detach for tokio::net::UnixStream {
    fn detach(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

#[cfg(feature = "tcp")]
impl Detach for tokio::net::TcpStream {
    fn detach(self) -> io::Result<OwnedFd> {
        self.into_std().map(OwnedFd::from)
    }
}

/// A socket whose close can block: it was given to us and lingers, or descriptors that do are unread in its queue. So it
/// is closed by [`fd_closer`].
#[derive(Debug)]
pub(crate) struct Aside<T: Detach>(Option<T>);

impl<T: Detach> From<T> for Aside<T> {
    fn from(socket: T) -> Self {
        Self(Some(socket))
    }
}

impl<T: Detach> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(socket) => socket,
            None => unreachable!("only drop takes the socket"),
        }
    }
}

impl<T: Detach> Drop for Aside<T> {
    fn drop(&mut self) {
        // An error says that the runtime is gone, and closes the socket here.
        if let Some(Ok(fd)) = self.0.take().map(T::detach) {
            // The peer sees the end now, however long the close takes. An error says that it has gone.
            let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
            fd_closer::close(fd);
        }
    }
}
