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
        let slot = header.id & (SLOTS as u16 - 1);
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
