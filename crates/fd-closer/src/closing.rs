//! A descriptor that is to be closed.

use std::io::IoSliceMut;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use budget::Charge;
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, recvmsg, sockopt};

use crate::kind::is_quick;
use crate::pool;
use crate::queues::Owner;
use crate::receive::{has_room, receive};

/// How many messages are read out of a connection before it is closed with what is left in it.
const MESSAGES: usize = 1024;

/// Closes what came from a client.
pub(crate) fn close(fd: OwnedFd, mut charge: Option<Charge>) {
    if is_quick(fd.as_fd()) {
        return;
    }
    let account = charge.as_ref().map(Charge::account);
    let user = account.map_or_else(|| peer(fd.as_fd()), budget::Account::user);
    let owner = Owner::Client { user, account: account.map(budget::Account::key) };
    if let Some(charge) = &mut charge {
        charge.leave();
    }
    pool::close(Closing { fd, charge, owner });
}

/// Then its charge ends.
pub(crate) struct Closing {
    fd: OwnedFd,
    charge: Option<Charge>,
    pub(crate) owner: Owner,
}

impl Closing {
    pub(crate) fn connection(fd: OwnedFd) -> Self {
        Self { fd, charge: None, owner: Owner::Ours }
    }

    /// Closes it, however long that takes. What comes back is to be closed next, by others.
    ///
    /// What nobody has read in a connection of ours is taken out before. So it is with what came from a client if its
    /// place is `crowded` with closes that take long: what is in there is most likely more of that. Else it is left
    /// alone, as the client may have kept the socket, and read it still.
    pub(crate) fn close(self, crowded: bool) -> Vec<Self> {
        let ours = self.owner == Owner::Ours;
        let mut left = Vec::new();
        let looked_into = if ours { !is_empty(self.fd.as_fd()) } else { crowded };
        if looked_into && sockopt::socket_domain(&self.fd) == Ok(AddressFamily::UNIX) {
            let owner = match self.owner {
                Owner::Ours => Owner::Client { user: peer(self.fd.as_fd()), account: None },
                owner => owner,
            };
            let mut received = Vec::new();
            let empty = empty(self.fd.as_fd(), &mut received);
            left.extend(received.into_iter().map(|fd| Self { fd, charge: None, owner }));
            if ours && !empty {
                left.push(Self { fd: self.fd, charge: self.charge, owner });
                return left;
            }
        }
        // Even this can wait: for the socket's lock, which a call of its sender's may hold. Whoever else has the socket can
        // change it again; but then theirs is the last close, and not ours. What is no socket does not know of it.
        let _ = sockopt::set_socket_linger(&self.fd, None);
        drop(self.fd);
        drop(self.charge);
        left
    }
}

/// Whose a unix socket is. Other sockets have no user (all bits set), and what is no socket has no answer.
fn peer(fd: BorrowedFd<'_>) -> Option<u32> {
    sockopt::socket_peercred(fd).ok().map(|peer| peer.uid.as_raw()).filter(|uid| *uid != u32::MAX)
}

/// Whether nothing is left in a connection that has ended: the usual case, which one look tells.
fn is_empty(socket: BorrowedFd<'_>) -> bool {
    let (mut byte, mut no_control) = ([0], RecvAncillaryBuffer::default());
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let seen = recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut no_control, flags);
    seen.is_ok_and(|seen| seen.bytes == 0 && !seen.flags.contains(ReturnFlags::CTRUNC))
}

/// Takes what descriptors a socket still has in its queue, to which nothing more comes. Whether none is left there.
fn empty(socket: BorrowedFd<'_>, fds: &mut Vec<OwnedFd>) -> bool {
    let mut buffer = [0; 4096];
    for _ in 0..MESSAGES {
        if !has_room(socket) {
            return false;
        }
        let (bytes, flags) = match receive(socket, &mut buffer, RecvFlags::DONTWAIT, fds) {
            Ok(received) => received,
            Err(Errno::INTR) => continue,
            Err(error) => return error == Errno::AGAIN,
        };
        if flags.contains(ReturnFlags::CTRUNC) {
            return false;
        }
        if bytes == 0 {
            return true;
        }
    }
    false
}
