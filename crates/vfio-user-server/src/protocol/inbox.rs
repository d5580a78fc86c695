//! Bytes and descriptors of one socket, on their way to becoming messages.
//!
//! Bytes may come cut anywhere. The buffer is 64 KiB; a larger message, once its header has been seen and accepted, gets
//! what it needs, in one go. That much is kept while such messages keep coming, and given back after a row of smaller
//! ones, or by [`Inbox::trim`].

use fd_closer::Received;

use super::SessionLimits;
use super::access::FIXED;
use super::descriptors::Descriptors;
use super::header::{HEADER, Header, Kind, command};

/// Bytes of a buffer that waits for nothing larger.
pub(super) const NORMAL: usize = 64 * 1024;
/// After so many messages in a row that fit the normal buffer, a larger one is given back.
const PATIENCE: u32 = 64;
/// While a message is ready to be executed and so many descriptors wait, no more is read.
const MAX_WAITING_FDS: usize = 64;

/// What is at the front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Head {
    /// Not even a header, or not all of a message that is acceptable so far; or a message whose descriptors, if any, are
    /// not known yet.
    Incomplete,
    /// A header that is to be judged: the message is complete, or may be one that must not come.
    Message(Header),
}

/// Input of one socket.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    buf: Vec<u8>,
    /// Where the first message starts.
    start: usize,
    /// Where the received bytes end.
    end: usize,
    /// Bytes consumed so far: the place in the stream of what is at `start`.
    consumed: u64,
    fds: Descriptors,
    /// Messages in a row that would have fitted the normal buffer.
    small: u32,
}

impl Inbox {
    /// Where the next bytes go. `needed` is the size of the message at the front, if that is known and accepted.
    fn room(&mut self, needed: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let wanted = needed.max(NORMAL);
        let tail = self.buf.len() - self.end;
        if self.buf.len() < wanted {
            // Not what it was: only the bytes that count are copied.
            let mut buf = vec![0; wanted];
            buf[..self.end - self.start].copy_from_slice(&self.buf[self.start..self.end]);
            self.buf = buf;
            (self.start, self.end) = (0, self.end - self.start);
        } else if self.start > 0 && (self.start + needed > self.buf.len() || tail < NORMAL / 4) {
            self.buf.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A buffer that is larger than usual is used only as far as its message goes.
        let to = (self.start + wanted).clamp(self.end, self.buf.len());
        &mut self.buf[self.end..to]
    }

    /// Where the next bytes go; empty if none should be read now.
    pub(super) fn spare(&mut self, limits: &SessionLimits, negotiated: bool) -> &mut [u8] {
        match self.header() {
            Some(header) if limits.accept(&header, negotiated).is_err() => &mut [],
            Some(header) => {
                let ready = self.head(limits, negotiated) != Head::Incomplete;
                if ready && self.fds.waiting() >= MAX_WAITING_FDS {
                    return &mut [];
                }
                self.room(header.size as usize)
            }
            None => self.room(0),
        }
    }

    /// Takes note of `count` bytes that were put into [`spare`](Self::spare), and of what came with them.
    ///
    /// # Panics
    /// If that is more than there was room for.
    pub(super) fn received(&mut self, count: usize, fds: impl IntoIterator<Item = Received>) {
        assert!(count <= self.buf.len() - self.end, "more bytes than there was room for");
        let from = self.consumed + (self.end - self.start) as u64;
        self.end += count;
        self.fds.received(from, count as u64, fds);
        self.fds.settle(&self.buf[self.start..self.end], self.consumed);
    }

    /// The header at the front, if all of it is there.
    fn header(&self) -> Option<Header> {
        Header::parse(&self.buf[self.start..self.end])
    }

    /// What is at the front.
    pub(super) fn head(&self, limits: &SessionLimits, negotiated: bool) -> Head {
        let Some(header) = self.header() else { return Head::Incomplete };
        let size = header.size as usize;
        if size <= self.end - self.start {
            if self.fds.undecided(&self.buf[self.start..self.end], self.consumed) {
                return Head::Incomplete;
            }
            return Head::Message(header);
        }
        match limits.accept(&header, negotiated) {
            Ok(_) => Head::Incomplete,
            Err(_) => Head::Message(header),
        }
    }

    /// The header and the fixed part of the write at the front, if it is one that is not complete but acceptable.
    pub(super) fn unfinished_write(&self, limits: &SessionLimits) -> Option<(Header, [u8; FIXED])> {
        let header = self.header().filter(|header| header.command == command::REGION_WRITE)?;
        let there = &self.buf[self.start..self.end];
        let fixed = there.get(HEADER..HEADER + FIXED)?.try_into().ok()?;
        let acceptable = limits.accept(&header, true) == Ok(Kind::Command);
        (acceptable && there.len() < header.size as usize).then_some((header, fixed))
    }

    /// The message at the front, `size` bytes long, is taken in pieces, without its first `taken` bytes. What is at the front
    /// is no message until [`consume`](Self::consume) has passed its end.
    pub(super) fn open(&mut self, size: usize, taken: usize) {
        self.fds.skip_to(self.consumed + size as u64);
        self.consume(taken);
    }

    /// What is at the front, `most` bytes of it.
    pub(super) fn front(&self, most: usize) -> &[u8] {
        &self.buf[self.start..self.end.min(self.start.saturating_add(most))]
    }

    /// Where the next bytes of a message that is taken in pieces go: `wanted` at most, or a little more.
    pub(super) fn piece(&mut self, wanted: usize) -> &mut [u8] {
        self.room(wanted)
    }

    /// All of the message at the front, which is complete and `size` bytes long.
    pub(super) fn message(&self, size: usize) -> &[u8] {
        &self.buf[self.start..self.start + size]
    }

    /// The descriptors of the message at the front.
    pub(super) fn take_fds(&mut self) -> Vec<Received> {
        self.fds.take(self.consumed)
    }

    /// Moves on to the next message.
    pub(super) fn consume(&mut self, size: usize) {
        self.start += size;
        self.consumed += size as u64;
        if self.buf.len() > NORMAL {
            self.small = if size > NORMAL { 0 } else { self.small + 1 };
            if self.small >= PATIENCE && self.end - self.start <= NORMAL {
                self.shrink(NORMAL);
            }
        }
    }

    /// Whether it is larger than usual.
    pub(super) fn is_large(&self) -> bool {
        self.buf.len() > NORMAL
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Whether bytes have come that make no message yet.
    pub(super) fn is_partial(&self, limits: &SessionLimits, negotiated: bool) -> bool {
        self.start < self.end && self.head(limits, negotiated) == Head::Incomplete
    }

    /// Gives back what is not needed for what is there now.
    pub(super) fn trim(&mut self) {
        self.shrink(0);
        self.fds.trim();
    }

    /// Gives back all but `most` bytes, if that suffices for what is there.
    fn shrink(&mut self, most: usize) {
        let waiting = self.end - self.start;
        let size = waiting.max(most);
        if size < self.buf.len() {
            let mut buf = vec![0; size];
            buf[..waiting].copy_from_slice(&self.buf[self.start..self.end]);
            self.buf = buf;
            (self.start, self.end) = (0, waiting);
        }
        self.small = 0;
    }

    /// Bytes of memory, and descriptors, that it holds.
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.buf.capacity(), self.fds.waiting())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::header::command;

    struct Feed {
        inbox: Inbox,
        limits: SessionLimits,
    }

    impl Feed {
        fn new() -> Self {
            Self { inbox: Inbox::default(), limits: SessionLimits::default() }
        }

        fn room(&mut self) -> usize {
            self.inbox.spare(&self.limits, true).len()
        }

        fn put(&mut self, bytes: &[u8]) {
            self.inbox.spare(&self.limits, true)[..bytes.len()].copy_from_slice(bytes);
            self.inbox.received(bytes.len(), []);
        }

        fn head(&self) -> Head {
            self.inbox.head(&self.limits, true)
        }
    }

    fn header(size: u32) -> Header {
        Header::command(1, command::REGION_WRITE, size)
    }

    #[test]
    fn a_large_message_gets_exactly_what_it_lacks_once_its_header_is_there() {
        let mut feed = Feed::new();
        assert_eq!(feed.room(), NORMAL);
        let bytes = header(1 << 20).to_bytes();
        feed.put(&bytes[..15]);
        assert_eq!(feed.room(), NORMAL - 15);
        feed.put(&bytes[15..]);
        assert_eq!((feed.head(), feed.room()), (Head::Incomplete, (1 << 20) - 16));
        feed.put(&[7; 1000]);
        assert_eq!(feed.room(), (1 << 20) - 1016);
        let rest = vec![7; (1 << 20) - 1016];
        feed.put(&rest);
        assert_eq!(feed.room(), 0);
        assert_eq!(feed.head(), Head::Message(header(1 << 20)));
        assert!(feed.inbox.message(1 << 20)[16..].iter().all(|byte| *byte == 7));
        feed.inbox.consume(1 << 20);
        assert_eq!(feed.room(), NORMAL, "no more is read at once than usual");
    }

    #[test]
    fn a_large_message_behind_another_is_moved_before_its_body_comes() {
        let mut feed = Feed::new();
        feed.put(&header(1 << 20).to_bytes());
        let rest = vec![0; (1 << 20) - 16];
        feed.put(&rest);
        feed.inbox.consume(1 << 20);
        feed.put(&[header(16).to_bytes(), header(1 << 20).to_bytes()].concat());
        feed.inbox.consume(16);
        assert_eq!(feed.room(), (1 << 20) - 16);
    }

    #[test]
    fn memory_of_large_messages_is_given_back() {
        let mut feed = Feed::new();
        feed.put(&header(1 << 20).to_bytes());
        let rest = vec![0; (1 << 20) - 16];
        feed.put(&rest);
        feed.inbox.consume(1 << 20);
        for _ in 0..PATIENCE {
            assert!(feed.inbox.holds().0 >= 1 << 20);
            feed.put(&header(16).to_bytes());
            feed.inbox.consume(16);
        }
        assert_eq!(feed.inbox.holds().0, NORMAL);
        feed.put(&[1; 5]);
        feed.inbox.trim();
        assert_eq!(feed.inbox.holds().0, 5);
        assert_eq!(feed.room(), NORMAL - 5);
    }

    #[test]
    fn nothing_is_allocated_for_what_is_not_accepted() {
        for bad in [header(15), header(u32::MAX), Header { flags: 3, ..header(1 << 20) }] {
            let mut feed = Feed::new();
            feed.put(&bad.to_bytes());
            assert_eq!((feed.head(), feed.room()), (Head::Message(bad), 0));
            assert_eq!(feed.inbox.holds().0, NORMAL);
        }
    }

    #[test]
    fn many_small_messages_go_through_one_buffer() {
        let mut feed = Feed::new();
        let message = [&header(36).to_bytes()[..], &[5; 20]].concat();
        let stream: Vec<u8> = message.iter().copied().cycle().take(36 * 20_000).collect();
        let (mut at, mut count) = (0, 0);
        while count < 20_000 {
            let piece = feed.room().min(1009).min(stream.len() - at);
            feed.put(&stream[at..at + piece]);
            at += piece;
            // Lags behind, so that the buffer fills up.
            for _ in 0..if feed.room() > 2000 { 1 } else { 1000 } {
                if let Head::Message(header) = feed.head() {
                    assert_eq!(feed.inbox.message(36), message);
                    feed.inbox.consume(header.size as usize);
                    count += 1;
                }
            }
        }
        assert_eq!(feed.inbox.holds().0, NORMAL);
        assert!(!feed.inbox.is_partial(&feed.limits, true));
    }
}
