//! Closes file descriptors that came from a client without ever blocking the caller.
//!
//! A received descriptor stays shared with its sender, who decides what its close does: a TCP socket with `SO_LINGER`
//! and unsent data, a pipe whose lock somebody holds, or a file of a file system in user space, blocks whoever closes it for as
//! long as the sender likes.
//! So whoever owns received descriptors ends them with [`close`], or keeps them as [`Received`], which does so when it
//! is dropped.
//!
//! What cannot block is closed at once (memory devices). All else goes to threads that exist for nothing else: one
//! is started when none is idle, up to [`MAX_THREADS`]; beyond that descriptors wait. An idle thread ends after [`IDLE`].
//! They are never joined: a process exits without waiting for them.
//!
//! A session whose closes are stuck takes up 16 threads at most, a user of the system 64, all clients 960; what is theirs beyond
//! that waits behind its own kind, and nobody else's does. Whose a descriptor is says its charge, or who received it
//! ([`Received::of`]); where nobody does, a unix socket is its peer's, and all else belongs to one user whom nobody knows. Where half
//! of that is taken up, what is unread in unix sockets is taken out before they are closed, as that is what holds up most: a 16th of
//! the limit of descriptors at most (between 253 and 1024), so that what somebody has sent does not fill the table. What the process
//! has accepted itself ([`close_connection`]) never waits behind them; if something is unread in it, that is its peer's.
//!
//! A descriptor may be charged to a [budget](budget::Budget). While it waits to be closed, or its close does not end, it
//! [leaves](budget::Charge::leave): its session is told of it by [`Account::leaving`](budget::Account::leaving).
//!
//! The threads are the process's, as the table of descriptors is. They block all signals, and run the hooks of all who want
//! to know of them ([`announce_to`]).

mod closing;
mod hooks;
mod kind;
mod loose;
mod pool;
mod queues;
mod receive;
mod room;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use budget::{Account, Charge};
use closing::Closing;
pub use hooks::{Announced, announce_to};
pub use pool::IDLE;
pub use queues::MAX_THREADS;
pub use receive::{MAX_FDS, peek, receive, take_urgent_in_line};
pub use room::{descriptors_left, has_room};

/// Closes a descriptor, at once if that cannot block, else on another thread.
///
/// A socket is told not to linger: what it has not sent yet is sent after its close. If no thread can be started and none
/// is there, the descriptor waits until there is something else to close: better late than by who must not wait.
pub fn close(fd: OwnedFd) {
    closing::close(fd, None, None);
}

/// Closes a connected socket that the process has accepted or made itself, and nobody else has, where nobody waits. Its peer sees the
/// end now, and descriptors that it has sent and nobody has read are closed as the peer's. The socket must not be one that was told to
/// linger (`SO_LINGER`); unix sockets never do.
pub fn close_connection(socket: OwnedFd) {
    // An error says that the peer has gone, or that it is no such socket.
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    pool::close(Closing::connection(socket, false));
}

/// The same for one that has been read to its end: a read that had room found nothing, and said so. So nobody need look whether
/// something is left in it.
pub fn close_spent_connection(socket: OwnedFd) {
    let _ = rustix::net::shutdown(&socket, rustix::net::Shutdown::Both);
    pool::close(Closing::connection(socket, true));
}

/// Closes a listening unix socket that nobody else listens on. Connections that were not accepted hold what their
/// clients have sent, descriptors too, so they are closed by [`close`]; the socket's name is free when this returns, and
/// nobody connects to it any more.
///
/// The socket must be non-blocking. If connections cannot be taken out of it (no descriptor is free), it is closed by
/// [`close`] too, and an abstract name of its is free a moment later.
pub fn close_listener(socket: OwnedFd) {
    use rustix::io::Errno;
    use rustix::net::{Shutdown, SocketFlags, accept_with};

    // From now on connecting is refused, so the queue only gets shorter.
    if rustix::net::shutdown(&socket, Shutdown::Both).is_err() {
        return close(socket);
    }
    loop {
        match accept_with(&socket, SocketFlags::CLOEXEC) {
            Ok(client) => close_connection(client),
            Err(Errno::INTR) => {}
            // Nothing is left, and nothing will come.
            Err(Errno::AGAIN | Errno::INVAL) => return drop(socket),
            Err(_) => return close(socket),
        }
    }
}

/// Closes descriptors that a user has sent, if it is known which, as a [`Received`] of that user's is.
pub fn close_all_of(fds: impl IntoIterator<Item = OwnedFd>, user: Option<u32>) {
    fds.into_iter().for_each(|fd| drop(Received::of(fd, user)));
}

/// A descriptor that is closed by [`close`] when it is dropped.
#[derive(Debug)]
pub struct Received {
    fd: Option<OwnedFd>,
    charge: Option<Charge>,
    /// Whose it is, where no charge says so.
    user: Option<u32>,
}

impl Received {
    /// A descriptor that is charged to somebody until it is closed, or its new owner's.
    #[must_use]
    pub fn charged(fd: OwnedFd, charge: Charge) -> Self {
        Self { fd: Some(fd), charge: Some(charge), user: None }
    }

    /// A descriptor that came from this user of the system, if it is known whose it is. It is charged to nobody; if its close does not
    /// end, that user's are held up, and nobody else's.
    #[must_use]
    pub fn of(fd: OwnedFd, user: Option<u32>) -> Self {
        Self { fd: Some(fd), charge: None, user }
    }

    /// Whether it is charged to this account.
    #[must_use]
    pub fn is_charged_to(&self, account: &Account) -> bool {
        self.charge.as_ref().is_some_and(|charge| account.has(charge))
    }

    /// The descriptor itself, to be closed by its new owner.
    ///
    /// ```
    /// use std::os::fd::OwnedFd;
    ///
    /// let received = fd_closer::Received::from(OwnedFd::from(std::fs::File::open("/dev/null")?));
    /// let file = std::fs::File::from(received.into_fd());
    /// # let _ = file; Ok::<(), std::io::Error>(())
    /// ```
    #[must_use]
    pub fn into_fd(mut self) -> OwnedFd {
        // Only here and in `drop`, which comes after, is it taken.
        self.fd.take().unwrap_or_else(|| unreachable!("a descriptor is there until it is taken"))
    }
}

impl From<OwnedFd> for Received {
    fn from(fd: OwnedFd) -> Self {
        Self::of(fd, None)
    }
}

impl AsFd for Received {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("a descriptor is there until it is taken"),
        }
    }
}

impl AsRawFd for Received {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        if let Some(fd) = self.fd.take() {
            closing::close(fd, self.charge.take(), self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{IoSlice, Read, Write};
    use std::mem::MaybeUninit;
    use std::net::{TcpListener, TcpStream};
    use std::time::{Duration, Instant};

    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
        SocketType, bind, connect, listen, sendmsg, socket_with,
    };

    use super::*;

    fn socket() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap()
    }

    /// A socket in flight to the listener, in a connection that was not accepted, lingers for 20 s when it is closed.
    #[test]
    fn a_listeners_close_waits_for_nothing_in_its_backlog_and_frees_its_name() {
        let name = format!("fd-closer-test-{}", std::process::id());
        let address = SocketAddrUnix::new_abstract_name(name.as_bytes()).unwrap();
        let listener = socket();
        bind(&listener, &address).unwrap();
        listen(&listener, 8).unwrap();

        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut lingering = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (_peer, _) = tcp.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&lingering, Some(Duration::from_secs(20))).unwrap();
        lingering.set_nonblocking(true).unwrap();
        while lingering.write(&[7; 65536]).is_ok() {}
        lingering.set_nonblocking(false).unwrap();

        let client = socket();
        connect(&client, &address).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [lingering.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        sendmsg(&client, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        drop(lingering);

        let before = Instant::now();
        close_listener(listener);
        assert!(before.elapsed() < Duration::from_secs(10), "{:?}", before.elapsed());
        let again = socket();
        bind(&again, &address).expect("the name is free");
        let mut client = std::os::unix::net::UnixStream::from(client);
        client.set_nonblocking(false).unwrap();
        let end = client.read(&mut [0]);
        assert!(matches!(end, Ok(0)) || end.is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset));
    }
}
