//! Which message the received descriptors belong to.
//!
//! A read returns what earlier writes without descriptors left, then the write that carries some, and stops there. So the
//! descriptors of a read belong to the last message that starts in its bytes, of those that can take any: `DMA_MAP`, and
//! `DEVICE_SET_IRQS` whose data are eventfds. Which one that is may only be known once more bytes have come: until then
//! such messages wait. What nobody can take is closed.
//!
//! Places are counted in bytes from the start of the stream.

use std::collections::VecDeque;

use fd_closer::Received;

use super::header::{HEADER, Header, Kind, command, u32_at};
use super::limits::MAX_MESSAGE_FDS;

/// `DEVICE_SET_IRQS`: descriptors come with it.
const DATA_EVENTFD: u32 = 1 << 2;

/// The descriptors of one read.
#[derive(Debug)]
struct Batch {
    /// The bytes that came with them.
    from: u64,
    to: u64,
    /// The last message found so far that can take them.
    taker: Option<u64>,
    fds: Vec<Received>,
}

/// Descriptors on their way to their messages.
#[derive(Debug, Default)]
pub(super) struct Descriptors {
    /// Whose message is not known yet, in the order of their bytes.
    batches: VecDeque<Batch>,
    /// Whose message is known, by where it starts, in that order.
    assigned: VecDeque<(u64, Vec<Received>)>,
    /// Where the next message starts that was not looked at. Kept only while there are batches.
    scan: u64,
}

/// What the front of a message says about descriptors.
enum Look {
    /// Too few bytes.
    Unknown,
    /// Nothing after it can be trusted.
    Broken,
    /// Where the next message starts, and whether this one can take any.
    Message { size: u64, takes: bool },
}

impl Descriptors {
    /// Takes those that came with `count` bytes at `from`. More than can belong to a message are closed but for one, which
    /// gives the excess away.
    pub(super) fn received(&mut self, from: u64, count: u64, fds: impl IntoIterator<Item = Received>) {
        let mut fds = fds.into_iter();
        if let Some(first) = fds.next() {
            let mut batch = vec![first];
            batch.extend(fds.by_ref().take(MAX_MESSAGE_FDS));
            fds.for_each(drop);
            self.batches.push_back(Batch { from, to: from + count, taker: None, fds: batch });
        }
    }

    /// Gives batches to their messages as far as `bytes`, which start at `start`, show them.
    pub(super) fn settle(&mut self, bytes: &[u8], start: u64) {
        if self.batches.is_empty() {
            return;
        }
        self.scan = self.scan.max(start);
        let mut broken = false;
        loop {
            while let Some(batch) = pop_if(&mut self.batches, |batch| broken || batch.to <= self.scan) {
                if let Some(taker) = batch.taker {
                    self.assigned.push_back((taker, batch.fds));
                }
            }
            let Some(batch) = self.batches.front_mut() else { return };
            // `scan` may be past what was received: then a message is not complete, and there is nothing to look at.
            let ahead = usize::try_from(self.scan - start).unwrap_or(usize::MAX);
            match look(bytes.get(ahead..).unwrap_or_default()) {
                Look::Unknown => return,
                Look::Broken => broken = true,
                Look::Message { size, takes } => {
                    if takes && batch.from <= self.scan {
                        batch.taker = Some(self.scan);
                    }
                    self.scan += size;
                }
            }
        }
    }

    /// The next message starts at `start`: what comes before is the rest of one that was looked at.
    pub(super) fn skip_to(&mut self, start: u64) {
        self.scan = self.scan.max(start);
    }

    /// Whether the complete message at `start`, whose bytes come first in `bytes`, may yet be given some.
    pub(super) fn undecided(&self, bytes: &[u8], start: u64) -> bool {
        self.batches.front().is_some_and(|batch| batch.from <= start)
            && matches!(look(bytes), Look::Message { takes: true, .. })
    }

    /// Those of the message at `start`. To be called for each command, since whoever is given some is one.
    pub(super) fn take(&mut self, start: u64) -> Vec<Received> {
        pop_if(&mut self.assigned, |(taker, _)| *taker == start).map(|(_, fds)| fds).unwrap_or_default()
    }

    /// How many there are.
    pub(super) fn waiting(&self) -> usize {
        let batches = self.batches.iter().map(|batch| batch.fds.len());
        batches.chain(self.assigned.iter().map(|(_, fds)| fds.len())).sum()
    }

    /// Gives memory back.
    pub(super) fn trim(&mut self) {
        self.batches.shrink_to_fit();
        self.assigned.shrink_to_fit();
    }
}

/// Looks at the message that starts with `bytes`.
fn look(bytes: &[u8]) -> Look {
    let Some(header) = Header::parse(bytes) else { return Look::Unknown };
    let Some(kind) = header.kind() else { return Look::Broken };
    let size = header.size as usize;
    if size < HEADER {
        return Look::Broken;
    }
    let takes = match (kind, header.command) {
        (Kind::Command, command::DMA_MAP) => true,
        (Kind::Command, command::DEVICE_SET_IRQS) if size >= HEADER + 8 => {
            if bytes.len() < HEADER + 8 {
                return Look::Unknown;
            }
            u32_at(bytes, HEADER + 4) & DATA_EVENTFD != 0
        }
        _ => false,
    };
    Look::Message { size: u64::from(header.size), takes }
}

/// Takes the first if `condition` holds for it.
fn pop_if<T>(queue: &mut VecDeque<T>, condition: impl FnOnce(&T) -> bool) -> Option<T> {
    if queue.front().is_some_and(condition) { queue.pop_front() } else { None }
}
