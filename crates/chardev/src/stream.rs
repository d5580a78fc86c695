//! The kinds of stream under a connection, and the system calls on each, inside tokio's `try_io`.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::{Context, Poll};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::aside::Aside;
use crate::duplex::Duplex;
use crate::scm::{self, Peeked, Received, Taken};

#[derive(Debug)]
pub(crate) enum Stream {
    Unix(Aside<UnixStream>),
    #[cfg(feature = "tcp")]
    Tcp(Aside<tokio::net::TcpStream>),
    Files(Box<Duplex>),
}

impl Stream {
    /// A connected unix socket that nobody has read from yet.
    pub(crate) fn unix(stream: impl Into<Aside<UnixStream>>) -> Self {
        let stream = stream.into();
        fd_closer::take_urgent_in_line(stream.as_fd());
        Self::Unix(stream)
    }

    pub(crate) fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_read_ready(cx),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.poll_read_ready(cx),
            Self::Files(files) => files.poll_read_ready(cx),
        }
    }

    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_write_ready(cx),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.poll_write_ready(cx),
            Self::Files(files) => files.poll_write_ready(cx),
        }
    }

    pub(crate) fn try_peek(&self, buf: &mut [u8]) -> io::Result<Peeked> {
        match self {
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || scm::peek(stream.as_fd(), buf)),
            _ => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(crate) fn try_take(&self, buf: &mut [u8]) -> io::Result<Taken> {
        let room = buf.len();
        // What stays when tokio knows already that there is nothing.
        let mut taken = Err(io::ErrorKind::WouldBlock.into());
        let _ = match self {
            Self::Unix(stream) => stream.try_io(Interest::READABLE, || {
                taken = scm::take(stream.as_fd(), stream.is_shared(), buf);
                if room > 0 && matches!(taken, Ok(Taken::Bytes(0))) {
                    stream.note_end();
                }
                would_block_next(&taken, room)
            }),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.try_io(Interest::READABLE, || {
                taken = scm::receive_plain(stream.as_fd(), buf).map(Taken::Bytes);
                would_block_next(&taken, room)
            }),
            Self::Files(files) => {
                taken = files.try_read(buf).map(Taken::Bytes);
                Ok(())
            }
        };
        taken
    }

    pub(crate) fn try_recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
        if let Self::Unix(stream) = self {
            return stream.try_io(Interest::READABLE, || scm::receive(stream.as_fd(), buf, fds));
        }
        self.try_recv_plain(buf).map(|len| Received { len, fds: false, truncated: false })
    }

    pub(crate) fn try_recv_plain(&self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => {
                stream.try_io(Interest::READABLE, || scm::receive_unseen(stream.as_fd(), buf))
            }
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => {
                stream.try_io(Interest::READABLE, || scm::receive_plain(stream.as_fd(), buf))
            }
            Self::Files(files) => files.try_read(buf),
        }
    }

    pub(crate) fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_io(Interest::WRITABLE, || scm::transmit(stream.as_fd(), buf)),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.try_io(Interest::WRITABLE, || scm::transmit(stream.as_fd(), buf)),
            Self::Files(files) => files.try_write(buf),
        }
    }

    pub(crate) fn send_now(&self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => scm::transmit(stream.as_fd(), buf),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => scm::transmit(stream.as_fd(), buf),
            Self::Files(files) => files.try_write(buf),
        }
    }

    pub(crate) fn shutdown_write(&self) {
        // An error says that the peer has gone already.
        let _ = match self {
            Self::Unix(stream) => rustix::net::shutdown(&**stream, rustix::net::Shutdown::Write),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => rustix::net::shutdown(&**stream, rustix::net::Shutdown::Write),
            Self::Files(_) => Ok(()),
        };
    }

    /// Ends both directions of a socket, whoever uses it at the moment: they see the end. Nothing happens to files.
    pub(crate) fn disconnect(&self) {
        // An error says that the peer has gone already.
        let _ = match self {
            Self::Unix(stream) => rustix::net::shutdown(&**stream, rustix::net::Shutdown::Both),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => rustix::net::shutdown(&**stream, rustix::net::Shutdown::Both),
            Self::Files(_) => Ok(()),
        };
    }

    /// Whether the peer has closed a socket altogether. A peer that has only ended its own side is still there.
    pub(crate) fn has_hung_up(&self) -> bool {
        let fd = match self {
            Self::Unix(stream) => stream.as_fd(),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.as_fd(),
            Self::Files(_) => return false,
        };
        // What is not asked for is reported all the same: that it hung up, that it failed.
        let mut asked = [PollFd::from_borrowed_fd(fd, PollFlags::empty())];
        matches!(poll(&mut asked, Some(&Timespec::default())), Ok(ready) if ready > 0)
    }

    /// Whether nothing can come any more, as far as is known: a socket that was closed altogether, or one whose peer has ended
    /// its side when all that it sent has been read.
    pub(crate) fn is_spent(&self) -> bool {
        let fd = match self {
            Self::Unix(stream) => stream.as_fd(),
            #[cfg(feature = "tcp")]
            Self::Tcp(stream) => stream.as_fd(),
            Self::Files(_) => return false,
        };
        self.has_hung_up() || matches!(scm::peek(fd, &mut [0]), Ok(Peeked { len: 0, fds: false }))
    }

    /// What is read, if that could be a terminal.
    pub(crate) fn terminal(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Files(files) => files.input(),
            _ => None,
        }
    }

    pub(crate) fn carries_fds(&self) -> bool {
        matches!(self, Self::Unix(_))
    }
}

/// Whether another read would find nothing: `WouldBlock` then, for `try_io` to clear the readiness, which saves the
/// read that would only be told so.
///
/// A read that takes some bytes and less than it had room for has emptied the socket: no descriptors stopped it short,
/// or it would have said [`Taken::Fds`]. (Out-of-band bytes can stop it short too. A peer that sends such waits for what
/// is behind them until it sends more.) tokio clears only the readiness that it had seen before the read. What comes
/// later makes epoll report anew, and the end of the stream is a readiness of its own that is never cleared.
fn would_block_next(taken: &io::Result<Taken>, room: usize) -> io::Result<()> {
    match taken {
        Ok(Taken::Bytes(len)) if *len > 0 && *len < room => Err(io::ErrorKind::WouldBlock.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}
