//! A descriptor that is to be closed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budget::Charge;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, ReturnFlags, sockopt};

use crate::kind::is_quick;
use crate::loose::Loose;
use crate::pool;
use crate::queues::Owner;
use crate::receive::{peek, receive, take_urgent_in_line};
use crate::room::has_room;

/// How many messages are read out of a connection before it is closed with what is left in it.
const MESSAGES: usize = 1024;

/// Closes what came from a client: of this user, if it is known and its charge does not say.
pub(crate) fn close(fd: OwnedFd, mut charge: Option<Charge>, user: Option<u32>) {
    if is_quick(fd.as_fd()) {
        return;
    }
    let account = charge.as_ref().map(Charge::account);
    let user = match account {
        Some(account) => account.user(),
        None => user.or_else(|| peer(fd.as_fd())),
    };
    let owner = Owner::Client { user, account: account.map(budget::Account::key) };
    if let Some(charge) = &mut charge {
        charge.leave();
    }
    pool::close(Closing { fd, charge, loose: None, owner, spent: false });
}

/// Then its charge ends.
pub(crate) struct Closing {
    fd: OwnedFd,
    charge: Option<Charge>,
    /// It was taken out of a connection.
    loose: Option<Loose>,
    pub(crate) owner: Owner,
    /// It was read to its end, by who had it alone: nothing is left in it, and nothing will come.
    spent: bool,
}

impl Closing {
    pub(crate) fn connection(fd: OwnedFd, spent: bool) -> Self {
        Self { fd, charge: None, loose: None, owner: Owner::Ours, spent }
    }

    /// Whether it was taken out of a connection, so that it is in the process's table though it need not be.
    pub(crate) fn is_loose(&self) -> bool {
        self.loose.is_some()
    }

    /// Closes it, however long that takes. What comes back is to be closed next, by others.
    ///
    /// A connection of ours in which something is left unread is its client's from then on. What came from a client is closed with
    /// what is in it: that is one call, however many descriptors those are. Only if its place is `crowded` with closes that take
    /// long are they taken out before, as most likely they are what takes long; as many as may be [loose](Loose). Else they are left
    /// alone also because the client may have kept the socket, and read it still.
    pub(crate) fn close(self, crowded: bool) -> Vec<Self> {
        let mut left = Vec::new();
        if self.owner == Owner::Ours {
            if !self.spent && !is_empty(self.fd.as_fd()) && is_unix(self.fd.as_fd()) {
                let owner = Owner::Client { user: peer(self.fd.as_fd()), account: None };
                left.push(Self { owner, ..self });
            }
            // Else it is closed with this. It does not linger: see `close_connection`.
            return left;
        }
        if crowded && is_unix(self.fd.as_fd()) {
            let owner = self.owner;
            empty(self.fd.as_fd(), |fd, loose| {
                left.push(Self { fd, charge: None, loose: Some(loose), owner, spent: false });
            });
        }
        // Even this can wait: for the socket's lock, which a call of its sender's may hold. Whoever else has the socket can
        // change it again; but then theirs is the last close, and not ours. What is no socket does not know of it.
        let _ = sockopt::set_socket_linger(&self.fd, None);
        drop(self.fd);
        drop((self.charge, self.loose));
        left
    }
}

/// Whether it can hold descriptors.
fn is_unix(fd: BorrowedFd<'_>) -> bool {
    sockopt::socket_domain(fd) == Ok(AddressFamily::UNIX)
}

/// Whose a unix socket is. Other sockets have no user (all bits set), and what is no socket has no answer.
fn peer(fd: BorrowedFd<'_>) -> Option<u32> {
    sockopt::socket_peercred(fd).ok().map(|peer| peer.uid.as_raw()).filter(|uid| *uid != u32::MAX)
}

/// Whether nothing is left in a connection that has ended: the usual case, which one look tells.
fn is_empty(socket: BorrowedFd<'_>) -> bool {
    take_urgent_in_line(socket);
    peek(socket, &mut [0]).is_ok_and(|(len, _)| len == 0)
}

/// Takes what descriptors a socket still has in its queue, to which nothing more comes, as far as that can be.
fn empty(socket: BorrowedFd<'_>, mut take: impl FnMut(OwnedFd, Loose)) {
    let mut buffer = [0; 4096];
    let mut fds = Vec::new();
    for _ in 0..MESSAGES {
        // Before it is received: others look at the same time.
        let Some(mut room) = Loose::room_soon().filter(|_| has_room(socket)) else { return };
        let received = receive(socket, &mut buffer, RecvFlags::DONTWAIT, &mut fds);
        fds.drain(..).for_each(|fd| take(fd, room.one()));
        match received {
            Ok((bytes, flags)) if bytes > 0 && !flags.contains(ReturnFlags::CTRUNC) => {}
            Err(Errno::INTR) => {}
            _ => return,
        }
    }
}
