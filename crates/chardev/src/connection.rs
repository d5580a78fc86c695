//! One connected client.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll};

use peer_admission::Credentials;
use tokio::net::UnixStream;

use crate::badge::Badge;
use crate::scm::{Peeked, Received, Taken};
use crate::shared::{Client, HandedIn, Slot};
use crate::stream::Stream;
use crate::terminal::RawTerminal;

/// One connected client: its socket, and its place among the clients that the front end takes at once. Dropping it
/// closes the one and frees the other.
///
/// The `try_` methods do one system call, never block, and fail with [`io::ErrorKind::WouldBlock`] when there is
/// nothing to do; the task then waits with the `poll_` method of the same direction. As in tokio, one task can wait for
/// each direction: the last one to poll is woken.
pub struct Connection {
    /// Its chardev knows of it too, to be able to hang up.
    stream: Arc<Stream>,
    peer: Peer,
    handed_in: Option<Box<HandedIn>>,
    slot: Option<Slot>,
}

impl Connection {
    pub(crate) fn new(Client { stream, peer, handed_in }: Client, slot: Slot) -> Self {
        Self { stream, peer, handed_in, slot: Some(slot) }
    }

    /// A connection over any connected unix stream socket that nobody else has. It belongs to no chardev and takes no slot.
    ///
    /// # Errors
    /// The socket's options cannot be changed (`SO_PASSCRED` is switched off).
    pub fn from_unix_stream(stream: UnixStream) -> io::Result<Self> {
        rustix::net::sockopt::set_socket_passcred(&stream, false)?;
        let peer = Peer::of_unix(&stream, "unix");
        Ok(Self { stream: Arc::new(Stream::unix(stream)), peer, handed_in: None, slot: None })
    }

    /// Waits until there may be something to read, or the peer has closed its side.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    /// Waits until something may be written, or the peer has gone.
    ///
    /// # Errors
    /// The runtime is shutting down.
    pub fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    /// Looks at what is there without taking it, and says whether descriptors come with it. `buf` must not be empty.
    /// Only for what [carries descriptors](Self::carries_fds).
    ///
    /// "No" stays so: if it showed n bytes without descriptors, the first n bytes have none, whatever arrives after
    /// them. "Yes" with a full buffer may be about a write behind what is shown; reading one message at a time until the
    /// descriptors have come is right for both.
    ///
    /// # Errors
    /// `WouldBlock`, what the socket says, or `Unsupported` where descriptors cannot come.
    pub fn try_peek(&self, buf: &mut [u8]) -> io::Result<Peeked> {
        self.stream.try_peek(buf)
    }

    /// Takes what is there when no descriptors come with it, else shows it and takes nothing: a look and a read in one.
    /// `buf` must not be empty.
    ///
    /// This is how a session reads. When it returns less than `buf` has room for, the next call fails with
    /// `WouldBlock` without asking the kernel, until something new has arrived.
    ///
    /// # Errors
    /// `WouldBlock`, or what the socket says.
    pub fn try_take(&self, buf: &mut [u8]) -> io::Result<Taken> {
        self.stream.try_take(buf)
    }

    /// Reads bytes, and pushes the descriptors that came with the last write among them: close-on-exec, in the order
    /// sent, `O_NONBLOCK` cleared where possible. At most [`MAX_FDS`](crate::MAX_FDS). `buf` must not be empty.
    ///
    /// # Errors
    /// `WouldBlock`, or what the socket says; `EMFILE` when this process has no room for the descriptors that come, which stay
    /// where they are.
    pub fn try_recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
        self.stream.try_recv(buf, fds)
    }

    /// Reads bytes only: descriptors that come with them are closed, where nobody waits. Returns 0 when the peer has closed
    /// its side. `buf` must not be empty.
    ///
    /// # Errors
    /// `WouldBlock`, or what the socket says; `EMFILE` when descriptors come and this process has no room for them.
    pub fn try_recv_plain(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.stream.try_recv_plain(buf)
    }

    /// Writes what fits and returns how much that was. Raises no signal.
    ///
    /// # Errors
    /// `WouldBlock`, or what the socket says; `BrokenPipe` when the peer has gone.
    pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
        self.logged(buf, self.stream.try_send(buf))
    }

    /// As [`try_send`](Self::try_send), but asks the socket itself. A unix socket says that it is writable only once most
    /// of its buffer is free; before that, this tells whether the peer has read anything.
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    pub fn send_now(&self, buf: &[u8]) -> io::Result<usize> {
        self.logged(buf, self.stream.send_now(buf))
    }

    fn logged(&self, buf: &[u8], sent: io::Result<usize>) -> io::Result<usize> {
        if let (Some(slot), Ok(len)) = (&self.slot, &sent) {
            slot.log(buf.get(..*len).unwrap_or_default());
        }
        sent
    }

    /// Whether the peer has closed the connection altogether, though bytes of its may be unread. `false` for files.
    #[must_use]
    pub fn has_hung_up(&self) -> bool {
        self.stream.has_hung_up()
    }

    /// Whether nothing can come from the peer any more: it has [hung up](Self::has_hung_up), or ended its side, and all
    /// that it sent before has been read. Over TCP, who has closed looks like who has ended its side.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.stream.is_spent()
    }

    /// Whether file descriptors can come with the bytes: on unix sockets.
    #[must_use]
    pub fn carries_fds(&self) -> bool {
        self.stream.carries_fds()
    }

    /// Puts the terminal that is read, if it is one, into raw mode until what comes back is dropped; for who draws on it,
    /// as a line editor does. `None` for all else, and for a terminal that another process has the foreground of.
    ///
    /// # Errors
    /// What the terminal says.
    pub fn raw_terminal(&self) -> io::Result<Option<RawTerminal>> {
        self.stream.terminal().map_or(Ok(None), RawTerminal::new)
    }

    /// Tells the peer that nothing more will be written. Reading goes on. Nothing happens on files and stdio.
    pub fn shutdown_write(&self) {
        self.stream.shutdown_write();
    }

    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Who handed the client in, with [`Chardev::attach`](crate::Chardev::attach). `None` for one that came by itself,
    /// whose rights are those of its chardev's [`badge`](crate::Chardev::badge).
    #[must_use]
    pub fn badge(&self) -> Option<&Badge> {
        self.handed_in.as_ref()?.badge.as_ref()
    }

    /// The process that handed the client in, as far as [`Chardev::attach_from`](crate::Chardev::attach_from) was told.
    #[must_use]
    pub fn giver(&self) -> Option<Credentials> {
        self.handed_in.as_ref()?.giver
    }

    /// Gives the client back to its chardev, still connected: the next front end, or the present one, gets it as a
    /// new connection. Bytes unread stay unread. One without a chardev is closed.
    pub fn park(self) {
        if let Some(slot) = self.slot {
            slot.park(Client { stream: self.stream, peer: self.peer, handed_in: self.handed_in });
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What it is called, but for its credentials, which follow when it is displayed: for people and logs.
    pub(crate) name: Arc<str>,
    /// Who connected, as the kernel noted it then. Unix sockets only.
    pub credentials: Option<Credentials>,
    /// Where from. TCP only.
    pub ip: Option<IpAddr>,
}

impl Peer {
    pub(crate) fn of_unix(stream: &UnixStream, name: impl Into<Arc<str>>) -> Self {
        Self { credentials: Credentials::of(stream), ..Self::named(name) }
    }

    pub(crate) fn named(name: impl Into<Arc<str>>) -> Self {
        Self { name: name.into(), credentials: None, ip: None }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.credentials {
            Some(Credentials { pid: Some(pid), uid, .. }) => write!(f, "{name} (pid {pid}, uid {uid})"),
            Some(Credentials { uid, .. }) => write!(f, "{name} (uid {uid})"),
            None => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small() {
        assert!(size_of::<Connection>() <= 128, "{}", size_of::<Connection>());
    }

    #[test]
    fn can_be_shared() {
        fn shared<T: Send + Sync + fmt::Debug>() {}
        shared::<Connection>();
        shared::<crate::Chardev>();
        shared::<crate::FrontEnd>();
    }
}
