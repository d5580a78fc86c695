//! Reading a client's bytes so that every request sees the fds it should.
//!
//! What a request can see is the newest write with fds that began at or before the request's last byte. `recvmsg`
//! glues a write without fds to one with fds that follows it, so bytes read in bulk would not tell where the
//! latter began. One look first does: the kernel says whether a write with fds is among the bytes it shows
//! ([`Connection::try_take`]).
//!
//! * It is not: exactly those bytes are taken at once.
//! * It is: the decoder (or what else finds messages) is shown the bytes up to the end of the next message, and exactly these are read. Fds that
//!   arrive with them belong to a write that began inside them, and replace the pending ones before the message
//!   is looked at.
//!
//! A transport without fds is read in bulk.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use budget::Holder;
use chardev::{Connection, Received, Taken};
use qmp_command::PendingFds;
use qmp_protocol::{Decoder, Message};

/// How much is read at once.
pub(crate) const CHUNK: usize = 16 * 1024;

thread_local! {
    /// Sessions of one thread read into one buffer, one after another, so that an idle session has none.
    static SCRATCH: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// What can be read from: a [`Connection`], or a test.
pub(crate) trait Source {
    fn try_take(&self, buf: &mut [u8]) -> io::Result<Taken>;
    fn try_recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received>;
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Source for Connection {
    fn try_take(&self, buf: &mut [u8]) -> io::Result<Taken> {
        Self::try_take(self, buf)
    }

    fn try_recv(&self, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
        Self::try_recv(self, buf, fds)
    }

    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_read_ready(self, cx)
    }
}

/// What finds messages in bytes: a [`Decoder`], or a human monitor's line discipline.
pub(crate) trait Framing {
    type Message;
    /// The next message. It takes the bytes up to the message's last from `bytes`; all of them, when there is none.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Self::Message>;
    /// Forgets the beginning of a message.
    fn reset(&mut self);
    /// Memory that it takes up and that its client can make large.
    fn held_bytes(&self) -> usize;
}

impl Framing for Decoder {
    type Message = Message;

    fn next(&mut self, bytes: &mut &[u8]) -> Option<Message> {
        Self::next(self, bytes)
    }

    fn reset(&mut self) {
        Self::reset(self);
    }

    fn held_bytes(&self) -> usize {
        Self::held_bytes(self)
    }
}

/// A message, and the fds it can see.
#[derive(Debug)]
pub(crate) struct Arrival<M = Message> {
    pub(crate) message: M,
    pub(crate) fds: PendingFds,
}

/// What comes next from a client.
#[derive(Debug)]
pub(crate) enum Next<M> {
    Arrival(Arrival<M>),
    /// Bytes that do not end a message.
    Bytes,
    /// The client will send nothing more, or nobody wants it.
    End,
}

/// What a read brought.
enum Filled<M> {
    /// So many bytes, in the buffer.
    Bytes(usize),
    /// One message, or bytes that do not end one: the framing has them.
    Decoded(Option<M>),
    Eof,
}

/// Bytes that were read and are not decoded yet.
#[derive(Debug, Default)]
struct Chunk {
    buffer: Option<Box<[u8]>>,
    from: usize,
    to: usize,
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer[self.from..self.to])
    }

    /// Marks all but the last `left` bytes as done; with none left, the buffer goes back to the thread.
    fn leave(&mut self, left: usize) {
        self.from = self.to - left;
        if left == 0
            && let Some(buffer) = std::mem::take(self).buffer
        {
            SCRATCH.set(Some(buffer));
        }
    }
}

/// A client's bytes on their way to messages.
#[derive(Debug)]
pub(crate) struct Input<F: Framing> {
    framing: F,
    chunk: Chunk,
    pending: PendingFds,
    /// Fds that come are charged here.
    fds: Holder,
    ended: bool,
    /// Bytes that nobody has paid for yet; see [`Input::take_cost`].
    unpaid: usize,
    /// So many messages have lost their fds, which is to be said.
    lost_fds: u32,
}

/// Bytes that cost as much time as a request.
const BYTES_PER_REQUEST: usize = 1024;

impl<F: Framing> Input<F> {
    pub(crate) fn new(framing: F, fds: Holder) -> Self {
        Self {
            framing,
            chunk: Chunk::default(),
            pending: PendingFds::default(),
            fds,
            ended: false,
            unpaid: 0,
            lost_fds: 0,
        }
    }

    /// What finds messages.
    pub(crate) fn framing(&mut self) -> &mut F {
        &mut self.framing
    }

    /// Memory that it takes up.
    pub(crate) fn held_bytes(&self) -> usize {
        self.framing.held_bytes() + self.chunk.buffer.as_ref().map_or(0, |buffer| buffer.len())
    }

    /// The fds that have come and were not taken, and who holds them.
    pub(crate) fn fds(&mut self) -> (&PendingFds, &mut Holder) {
        (&self.pending, &mut self.fds)
    }

    /// Whether something is to be done about fds: some are to be given, or were lost.
    pub(crate) fn fds_are_due(&self) -> bool {
        self.lost_fds > 0 || self.fds.is_told()
    }

    /// How many messages' fds could not be received since this was last asked.
    pub(crate) fn take_lost_fds(&mut self) -> u32 {
        std::mem::take(&mut self.lost_fds)
    }

    /// Counts as so many bytes read: what was done for them took longer than reading them, or a reply of so many was made.
    pub(crate) fn charge(&mut self, bytes: usize) {
        self.unpaid += bytes;
    }

    /// Drops what was read and takes nothing more.
    pub(crate) fn end(&mut self) {
        self.ended = true;
        self.chunk.leave(0);
        self.framing.reset();
        self.pending = PendingFds::default();
    }

    /// The next message, or news of bytes that were read and hold none so far: those may go on for ever, so the caller
    /// decides how many to take. A message that the input ends in the middle of is dropped.
    ///
    /// # Errors
    /// What the transport fails with.
    pub(crate) fn poll_next(
        &mut self,
        source: &impl Source,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Next<F::Message>>> {
        if !self.chunk.bytes().is_empty() {
            return Poll::Ready(Ok(self.decode_chunk()));
        }
        if self.ended {
            return Poll::Ready(Ok(Next::End));
        }
        Poll::Ready(Ok(match ready!(self.poll_fill(source, cx))? {
            Filled::Bytes(_) => self.decode_chunk(),
            Filled::Decoded(message) => self.next_of(message),
            Filled::Eof => {
                self.end();
                Next::End
            }
        }))
    }

    /// What was read since the last call, in requests' worth of time: a few bytes are free.
    pub(crate) fn take_cost(&mut self) -> u32 {
        let cost = self.unpaid / BYTES_PER_REQUEST;
        self.unpaid %= BYTES_PER_REQUEST;
        u32::try_from(cost).unwrap_or(u32::MAX)
    }

    fn next_of(&self, message: Option<F::Message>) -> Next<F::Message> {
        match message {
            Some(message) => Next::Arrival(Arrival { message, fds: self.pending.clone() }),
            None => Next::Bytes,
        }
    }

    fn decode_chunk(&mut self) -> Next<F::Message> {
        let mut bytes = self.chunk.bytes();
        let message = self.framing.next(&mut bytes);
        let left = bytes.len();
        self.chunk.leave(left);
        self.next_of(message)
    }

    fn poll_fill(
        &mut self,
        source: &impl Source,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Filled<F::Message>>> {
        let mut buffer = SCRATCH.take().unwrap_or_else(|| vec![0; CHUNK].into_boxed_slice());
        let filled = loop {
            match self.fill(source, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match source.poll_read_ready(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                    Poll::Pending => break Poll::Pending,
                },
                other => break Poll::Ready(other),
            }
        };
        match filled {
            Poll::Ready(Ok(Filled::Bytes(to))) => self.chunk = Chunk { buffer: Some(buffer), from: 0, to },
            _ => SCRATCH.set(Some(buffer)),
        }
        filled
    }

    fn fill(&mut self, source: &impl Source, buffer: &mut [u8]) -> io::Result<Filled<F::Message>> {
        let mut shown = match source.try_take(buffer)? {
            Taken::Bytes(0) => return Ok(Filled::Eof),
            Taken::Bytes(len) => {
                self.unpaid += len;
                return Ok(Filled::Bytes(len));
            }
            Taken::Fds(len) => &buffer[..len],
        };
        let all = shown.len();
        let message = self.framing.next(&mut shown);
        let len = all - shown.len();
        // What was shown and not taken will be shown again; and each such read costs several system calls.
        self.unpaid += all + BYTES_PER_REQUEST;
        self.receive_exactly(source, &mut buffer[..len])?;
        Ok(Filled::Decoded(message))
    }

    /// Fds have come, which replace those that were there. If they are too many for the plane and this session has most, they
    /// are closed, and whoever looks for one learns of it.
    fn take_fds(&mut self, fds: Vec<OwnedFd>) {
        let account = self.fds.account();
        let charged = fds.into_iter().map(|fd| fd_closer::Received::charged(fd, account.charge(1)));
        self.pending = PendingFds::received(charged.collect());
        self.fds.enforce();
        if self.fds.is_told() {
            self.pending.refuse();
            self.fds.settle(0, 0);
        }
    }

    /// Takes bytes that were shown, and what fds come with them.
    fn receive_exactly(&mut self, source: &impl Source, mut buf: &mut [u8]) -> io::Result<()> {
        while !buf.is_empty() {
            let mut fds = Vec::new();
            let received = match source.try_recv(buf, &mut fds) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // The bytes were there a moment ago. Who else reads this socket?
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::other("another process reads this socket"));
                }
                // Where there is no room for more fds, nobody is told to give: whoever holds no more than all may is not to blame.
                Err(error) => return Err(error),
                Ok(received) => received,
            };
            if received.truncated {
                self.lost_fds = self.lost_fds.saturating_add(1);
                self.pending = PendingFds::lost();
            } else if received.fds {
                // Each was installed, and will be closed.
                self.unpaid += fds.len() * BYTES_PER_REQUEST / 4;
                self.take_fds(fds);
            }
            if received.len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            buf = &mut buf[received.len..];
        }
        Ok(())
    }
}
