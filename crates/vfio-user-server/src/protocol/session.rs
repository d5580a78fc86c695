//! One client's connection.

use fd_closer::Received;
use rustix::io::Errno;

use super::engine::Engine;
use super::header::{Header, Kind, command};
use super::held::Held;
use super::inbox::{Head, Inbox};
use super::pieces::Pieces;
use super::{AccessToken, Output, Peer, SessionLimits, Target, Violation};

/// One of the sockets of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// The one that the client has connected.
    Main,
    /// The one for our commands and their replies, if the client wanted one: see [`Peer::twin_socket`].
    Twin,
}

/// What [`Session::step`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// A message has been executed.
    Executed {
        /// Its size.
        bytes: usize,
        /// It was a region access.
        access: bool,
    },
    /// There is no whole message.
    NeedInput,
    /// There is a command, but it must wait: output has to go first, or a deferred access has to be completed. Replies to
    /// our own commands still pass: the session goes on taking input, up to a bound, if there are any to come.
    Blocked,
}

/// Counts, from the start of the session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Commands executed.
    pub commands: u64,
    /// Of them, failed.
    pub errors: u64,
    /// Region reads that reached the device.
    pub reads: u64,
    /// Region writes that reached the device.
    pub writes: u64,
    /// Bytes of region reads.
    pub read_bytes: u64,
    /// Bytes of region writes.
    pub written_bytes: u64,
    /// Commands of ours.
    pub dma_messages: u64,
}

/// One client's connection, without its sockets: bytes and descriptors are put in and taken out, and a [`Target`] is called
/// in between.
///
/// What it holds for its client is bounded, whatever the client does: [`spare`](Self::spare) gives no room while that
/// would be exceeded. Region accesses allocate nothing once buffers have grown to what is usual.
#[derive(Debug, Default)]
pub struct Session {
    engine: Engine,
    main: Inbox,
    twin: Inbox,
    held: Held,
    /// The write at the front of the main socket's input, if it is taken in pieces.
    pieces: Option<Pieces>,
    ended: Option<Violation>,
}

/// Input.
impl Session {
    /// A connection that nothing has come over yet.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        Self { engine: Engine { limits, ..Engine::default() }, ..Self::default() }
    }

    /// Where the next read may put its bytes. 64 KiB, less what waits there; for a larger message as much as it lacks.
    /// Empty if nothing should be read now.
    pub fn spare(&mut self, channel: Channel) -> &mut [u8] {
        if self.ended.is_some() || !self.wants_input(channel) {
            return &mut [];
        }
        let negotiated = self.engine.peer.is_some();
        let limits = &self.engine.limits;
        match (channel, &self.pieces) {
            (Channel::Main, Some(pieces)) => self.main.piece(pieces.room()),
            (Channel::Main, None) => self.main.spare(limits, negotiated),
            (Channel::Twin, _) => self.twin.spare(limits, negotiated),
        }
    }

    /// Whether there is reason to read. If not, [`spare`](Self::spare) is empty; it may also be because it is full.
    #[must_use]
    pub fn wants_input(&self, channel: Channel) -> bool {
        match channel {
            Channel::Twin => self.ended.is_none() && self.engine.has_twin(),
            Channel::Main => {
                self.ended.is_none()
                    && (self.pieces.is_some() || !self.stuck() || self.head() == Head::Incomplete)
            }
        }
    }

    /// `count` bytes have been read into [`spare`](Self::spare), and `fds` came with them.
    ///
    /// Bytes and descriptors of one read, not of several: which message the descriptors belong to depends on it.
    ///
    /// # Panics
    /// If there was no room for so many.
    pub fn received(&mut self, channel: Channel, count: usize, fds: impl IntoIterator<Item = Received>) {
        match channel {
            Channel::Main => self.main.received(count, fds),
            Channel::Twin => self.twin.received(count, fds),
        }
    }

    /// Whether bytes have come that make no whole message yet. A client is not given all the time in the world to send
    /// the rest.
    #[must_use]
    pub fn has_partial_message(&self) -> bool {
        let (limits, negotiated) = (&self.engine.limits, self.engine.peer.is_some());
        self.pieces.is_some()
            || self.main.is_partial(limits, negotiated)
            || self.twin.is_partial(limits, negotiated)
    }

    fn head(&self) -> Head {
        self.main.head(&self.engine.limits, self.engine.peer.is_some())
    }

    /// Whether commands must wait, and no reply can be reached by setting them aside.
    fn stuck(&self) -> bool {
        let waits = self.engine.blocked();
        let replies = self.engine.pending.live() > 0 && !self.engine.has_twin();
        waits && !(replies && self.held.has_room(self.engine.limits.held))
    }
}

/// Work.
impl Session {
    /// Executes at most one message.
    ///
    /// # Errors
    /// The client has done what ends its connection. What [`output`](Self::output) there is should still be sent. Each
    /// further call says the same.
    pub fn step<T: Target + ?Sized>(&mut self, target: &mut T) -> Result<Step, Violation> {
        if let Some(violation) = &self.ended {
            return Err(violation.clone());
        }
        let step = self.next(target);
        if let Err(violation) = &step {
            self.ended = Some(violation.clone());
        }
        step
    }

    fn next<T: Target + ?Sized>(&mut self, target: &mut T) -> Result<Step, Violation> {
        if self.engine.has_twin()
            && let Some(step) = self.twin_reply(target)?
        {
            return Ok(step);
        }
        if let Some(pieces) = &mut self.pieces {
            let Some(header) = pieces.go_on(&mut self.engine, &mut self.main, target) else {
                return Ok(Step::NeedInput);
            };
            self.pieces = None;
            return Ok(executed(&header));
        }
        if !self.engine.blocked()
            && let Some(header) = self.held.first()
        {
            let size = header.size as usize;
            let fds = self.held.take_fds();
            self.engine.execute(target, header, self.held.message(size), fds)?;
            self.held.consume(size);
            return Ok(executed(&header));
        }
        loop {
            let Head::Message(header) = self.head() else {
                if !self.held.is_empty() {
                    return Ok(Step::Blocked);
                }
                self.pieces = Pieces::begin(&mut self.engine, &mut self.main, target);
                return if self.pieces.is_some() { self.next(target) } else { Ok(Step::NeedInput) };
            };
            let kind = self.judge(&header)?;
            let size = header.size as usize;
            if kind == Kind::Reply {
                // With a socket of their own for our commands, nothing that comes here is a reply to any.
                if !self.engine.has_twin() {
                    self.engine.take_reply(target, &header, self.main.message(size));
                }
                self.main.consume(size);
                return Ok(executed(&header));
            }
            if !self.engine.blocked() {
                let fds = self.main.take_fds();
                self.engine.execute(target, header, self.main.message(size), fds)?;
                self.main.consume(size);
                return Ok(executed(&header));
            }
            if self.stuck() {
                return Ok(Step::Blocked);
            }
            let fds = self.main.take_fds();
            self.held.put(self.main.message(size), fds);
            self.main.consume(size);
        }
    }

    /// Whether a message may be there at all. A command before `VERSION` is told so before the connection ends.
    fn judge(&mut self, header: &Header) -> Result<Kind, Violation> {
        let verdict = self.engine.limits.accept(header, self.engine.peer.is_some());
        if matches!(verdict, Err(Violation::BeforeVersion(_))) && header.kind() == Some(Kind::Command) {
            self.engine.counters.commands += 1;
            self.engine.fail_command(header, Errno::INVAL);
        }
        verdict
    }

    fn twin_reply<T: Target + ?Sized>(&mut self, target: &mut T) -> Result<Option<Step>, Violation> {
        let Head::Message(header) = self.twin.head(&self.engine.limits, true) else { return Ok(None) };
        if self.judge(&header)? == Kind::Command {
            return Err(Violation::TwinCommand(header.command));
        }
        let size = header.size as usize;
        self.engine.take_reply(target, &header, self.twin.message(size));
        self.twin.consume(size);
        Ok(Some(executed(&header)))
    }

    /// Answers a deferred read. `data` must be as long as the access was, else the client is told of an error. Unknown
    /// tokens are ignored.
    pub fn complete_read(&mut self, token: AccessToken, data: &[u8]) {
        self.engine.complete_read(token, data);
    }

    /// Answers a deferred write. Unknown tokens are ignored.
    pub fn complete_write(&mut self, token: AccessToken) {
        self.engine.complete_write(token);
    }

    /// Answers a deferred access with an error. Unknown tokens are ignored.
    pub fn fail(&mut self, token: AccessToken, error: Errno) {
        self.engine.fail_access(token, error);
    }

    /// Whether commands must wait at present: see [`Step::Blocked`].
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.engine.blocked()
    }

    /// What the next session of the same target is to [begin its tokens at](Self::begin_tokens_at).
    #[must_use]
    pub fn next_token(&self) -> u64 {
        self.engine.deferred.next()
    }

    /// Makes tokens that no earlier session has made, so that a late completion of one of theirs finds nothing.
    pub fn begin_tokens_at(&mut self, next: u64) {
        self.engine.deferred.begin_at(next);
    }

    /// Accesses that wait for their completion.
    #[must_use]
    pub fn deferred(&self) -> usize {
        self.engine.deferred.len()
    }
}

/// Output.
impl Session {
    /// Whether there is something to be sent on either channel.
    #[must_use]
    pub fn has_any_output(&self) -> bool {
        self.has_output(Channel::Main) || self.has_output(Channel::Twin)
    }

    /// Whether nothing waits: neither input, whole or not, nor output.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.pieces.is_none()
            && self.main.is_empty()
            && self.twin.is_empty()
            && self.held.is_empty()
            && !self.has_any_output()
    }

    /// Whether there is something to be sent.
    #[must_use]
    pub fn has_output(&self, channel: Channel) -> bool {
        match channel {
            Channel::Main => self.engine.out.waiting() > 0,
            Channel::Twin => self.engine.twin.waiting() > 0,
        }
    }

    /// What is to be sent next.
    #[must_use]
    pub fn output(&self, channel: Channel) -> Output<'_> {
        match channel {
            Channel::Main => self.engine.out.output(),
            Channel::Twin => self.engine.twin.output(),
        }
    }

    /// `count` bytes of [`output`](Self::output) have been sent, and with the first of them its descriptors.
    ///
    /// # Panics
    /// If there were not so many.
    pub fn sent(&mut self, channel: Channel, count: usize) {
        match channel {
            Channel::Main => self.engine.out.sent(count),
            Channel::Twin => self.engine.twin.sent(count),
        }
    }

    /// Asks for `count` bytes of the client's memory, 1 to [`max_dma`](Self::max_dma). Returns the id that
    /// [`Target::dma_reply`] will be called with. `None` if too many such commands wait for replies or too much output
    /// waits to be sent (try again later), or if `count` is out of range (do not).
    pub fn dma_read(&mut self, address: u64, count: u64) -> Option<u16> {
        self.engine.send_dma(command::DMA_READ, address, count, &[])
    }

    /// Sends `data` for the client's memory. As [`dma_read`](Self::dma_read).
    pub fn dma_write(&mut self, address: u64, data: &[u8]) -> Option<u16> {
        self.engine.send_dma(command::DMA_WRITE, address, data.len() as u64, data)
    }

    /// The most bytes of one command of ours: what the client and we ourselves take. 0 before there is a client.
    #[must_use]
    pub fn max_dma(&self) -> u64 {
        self.engine.max_dma()
    }

    /// Nobody waits for the reply to a command of ours any more. It is ignored, if it still comes; until then it counts as
    /// one that waits, since its id cannot be used again.
    pub fn abandon(&mut self, id: u16) {
        self.engine.pending.abandon(id);
    }
}

/// What is known.
impl Session {
    /// The client, once it has negotiated.
    #[must_use]
    pub fn peer(&self) -> Option<Peer> {
        self.engine.peer
    }

    /// Counts, from the start of the session.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.engine.counters
    }

    /// Whether it holds more memory than a session with small accesses does.
    #[must_use]
    pub fn is_large(&self) -> bool {
        self.main.is_large() || self.engine.out.is_large()
    }

    /// Gives back memory that is not needed for what is there now, all of it if nothing is. For sessions that have become
    /// idle: the next message allocates it anew.
    pub fn trim(&mut self) {
        self.main.trim();
        self.twin.trim();
        self.held.trim();
        self.engine.out.trim();
        self.engine.twin.trim();
    }

    /// Bytes of memory, and descriptors, that it holds: for tests of its bounds.
    #[doc(hidden)]
    #[must_use]
    pub fn holds(&self) -> (usize, usize) {
        let parts = [
            self.main.holds(),
            self.twin.holds(),
            self.held.holds(),
            self.engine.out.holds(),
            self.engine.twin.holds(),
        ];
        parts.iter().fold((0, 0), |(bytes, fds), part| (bytes + part.0, fds + part.1))
    }
}

fn executed(header: &Header) -> Step {
    let access = matches!(header.command, command::REGION_READ | command::REGION_WRITE);
    Step::Executed { bytes: header.size as usize, access }
}
