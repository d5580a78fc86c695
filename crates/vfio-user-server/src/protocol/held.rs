//! Commands set aside, so that the replies behind them in the stream are reached.
//!
//! A command that must wait (for a deferred access, or until output has gone) may wait for something that needs the
//! client's replies to our own commands. Those come in the same stream.

use std::collections::VecDeque;

use fd_closer::Received;

use super::header::Header;

/// While commands are set aside with so many descriptors, no more are.
const MAX_FDS: usize = 64;
/// Memory that is kept when there is nothing in it.
const NORMAL: usize = 64 * 1024;

/// Complete commands, in their order.
#[derive(Debug, Default)]
pub(super) struct Held {
    bytes: Vec<u8>,
    start: usize,
    /// Descriptors of commands, by how many commands came before.
    fds: VecDeque<(u64, Vec<Received>)>,
    /// Commands that were put in and taken out.
    put: u64,
    taken: u64,
}

impl Held {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// Whether a command still fits: any does that comes before there are `limit` bytes.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.bytes.len() - self.start < limit && self.waiting_fds() < MAX_FDS
    }

    /// Sets a command aside.
    pub(super) fn put(&mut self, message: &[u8], fds: Vec<Received>) {
        if self.start > self.bytes.len() / 2 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(message);
        if !fds.is_empty() {
            self.fds.push_back((self.put, fds));
        }
        self.put += 1;
    }

    /// The first command.
    pub(super) fn first(&self) -> Option<Header> {
        Header::parse(&self.bytes[self.start..])
    }

    /// All of the first command, which is `size` bytes long.
    pub(super) fn message(&self, size: usize) -> &[u8] {
        &self.bytes[self.start..self.start + size]
    }

    /// The descriptors of the first command.
    pub(super) fn take_fds(&mut self) -> Vec<Received> {
        let first = self.fds.front().is_some_and(|(place, _)| *place == self.taken);
        if first { self.fds.pop_front().map(|(_, fds)| fds).unwrap_or_default() } else { Vec::new() }
    }

    /// Moves on to the next command.
    pub(super) fn consume(&mut self, size: usize) {
        self.start += size;
        self.taken += 1;
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
            self.bytes.shrink_to(NORMAL);
        }
    }

    /// Gives back what is not needed for what is there now.
    pub(super) fn trim(&mut self) {
        self.bytes.shrink_to_fit();
        self.fds.shrink_to_fit();
    }

    fn waiting_fds(&self) -> usize {
        self.fds.iter().map(|(_, fds)| fds.len()).sum()
    }

    /// Bytes of memory, and descriptors, that it holds.
    pub(super) fn holds(&self) -> (usize, usize) {
        (self.bytes.capacity(), self.waiting_fds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn message(id: u16, size: u32) -> Vec<u8> {
        let mut message = Header::command(id, 1, size).to_bytes().to_vec();
        message.resize(size as usize, 7);
        message
    }

    fn fds(count: usize) -> Vec<Received> {
        (0..count).map(|_| Received::from(eventfd(0, EventfdFlags::CLOEXEC).unwrap())).collect()
    }

    #[test]
    fn commands_come_out_in_order_with_their_descriptors() {
        let mut held = Held::default();
        let size = |id: u16| 16 + u32::from(id % 7) * 10;
        let mut out = 0;
        for id in 0..300 {
            held.put(&message(id, size(id)), fds(usize::from(id % 3)));
            // Falls behind for a while, then catches up.
            for _ in 0..if id < 100 { id % 2 } else { 2 } {
                let Some(first) = held.first() else { break };
                assert_eq!(first.id, out);
                assert_eq!(held.message(size(out) as usize), message(out, size(out)));
                assert_eq!(held.take_fds().len(), usize::from(out % 3));
                held.consume(size(out) as usize);
                out += 1;
            }
        }
        assert!(held.is_empty() && out == 300);
        assert_eq!(held.holds().1, 0);
    }

    #[test]
    fn room_is_bounded_but_one_command_of_any_size_fits() {
        let mut held = Held::default();
        assert!(held.has_room(1000));
        held.put(&message(1, 1 << 20), Vec::new());
        assert!(!held.has_room(1000));
        held.consume(1 << 20);
        assert!(held.has_room(1000) && held.holds().0 <= NORMAL);
        for _ in 0..4 {
            held.put(&message(1, 16), fds(16));
        }
        assert!(!held.has_room(1000), "descriptors count as well");
    }
}
