//! Bytes and descriptors on their way out of one socket.
//!
//! Replies are made in place. Descriptors go with the first byte of their message, which therefore starts a piece of its
//! own. Memory that a burst needed is kept while bursts keep coming, and given back after a row of smaller ones, or by
//! [`Outbox::trim`].

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::header::{HEADER, Header};

/// Memory that is never given back while the session is busy.
const NORMAL: usize = 64 * 1024;
/// After the output was drained so often without needing more, the rest is given back.
const PATIENCE: u32 = 64;

/// What is to be sent next.
#[derive(Debug)]
#[non_exhaustive]
pub struct Output<'a> {
    /// Bytes up to the next message that has descriptors; empty if there is nothing to send.
    pub bytes: &'a [u8],
    /// They go with the first byte. At most [`MAX_MESSAGE_FDS`](super::MAX_MESSAGE_FDS).
    pub fds: Vec<BorrowedFd<'a>>,
}

/// Output of one socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    buf: Vec<u8>,
    /// Sent up to here.
    start: usize,
    /// Bytes sent before those in the buffer: the place in the stream of `buf[0]`.
    dropped: u64,
    /// Messages with descriptors, by where they start.
    fds: VecDeque<(u64, Vec<OwnedFd>)>,
    /// The largest size since the output was last drained.
    peak: usize,
    /// How often in a row it was drained with a small peak.
    small: u32,
}

impl Outbox {
    /// Bytes that wait.
    pub(super) fn waiting(&self) -> usize {
        self.buf.len() - self.start
    }

    /// Whether it is larger than usual.
    pub(super) fn is_large(&self) -> bool {
        self.buf.capacity() > NORMAL
    }

    /// Descriptors that wait.
    pub(super) fn waiting_fds(&self) -> usize {
        self.fds.iter().map(|(_, fds)| fds.len()).sum()
    }

    /// Adds `count` zeroes to be filled in: see [`slot`](Self::slot). Returns where they are.
    pub(super) fn reserve(&mut self, count: usize) -> usize {
        if self.start > NORMAL && self.start > self.buf.len() / 2 {
            self.buf.copy_within(self.start.., 0);
            self.buf.truncate(self.buf.len() - self.start);
            self.dropped += self.start as u64;
            self.start = 0;
        }
        let at = self.buf.len();
        self.buf.resize(at + count, 0);
        self.peak = self.peak.max(self.buf.len());
        at
    }

    /// All from what [`reserve`](Self::reserve) has returned on.
    pub(super) fn slot(&mut self, at: usize) -> &mut [u8] {
        &mut self.buf[at..]
    }

    /// Takes back what was reserved last.
    pub(super) fn take_back(&mut self, at: usize) {
        self.buf.truncate(at);
        self.settle();
    }

    /// Adds a message: `header` says how long it is, `parts` are its payload.
    pub(super) fn push(&mut self, header: Header, parts: &[&[u8]], fds: Vec<OwnedFd>) {
        debug_assert_eq!(header.size as usize, HEADER + parts.iter().map(|part| part.len()).sum::<usize>());
        let at = self.reserve(0);
        if !fds.is_empty() {
            self.fds.push_back((self.dropped + at as u64, fds));
        }
        self.buf.extend_from_slice(&header.to_bytes());
        for part in parts {
            self.buf.extend_from_slice(part);
        }
        self.peak = self.peak.max(self.buf.len());
    }

    /// What is to be sent next.
    pub(super) fn output(&self) -> Output<'_> {
        let here = self.dropped + self.start as u64;
        let index = |place: u64| usize::try_from(place - self.dropped).unwrap_or(usize::MAX);
        let mut fds = Vec::new();
        let mut marks = self.fds.iter();
        let mut next = marks.next();
        if let Some((place, owned)) = next
            && *place == here
        {
            fds.extend(owned.iter().map(AsFd::as_fd));
            next = marks.next();
        }
        let end = next.map_or(self.buf.len(), |(place, _)| index(*place));
        Output { bytes: &self.buf[self.start..end], fds }
    }

    /// `count` bytes of [`output`](Self::output) have been sent, and with the first of them its descriptors.
    ///
    /// # Panics
    /// If there were not so many.
    pub(super) fn sent(&mut self, count: usize) {
        assert!(count <= self.waiting(), "more was sent than there was");
        self.start += count;
        let here = self.dropped + self.start as u64;
        while self.fds.front().is_some_and(|(place, _)| *place < here) {
            self.fds.pop_front();
        }
        self.settle();
    }

    /// Starts afresh if everything is sent.
    fn settle(&mut self) {
        if self.start < self.buf.len() || self.start == 0 {
            return;
        }
        self.dropped += self.start as u64;
        self.start = 0;
        self.buf.clear();
        if self.buf.capacity() > NORMAL {
            self.small = if self.peak > NORMAL { 0 } else { self.small + 1 };
            if self.small >= PATIENCE {
                self.buf.shrink_to(NORMAL);
                self.small = 0;
            }
        }
        self.peak = 0;
    }

    /// Gives back what is not needed for what is there now.
    pub(super) fn trim(&mut self) {
        self.buf.shrink_to_fit();
        self.fds.shrink_to_fit();
        self.small = 0;
    }

    /// Bytes of memory, and descriptors, that it holds.
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.buf.capacity(), self.fds.iter().map(|(_, fds)| fds.len()).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn message(outbox: &mut Outbox, id: u16, payload: &[u8], fds: usize) {
        let size = u32::try_from(HEADER + payload.len()).unwrap();
        let fds = (0..fds).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap()).collect();
        outbox.push(Header::command(id, 1, size), &[payload], fds);
    }

    #[test]
    fn descriptors_start_a_piece_of_their_own() {
        let mut outbox = Outbox::default();
        message(&mut outbox, 1, &[1; 4], 0);
        message(&mut outbox, 2, &[2; 4], 2);
        message(&mut outbox, 3, &[3; 4], 0);
        message(&mut outbox, 4, &[4; 4], 1);
        let look = |outbox: &Outbox| (outbox.output().bytes.len(), outbox.output().fds.len());
        assert_eq!(look(&outbox), (20, 0));
        outbox.sent(19);
        assert_eq!(look(&outbox), (1, 0));
        outbox.sent(1);
        assert_eq!(look(&outbox), (40, 2));
        // With the first byte the descriptors have gone.
        outbox.sent(1);
        assert_eq!(look(&outbox), (39, 0));
        outbox.sent(39);
        assert_eq!(look(&outbox), (20, 1));
        outbox.sent(20);
        assert_eq!(look(&outbox), (0, 0));
        assert_eq!(outbox.holds().1, 0);
    }

    #[test]
    fn descriptors_keep_their_places_when_what_was_sent_is_dropped() {
        let mut outbox = Outbox::default();
        message(&mut outbox, 1, &vec![1; 3 * NORMAL], 0);
        message(&mut outbox, 2, &[2; 4], 1);
        outbox.sent(3 * NORMAL);
        message(&mut outbox, 3, &[3; 4], 2);
        assert!(outbox.dropped > 0);
        let pieces: Vec<_> = std::iter::from_fn(|| {
            let piece = (outbox.output().bytes.len(), outbox.output().fds.len());
            outbox.sent(piece.0);
            (piece.0 > 0).then_some(piece)
        })
        .collect();
        assert_eq!(pieces, [(16, 0), (20, 1), (20, 2)]);
    }

    #[test]
    fn what_is_reserved_is_zeroed_and_can_be_taken_back() {
        let mut outbox = Outbox::default();
        let at = outbox.reserve(8);
        outbox.slot(at).fill(0xff);
        outbox.take_back(at);
        let at = outbox.reserve(8);
        assert_eq!(outbox.slot(at), [0; 8]);
        outbox.sent(4);
        let next = outbox.reserve(8);
        outbox.take_back(next);
        assert_eq!(outbox.output().bytes, [0; 4]);
    }

    #[test]
    fn a_reader_that_never_catches_up_costs_no_more_than_what_waits() {
        let mut outbox = Outbox::default();
        message(&mut outbox, 0, &[0; 100], 0);
        let mut fds = 0;
        for id in 0..10_000_u16 {
            message(&mut outbox, id, &id.to_ne_bytes().repeat(50), usize::from(id % 1000 == 0));
            let count = outbox.output().bytes.len().min(116);
            fds += outbox.output().fds.len();
            outbox.sent(count);
        }
        assert!(outbox.waiting() <= 116 * 12, "{}", outbox.waiting());
        assert!(outbox.holds().0 <= 4 * NORMAL);
        assert_eq!(fds, 10);
    }

    #[test]
    fn memory_of_a_burst_is_given_back() {
        let mut outbox = Outbox::default();
        for _ in 0..3 {
            let at = outbox.reserve(1 << 20);
            assert!(outbox.slot(at).len() == 1 << 20);
            outbox.sent(1 << 20);
        }
        assert!(outbox.holds().0 >= 1 << 20, "bursts that follow need not allocate");
        for id in 0..64 {
            message(&mut outbox, id, &[], 0);
            outbox.sent(HEADER);
        }
        assert!(outbox.holds().0 <= NORMAL);
        outbox.trim();
        assert_eq!(outbox.holds().0, 0);
    }
}
