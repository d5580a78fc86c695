//! Commands of ours that wait for their replies.
//!
//! An id is a slot and a count that changes with each use of the slot, so that a late reply is not taken for that of a
//! newer command. Abandoned commands keep their slots until their replies come.

use rustix::io::Errno;

use super::header::{Header, command, u32_at, u64_at};

/// Bits of an id that are the slot.
const SLOT_BITS: u32 = 10;
const SLOTS: usize = 1 << SLOT_BITS;

#[derive(Debug, Clone, Copy)]
struct Command {
    id: u16,
    command: u16,
    count: u64,
    abandoned: bool,
}

#[derive(Debug, Default)]
pub(super) struct Pending {
    slots: Vec<Option<Command>>,
    /// Slots that are free, besides those that were never used.
    free: Vec<u16>,
    /// What the id of the next use of any slot has in its upper bits.
    uses: u16,
    /// Those that somebody waits for.
    live: usize,
}

impl Pending {
    /// Makes an id for a command of ours; `None` if there are `limit` already.
    pub(super) fn insert(&mut self, command: u16, count: u64, limit: usize) -> Option<u16> {
        if self.slots.len() - self.free.len() >= limit.min(SLOTS) {
            return None;
        }
        let slot = self.free.pop().or_else(|| {
            self.slots.push(None);
            u16::try_from(self.slots.len() - 1).ok()
        })?;
        self.uses = self.uses.wrapping_add(1);
        let id = self.uses << SLOT_BITS | slot;
        self.slots[usize::from(slot)] = Some(Command { id, command, count, abandoned: false });
        self.live += 1;
        Some(id)
    }

    /// Nobody waits for it any more.
    pub(super) fn abandon(&mut self, id: u16) {
        if let Some(command) = self.find(id)
            && !command.abandoned
        {
            command.abandoned = true;
            self.live -= 1;
        }
    }

    /// Those that somebody waits for.
    pub(super) fn live(&self) -> usize {
        self.live
    }

    /// Ends the command that this is the reply to, and says how. `None` for a reply that nobody waits for.
    pub(super) fn reply<'a>(
        &mut self,
        header: &Header,
        payload: &'a [u8],
    ) -> Option<Result<&'a [u8], Errno>> {
        let command = *self.find(header.id)?;
        let slot = header.id & ((1 << SLOT_BITS) - 1);
        self.slots[usize::from(slot)] = None;
        self.free.push(slot);
        if command.abandoned {
            return None;
        }
        self.live -= 1;
        Some(outcome(&command, header, payload))
    }

    fn find(&mut self, id: u16) -> Option<&mut Command> {
        let slot = usize::from(id) & (SLOTS - 1);
        self.slots.get_mut(slot)?.as_mut().filter(|command| command.id == id)
    }
}

/// What a reply says. The data of a read is where the specification puts it; an older QEMU puts it 4 bytes earlier, which
/// the 64-bit count gives away. The reply of a write has no payload there, or its count is printed with 4 bytes.
fn outcome<'a>(command: &Command, header: &Header, payload: &'a [u8]) -> Result<&'a [u8], Errno> {
    if header.command != command.command {
        return Err(Errno::PROTO);
    }
    if header.is_error() {
        let errno = i32::try_from(header.error).ok().filter(|errno| (1..4096).contains(errno));
        return Err(errno.map_or(Errno::IO, Errno::from_raw_os_error));
    }
    let ok = match (command.command, payload.len()) {
        (command::DMA_READ, 16..) => {
            u64_at(payload, 8) == command.count && (payload.len() - 16) as u64 == command.count
        }
        (command::DMA_WRITE, 0) => true,
        (command::DMA_WRITE, 12) => u64::from(u32_at(payload, 8)) == command.count,
        (command::DMA_WRITE, 16) => u64_at(payload, 8) == command.count,
        _ => false,
    };
    if !ok {
        return Err(Errno::PROTO);
    }
    Ok(if command.command == command::DMA_READ { &payload[16..] } else { &[] })
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPLY: u32 = 1;
    const ERROR: u32 = 1 << 5;

    fn header(id: u16, command: u16, flags: u32, error: u32) -> Header {
        Header { id, command, size: 0, flags, error }
    }

    fn payload(count: u64, data: &[u8]) -> Vec<u8> {
        [&[0; 8], &count.to_ne_bytes()[..], data].concat()
    }

    fn read(payload: &[u8]) -> Option<Result<&[u8], Errno>> {
        let mut pending = Pending::default();
        let id = pending.insert(command::DMA_READ, 4, 1024).unwrap();
        pending.reply(&header(id, command::DMA_READ, REPLY, 0), payload)
    }

    fn write(payload: &[u8]) -> Option<Result<&[u8], Errno>> {
        let mut pending = Pending::default();
        let id = pending.insert(command::DMA_WRITE, 4, 1024).unwrap();
        pending.reply(&header(id, command::DMA_WRITE, REPLY, 0), payload)
    }

    #[test]
    fn the_data_of_a_read_must_be_what_was_asked_for() {
        assert_eq!(read(&payload(4, b"data")), Some(Ok(&b"data"[..])));
        for bad in [
            payload(3, b"dat"),
            payload(4, b"dat"),
            payload(4, b"data."),
            payload(5, b"data"),
            payload(4, b""),
            payload(4 | 1 << 32, b"data"),
            Vec::new(),
            vec![0; 15],
        ] {
            assert_eq!(read(&bad), Some(Err(Errno::PROTO)), "{bad:?}");
        }
        // The older layout: a 32-bit count, and the data where the other half of it is.
        let old = [&[0; 8][..], &4_u32.to_ne_bytes(), b"data", &[0; 4]].concat();
        assert_eq!(read(&old), Some(Err(Errno::PROTO)));
    }

    #[test]
    fn the_reply_of_a_write_comes_in_three_sizes() {
        for good in [vec![], payload(4, b""), payload(4, b"")[..12].to_vec()] {
            assert_eq!(write(&good), Some(Ok(&[][..])), "{good:?}");
        }
        for bad in [payload(3, b""), payload(3, b"")[..12].to_vec(), vec![0; 4], payload(4, b"data")] {
            assert_eq!(write(&bad), Some(Err(Errno::PROTO)), "{bad:?}");
        }
    }

    #[test]
    fn errors_come_through() {
        for (error, errno) in [(19, Errno::NODEV), (0, Errno::IO), (u32::MAX, Errno::IO), (4096, Errno::IO)] {
            let mut pending = Pending::default();
            let id = pending.insert(command::DMA_READ, 4, 1024).unwrap();
            let header = header(id, command::DMA_READ, REPLY | ERROR, error);
            assert_eq!(pending.reply(&header, &[]), Some(Err(errno)));
            assert_eq!(pending.reply(&header, &[]), None, "there is one reply to a command");
        }
    }

    #[test]
    fn a_reply_to_the_wrong_command_fails_it() {
        let mut pending = Pending::default();
        let id = pending.insert(command::DMA_READ, 4, 1024).unwrap();
        let header = header(id, command::DMA_WRITE, REPLY, 0);
        assert_eq!(pending.reply(&header, &payload(4, b"data")), Some(Err(Errno::PROTO)));
        assert_eq!(pending.live(), 0);
    }

    #[test]
    fn ids_are_unique_while_they_wait_and_late_replies_find_nothing() {
        let mut pending = Pending::default();
        let ids: Vec<u16> =
            (0..1024).map(|_| pending.insert(command::DMA_READ, 4, usize::MAX).unwrap()).collect();
        assert_eq!(ids.iter().collect::<std::collections::HashSet<_>>().len(), 1024);
        assert_eq!(pending.insert(command::DMA_READ, 4, usize::MAX), None);
        assert_eq!(pending.live(), 1024);
        let late = header(ids[7], command::DMA_READ, REPLY, 0);
        let data = payload(4, b"data");
        assert!(pending.reply(&late, &data).is_some());
        let next = pending.insert(command::DMA_READ, 4, usize::MAX).unwrap();
        assert!(!ids.contains(&next));
        assert_eq!(pending.reply(&late, &data), None);
        assert_eq!(pending.live(), 1024);
    }

    #[test]
    fn an_abandoned_command_keeps_its_id_until_its_reply_comes() {
        let mut pending = Pending::default();
        let id = pending.insert(command::DMA_WRITE, 4, 1).unwrap();
        pending.abandon(id);
        pending.abandon(id);
        pending.abandon(id ^ 1);
        assert_eq!(pending.live(), 0);
        assert_eq!(pending.insert(command::DMA_WRITE, 4, 1), None);
        assert_eq!(pending.reply(&header(id, command::DMA_WRITE, REPLY, 0), &[]), None);
        assert!(pending.insert(command::DMA_WRITE, 4, 1).is_some());
    }
}
