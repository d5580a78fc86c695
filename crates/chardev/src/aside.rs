//! Descriptors of tokio's that are closed where nobody waits.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use fd_closer::Received;

use crate::duplex::duplicate;

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
pub(crate) struct Aside<T: Detach> {
    inner: Option<T>,
    /// Somebody else has it too: it was handed in.
    shared: bool,
    /// It was read to its end.
    spent: AtomicBool,
}

/// Has the runtime watch a socket that came from a client. Where it cannot, a copy is what is closed here, and the socket
/// where nobody waits.
pub(crate) fn watched<S: From<OwnedFd>, T: Detach>(
    socket: Received,
    from_std: impl FnOnce(S) -> io::Result<T>,
) -> io::Result<Aside<T>> {
    // Without room for a copy a client is rather taken than lost.
    let shared = |inner| Aside { inner: Some(inner), shared: true, spent: AtomicBool::new(false) };
    let Ok(copy) = duplicate(socket.as_fd()) else {
        return from_std(socket.into_fd().into()).map(shared);
    };
    let watched = shared(from_std(copy.into())?);
    // The copy is there, so this is not the last close.
    drop(socket.into_fd());
    Ok(watched)
}

impl<T: Detach> Aside<T> {
    /// Whether somebody else may have it too, who reads it, writes it and sets its options.
    pub(crate) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Notes that it was read to its end, after which nothing comes. Who shares it may know better.
    pub(crate) fn note_end(&self) {
        self.spent.store(true, Ordering::Relaxed);
    }
}

impl<T: Detach> From<T> for Aside<T> {
    fn from(inner: T) -> Self {
        Self { inner: Some(inner), shared: false, spent: AtomicBool::new(false) }
    }
}

impl<T: Detach> Deref for Aside<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.inner {
            Some(inner) => inner,
            None => unreachable!("only drop takes it"),
        }
    }
}

impl<T: Detach> Drop for Aside<T> {
    fn drop(&mut self) {
        // An error says that the runtime is gone, and closes the descriptor here.
        if let Some(Ok(fd)) = self.inner.take().map(T::detach) {
            // A socket's peer sees the end now, however long the close takes.
            match (T::SOCKET, self.shared) {
                (true, false) if *self.spent.get_mut() => fd_closer::close_spent_connection(fd),
                (true, false) => fd_closer::close_connection(fd),
                (true, true) => {
                    // An error says that the peer has gone.
                    let _ = rustix::net::shutdown(&fd, rustix::net::Shutdown::Both);
                    fd_closer::close(fd);
                }
                (false, _) => fd_closer::close(fd),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::scm::Taken;
    use crate::stream::Stream;

    #[tokio::test]
    async fn what_cannot_be_watched_is_not_closed_here() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let socket = Received::from(OwnedFd::from(ours));
        let refused = watched(socket, |copy: UnixStream| {
            drop(copy);
            // The last close would be the end of it.
            assert_eq!(theirs.read(&mut [0; 1]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            Err::<tokio::net::UnixStream, _>(io::ErrorKind::OutOfMemory.into())
        });
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::OutOfMemory);
        theirs.set_nonblocking(false).unwrap();
        assert_eq!(theirs.read(&mut [0; 1]).unwrap(), 0, "it is closed by somebody");
    }

    /// Bytes, descriptors or nothing for now say that there may be something to close.
    #[tokio::test]
    async fn only_what_was_read_to_its_end_is_spent() {
        let (ours, theirs) = tokio::net::UnixStream::pair().unwrap();
        let stream = Stream::unix(ours);
        let Stream::Unix(aside) = &stream else { unreachable!("that is what it was made of") };
        let spent = || aside.spent.load(Ordering::Relaxed);
        let take = async |room: usize| {
            poll_fn(|cx| stream.poll_read_ready(cx)).await.unwrap();
            stream.try_take(&mut [0; 8][..room])
        };
        theirs.try_write(b"x").unwrap();
        // With its buffer full, it looks once more.
        assert_eq!((take(1).await.unwrap(), spent()), (Taken::Bytes(1), false));
        assert!(stream.try_take(&mut [0; 8]).is_err() && !spent());
        drop(theirs);
        assert_eq!((take(0).await.unwrap(), spent()), (Taken::Bytes(0), false));
        assert_eq!((take(8).await.unwrap(), spent()), (Taken::Bytes(0), true));
    }

    #[tokio::test]
    async fn what_is_watched_stays_open_once() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let socket = Received::from(OwnedFd::from(ours));
        let stream = watched(socket, tokio::net::UnixStream::from_std).unwrap();
        stream.writable().await.unwrap();
        assert_eq!(stream.try_write(b"x").unwrap(), 1);
        drop(stream);
        assert_eq!(theirs.read_to_end(&mut Vec::new()).unwrap(), 1);
    }
}
