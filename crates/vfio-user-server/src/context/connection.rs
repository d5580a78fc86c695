//! One client's connection: its sockets, and the protocol's state.
//!
//! All I/O says `MSG_DONTWAIT` for itself: a socket that was passed in stays shared with whoever passed it, and so do its
//! flags.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use fd_closer::Received;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::listener::Accepted;
use super::{Credentials, Limits};
use crate::device::Messenger;
use crate::protocol::{Channel, Counters, Session};

/// Descriptors that we send at once, at most.
const MAX_SENT_FDS: usize = 16;

/// What a read has brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// Nothing: there is nothing now, or nothing is to be read now.
    Nothing,
    /// Bytes, which the session has.
    Bytes {
        /// How many.
        count: usize,
        /// There may be more at once: the room was filled, or descriptors came, at which a read stops.
        more: bool,
    },
    /// The connection has ended, and why.
    End(&'static str),
}

/// A client's socket. It may hold descriptors that nobody has read, whose close may block, so it is not closed here.
#[derive(Debug)]
pub(super) struct Stream(Option<OwnedFd>);

impl Stream {
    /// Nobody has read from it yet.
    fn new(socket: OwnedFd) -> Self {
        fd_closer::take_urgent_in_line(socket.as_fd());
        Self(Some(socket))
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Some(socket) => socket.as_fd(),
            None => unreachable!("taken when dropped"),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(fd_closer::close_connection);
    }
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: Session,
    /// Shared with who watches it.
    pub(super) stream: Arc<Stream>,
    twin: Option<Stream>,
    pub(super) credentials: Option<Credentials>,
    /// The device knows of the client.
    pub(super) negotiated: bool,
    /// When it was accepted.
    pub(super) since: Instant,
    /// Since when a message has been half there.
    pub(super) partial_since: Option<Instant>,
    /// Since when the client has taken nothing of what waits for it.
    pub(super) stuck_since: Option<Instant>,
    /// The stream cannot be trusted any more: what waits is sent, if it can be at once, and that is all.
    pub(super) ending: Option<String>,
    /// The client sends no more, and why. What it has sent is still executed.
    pub(super) at_end: Option<&'static str>,
    /// Messages were executed since it was last looked at.
    pub(super) progress: bool,
    /// There may be commands that had to wait when it was last tried.
    pub(super) blocked: bool,
    /// What the stream is watched for: to read, to write.
    pub(super) interest: (bool, bool),
    /// The socket for our commands is watched for room to write.
    pub(super) twin_is_full: bool,
    /// When to see whether large buffers are still needed.
    pub(super) trim_at: Option<Instant>,
    /// What the session has counted that the context has, too.
    pub(super) counted: Counters,
}

impl Connection {
    pub(super) fn new(accepted: Accepted, session: Session, now: Instant) -> Self {
        Self {
            session,
            stream: Arc::new(Stream::new(accepted.stream)),
            twin: None,
            credentials: accepted.credentials.map(|peer| Credentials {
                pid: peer.pid.unwrap_or(0),
                uid: peer.uid,
                gid: peer.gid,
            }),
            negotiated: false,
            since: now,
            partial_since: None,
            stuck_since: None,
            ending: None,
            at_end: None,
            progress: false,
            blocked: false,
            interest: (true, false),
            twin_is_full: false,
            trim_at: None,
            counted: Counters::default(),
        }
    }

    /// A socket, if there is one for this channel.
    pub(super) fn socket(&self, channel: Channel) -> Option<BorrowedFd<'_>> {
        match channel {
            Channel::Main => Some(self.stream.as_fd()),
            Channel::Twin => self.twin.as_ref().map(AsFd::as_fd),
        }
    }

    /// Our end of the socket for our commands.
    pub(super) fn set_twin(&mut self, socket: OwnedFd) {
        self.twin = Some(Stream::new(socket));
    }

    /// Reads once.
    pub(super) fn read(&mut self, channel: Channel) -> Read {
        let socket = match channel {
            Channel::Main => &*self.stream,
            Channel::Twin => match &self.twin {
                Some(twin) => twin,
                None => return Read::Nothing,
            },
        };
        let mut room = self.session.spare(channel);
        if room.is_empty() {
            return Read::Nothing;
        }
        // Without room the kernel would close them on this thread, and a close can block.
        if !fd_closer::has_room(socket.as_fd()) {
            match fd_closer::peek(socket.as_fd(), room) {
                Ok((_, true)) => return Read::End("this process has no room for descriptors of the client"),
                // No more than that: what comes meanwhile may have some.
                Ok((len @ 1.., false)) => room = &mut room[..len],
                // Reading tells what it is.
                Ok((0, false)) | Err(_) => {}
            }
        }
        let size = room.len();
        // Does not allocate unless there are some.
        let mut fds = Vec::new();
        let (count, flags) = match fd_closer::receive(socket.as_fd(), room, RecvFlags::DONTWAIT, &mut fds) {
            Ok(received) => received,
            Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
            Err(Errno::CONNRESET | Errno::PIPE) => return Read::End("the client has closed the connection"),
            Err(_) => return Read::End("the socket has failed"),
        };
        let had_fds = !fds.is_empty();
        // Should a close not end, it holds up nobody else's.
        let user = self.credentials.map(|peer| peer.uid);
        let fds = fds.into_iter().map(|fd| Received::of(fd, user));
        if count == 0 {
            fds.for_each(drop);
            return Read::End("the client has closed the connection");
        }
        self.session.received(channel, count, fds);
        if flags.contains(ReturnFlags::CTRUNC) {
            // Whose they were cannot be told. It happens when this process has no room for more.
            return Read::End("descriptors of the client could not be received");
        }
        Read::Bytes { count, more: had_fds || count == size }
    }

    /// Sends what waits, as far as the client takes it. An error ends the connection.
    pub(super) fn flush(&mut self, now: Instant) -> Result<(), &'static str> {
        if let Some(twin) = &self.twin {
            flush(&mut self.session, Channel::Twin, twin.as_fd())?;
        }
        let sent = flush(&mut self.session, Channel::Main, self.stream.as_fd())?;
        self.stuck_since = match sent {
            Sent::All => None,
            Sent::Some => Some(now),
            Sent::Nothing => self.stuck_since.or(Some(now)),
        };
        Ok(())
    }

    /// Whether there is any reason to read.
    pub(super) fn reads(&self) -> bool {
        self.ending.is_none() && self.at_end.is_none()
    }

    /// Whether a client that sends no more has been given all that there is for it.
    pub(super) fn has_all_it_gets(&self) -> bool {
        !self.session.has_any_output() && self.session.deferred() == 0 && !self.blocked
    }

    /// Whether the client has closed its end altogether, so that nothing that is sent arrives. One system call.
    pub(super) fn is_closed(&self) -> bool {
        let mut set = [PollFd::new(&*self.stream, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut set, Some(&now)).is_ok() && set[0].revents().intersects(PollFlags::HUP | PollFlags::ERR)
    }

    /// Nothing is on its way in either direction, as far as this end knows, and that was so before.
    pub(super) fn is_quiet(&self) -> bool {
        self.session.is_quiet()
            && self.at_end.is_none()
            && self.partial_since.is_none()
            && self.interest == (true, false)
            && !self.twin_is_full
    }

    /// The earliest time at which the client has been waited for long enough, and for what.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<(Instant, &'static str)> {
        let negotiation = (!self.negotiated).then_some(self.since);
        let after = |start: Option<Instant>, patience, why| Some((start?.checked_add(patience)?, why));
        let all = [
            after(negotiation, limits.negotiation, "the client has not negotiated in time"),
            after(self.partial_since, limits.stall, "the client has left a message unfinished for too long"),
            after(self.stuck_since, limits.stall, "the client has not taken its replies in time"),
        ];
        all.into_iter().flatten().min_by_key(|(when, _)| *when)
    }
}

/// How far sending has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    All,
    /// The client takes no more for now.
    Some,
    /// It has taken nothing.
    Nothing,
}

fn flush(session: &mut Session, channel: Channel, socket: BorrowedFd<'_>) -> Result<Sent, &'static str> {
    let mut progress = Sent::Nothing;
    while session.has_output(channel) {
        let output = session.output(channel);
        match send(socket, output.bytes, &output.fds) {
            Ok(count) => {
                session.sent(channel, count);
                progress = Sent::Some;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN | Errno::NOBUFS) => return Ok(progress),
            Err(Errno::TOOMANYREFS) => return Err("too many descriptors are on their way to the client"),
            Err(_) => return Err("the client has closed the connection"),
        }
    }
    Ok(Sent::All)
}

/// Sends bytes, with descriptors on the first of them.
fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    if fds.is_empty() {
        return rustix::net::send(socket, bytes, flags);
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SENT_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOMANYREFS);
    }
    sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)
}

impl Messenger for Session {
    fn dma_read(&mut self, address: u64, count: u64) -> Option<u16> {
        Self::dma_read(self, address, count)
    }

    fn dma_write(&mut self, address: u64, data: &[u8]) -> Option<u16> {
        Self::dma_write(self, address, data)
    }

    fn abandon(&mut self, id: u16) {
        Self::abandon(self, id);
    }

    fn largest(&self) -> usize {
        usize::try_from(self.max_dma()).unwrap_or(usize::MAX)
    }
}
