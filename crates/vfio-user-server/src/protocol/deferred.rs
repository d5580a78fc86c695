//! Accesses whose replies come later.
//!
//! A token is a slot and a number that is never used again: a stale one finds nothing.

use super::AccessToken;
use super::header::{Header, command};

/// Bits of a token that are the slot.
const SLOT_BITS: u32 = 8;
/// The most that can be deferred at once.
pub(super) const SLOTS: usize = 1 << SLOT_BITS;

/// What the reply of a deferred access needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deferred {
    pub(super) header: Header,
    pub(super) offset: u64,
    pub(super) region: u32,
    pub(super) count: u32,
}

impl Deferred {
    /// It is a read, else a write.
    pub(super) fn reads(&self) -> bool {
        self.header.command == command::REGION_READ
    }

    /// Bytes that it will add to the output.
    fn reserved(&self) -> usize {
        if self.reads() && !self.header.no_reply() { self.count as usize } else { 0 }
    }
}

/// The deferred accesses of a connection.
#[derive(Debug, Default)]
pub(super) struct DeferredTable {
    slots: Vec<Option<(AccessToken, Deferred)>>,
    free: Vec<u8>,
    /// The number of the next token.
    next: u64,
    /// Of them, those without a reply.
    unreplied: usize,
    /// Bytes that deferred reads will add to the output.
    bytes: usize,
}

impl DeferredTable {
    /// A token for an access that may be deferred. Valid if it is given to [`insert`](Self::insert) before the next is made.
    pub(super) fn token(&mut self) -> AccessToken {
        let slot = self.free.last().map_or(self.slots.len(), |slot| usize::from(*slot)) as u64;
        self.next += 1;
        AccessToken(self.next << SLOT_BITS | slot)
    }

    /// The number that the next token will be made of.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Goes on from another connection's numbers.
    pub(super) fn begin_at(&mut self, next: u64) {
        self.next = next;
    }

    /// Remembers an access. There must be room: [`len`](Self::len) below 256.
    pub(super) fn insert(&mut self, token: AccessToken, deferred: Deferred) {
        let slot = slot(token);
        if self.free.pop().is_none() {
            self.slots.push(None);
        }
        self.slots[slot] = Some((token, deferred));
        self.unreplied += usize::from(deferred.header.no_reply());
        self.bytes += deferred.reserved();
    }

    /// Takes an access out, if it is there.
    pub(super) fn take(&mut self, token: AccessToken) -> Option<Deferred> {
        let slot = slot(token);
        let (_, deferred) = self.slots.get_mut(slot)?.take_if(|(there, _)| *there == token)?;
        self.free.push(u8::try_from(slot).ok()?);
        self.unreplied -= usize::from(deferred.header.no_reply());
        self.bytes -= deferred.reserved();
        Some(deferred)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether one is there that has no reply, and so must be complete before any later command is answered.
    pub(super) fn orders(&self) -> bool {
        self.unreplied > 0
    }

    /// Bytes that deferred reads will add to the output.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

fn slot(token: AccessToken) -> usize {
    usize::from(token.0.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(command: u16, flags: u32, count: u32) -> Deferred {
        Deferred { header: Header { id: 1, command, size: 32, flags, error: 0 }, offset: 0, region: 0, count }
    }

    #[test]
    fn a_token_finds_its_access_once() {
        let mut table = DeferredTable::default();
        let tokens: Vec<AccessToken> = (0..256)
            .map(|count| {
                let token = table.token();
                table.insert(token, access(command::REGION_READ, 0, count));
                token
            })
            .collect();
        assert_eq!((table.len(), table.bytes(), table.orders()), (256, 255 * 128, false));
        for (count, token) in (0..256).zip(&tokens).rev() {
            assert_eq!(table.take(*token).map(|access| access.count), Some(count));
            assert!(table.take(*token).is_none());
        }
        assert_eq!((table.len(), table.bytes()), (0, 0));
        let token = table.token();
        table.insert(token, access(command::REGION_READ, 0, 7));
        assert!(tokens.iter().all(|stale| table.take(*stale).is_none()));
        assert!(table.take(token).is_some());
    }

    #[test]
    fn those_without_a_reply_order_what_comes_after() {
        let mut table = DeferredTable::default();
        let write = table.token();
        table.insert(write, access(command::REGION_WRITE, 0x10, 4));
        let read = table.token();
        table.insert(read, access(command::REGION_READ, 0x10, 4));
        assert_eq!(table.bytes(), 0, "nothing is to be sent");
        table.take(read);
        assert!(table.orders());
        table.take(write);
        assert!(!table.orders());
    }

    #[test]
    fn a_token_that_is_not_used_is_not_used_again() {
        let mut table = DeferredTable::default();
        assert_ne!(table.token(), table.token());
    }
}
