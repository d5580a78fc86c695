//! DMA with a completion: of any memory, in as many steps as its parts and the client's limits ask for.
//!
//! A transfer is checked as a whole before it starts. Its local parts are copied at once; for each other part a command
//! goes to the client, one at a time, and the transfer waits in [`Transfers`] for the reply. Whatever ends the use of a
//! range (an unmap, a hang-up, a reset, a deadline) ends the transfers that touch it; a reply that comes after that is
//! nobody's.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::dma::{DmaError, DmaTable};
use crate::protocol::DmaUnmap;
use crate::{DmaDone, Errno};

/// Sends DMA commands to the client; [`Session`](crate::protocol::Session) does.
pub(crate) trait Messenger {
    /// `None`: no more for now.
    fn dma_read(&mut self, address: u64, count: u64) -> Option<u16>;
    fn dma_write(&mut self, address: u64, data: &[u8]) -> Option<u16>;
    fn abandon(&mut self, id: u16);
    /// The most bytes of one command.
    fn largest(&self) -> usize;
}

/// A command that the client has not answered yet.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    id: u16,
    length: usize,
}

#[derive(Debug)]
struct Transfer {
    tag: u64,
    write: bool,
    iova: u64,
    buffer: Vec<u8>,
    done: usize,
    waiting: Option<InFlight>,
    /// By when the client has to have answered, or to have taken enough for a command to be sent.
    deadline: Option<Instant>,
}

impl Transfer {
    fn overlaps(&self, unmap: DmaUnmap) -> bool {
        match unmap {
            DmaUnmap::All => true,
            DmaUnmap::Range { iova, size } => {
                let end = self.iova.saturating_add(self.buffer.len() as u64);
                self.iova < iova.saturating_add(size) && iova < end
            }
        }
    }

    fn end(self, result: Result<(), DmaError>) -> DmaDone {
        DmaDone { tag: self.tag, result, buffer: self.buffer }
    }
}

/// The transfers of one device.
#[derive(Debug, Default)]
pub(crate) struct Transfers {
    /// Those that wait for the client.
    active: Vec<Transfer>,
    /// Those that have ended and are to be told.
    ended: VecDeque<DmaDone>,
    /// Commands whose transfers have ended.
    abandoned: Vec<u16>,
    /// Something may be sent.
    ready: bool,
}

impl Transfers {
    /// Starts a transfer: does it, if all of its memory is local.
    pub(crate) fn start(&mut self, dma: &DmaTable, write: bool, iova: u64, mut buffer: Vec<u8>, tag: u64) {
        let result = if write { dma.write(iova, &buffer) } else { dma.read(iova, &mut buffer) };
        match result {
            Err(DmaError::NotLocal) => {
                self.active.push(Transfer {
                    tag,
                    write,
                    iova,
                    buffer,
                    done: 0,
                    waiting: None,
                    deadline: None,
                });
                self.ready = true;
            }
            result => self.ended.push_back(DmaDone { tag, result, buffer }),
        }
    }

    /// Whether [`pump`](Self::pump) has something to do.
    pub(crate) fn wants_pump(&self) -> bool {
        self.ready || !self.abandoned.is_empty()
    }

    /// Copies what is local and sends what is not.
    pub(crate) fn pump(&mut self, dma: &DmaTable, messenger: &mut dyn Messenger, deadline: Instant) {
        self.ready = false;
        for id in self.abandoned.drain(..) {
            messenger.abandon(id);
        }
        let mut index = 0;
        while index < self.active.len() {
            let transfer = &mut self.active[index];
            if transfer.waiting.is_some() {
                index += 1;
                continue;
            }
            match advance(transfer, dma, messenger, deadline) {
                Ok(true) => {
                    // If nothing could be sent now, then once the client has taken something or answered.
                    self.ready |= transfer.waiting.is_none();
                    index += 1;
                }
                Ok(false) => self.finish(index, Ok(())),
                Err(error) => self.finish(index, Err(error)),
            }
        }
    }

    /// The client has answered.
    pub(crate) fn reply(&mut self, id: u16, result: Result<&[u8], Errno>) {
        let Some(index) = self.find(id) else { return };
        let transfer = &mut self.active[index];
        let Some(waiting) = transfer.waiting.take() else { return };
        transfer.deadline = None;
        match result {
            Err(error) => self.finish(index, Err(DmaError::Client(error))),
            Ok(data) => {
                let part = transfer.done..transfer.done + waiting.length;
                if !transfer.write {
                    match transfer.buffer.get_mut(part.clone()) {
                        Some(place) if place.len() == data.len() => place.copy_from_slice(data),
                        _ => return self.finish(index, Err(DmaError::Client(Errno::PROTO))),
                    }
                }
                transfer.done = part.end;
                if transfer.done == transfer.buffer.len() {
                    self.finish(index, Ok(()));
                } else {
                    self.ready = true;
                }
            }
        }
    }

    /// Ends those that touch a range that has gone.
    pub(crate) fn unmapped(&mut self, unmap: DmaUnmap) {
        self.end_if(DmaError::Unmapped, |transfer| transfer.overlaps(unmap));
    }

    /// Ends those whose client has not answered in time.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.end_if(DmaError::TimedOut, |transfer| transfer.deadline.is_some_and(|deadline| deadline <= now));
    }

    /// When [`expire`](Self::expire) will have something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.active.iter().filter_map(|transfer| transfer.deadline).min()
    }

    /// Forgets all of them; nothing is told of them.
    pub(crate) fn cancel(&mut self) {
        for transfer in self.active.drain(..) {
            self.abandoned.extend(transfer.waiting.map(|waiting| waiting.id));
        }
        self.ended.clear();
        self.ready = false;
    }

    /// Forgets the commands of a connection that is no more.
    pub(crate) fn forget_commands(&mut self) {
        self.abandoned.clear();
    }

    /// Whether there are some to be told of.
    pub(crate) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes one that has ended.
    pub(crate) fn take_ended(&mut self) -> Option<DmaDone> {
        self.ended.pop_front()
    }

    fn find(&self, id: u16) -> Option<usize> {
        self.active.iter().position(|transfer| transfer.waiting.is_some_and(|waiting| waiting.id == id))
    }

    fn finish(&mut self, index: usize, result: Result<(), DmaError>) {
        self.ended.push_back(self.active.remove(index).end(result));
    }

    fn end_if(&mut self, error: DmaError, matches: impl Fn(&Transfer) -> bool) {
        let mut index = 0;
        while index < self.active.len() {
            if matches(&self.active[index]) {
                self.abandoned.extend(self.active[index].waiting.map(|waiting| waiting.id));
                self.finish(index, Err(error));
            } else {
                index += 1;
            }
        }
    }
}

/// Does what can be done of a transfer now. `false` once all of it is done.
fn advance(
    transfer: &mut Transfer,
    dma: &DmaTable,
    messenger: &mut dyn Messenger,
    deadline: Instant,
) -> Result<bool, DmaError> {
    loop {
        let left = transfer.buffer.len() - transfer.done;
        if left == 0 {
            return Ok(false);
        }
        let iova = transfer.iova + transfer.done as u64;
        let mut segments = dma.segments(iova, left as u64, transfer.write)?;
        let segment = segments.next().ok_or(DmaError::Unmapped)?;
        let length = usize::try_from(segment.len).map_or(left, |length| length.min(left));
        if segment.local {
            let part = &mut transfer.buffer[transfer.done..][..length];
            if transfer.write {
                dma.write(iova, part)?
            } else {
                dma.read(iova, part)?
            }
            transfer.done += length;
            continue;
        }
        let length = length.min(messenger.largest());
        let id = if transfer.write {
            messenger.dma_write(iova, &transfer.buffer[transfer.done..][..length])
        } else {
            messenger.dma_read(iova, length as u64)
        };
        transfer.waiting = id.map(|id| InFlight { id, length });
        transfer.deadline.get_or_insert(deadline);
        return Ok(true);
    }
}

/// The deadline of a command that is sent now.
pub(crate) fn deadline(now: Instant, patience: Duration) -> Instant {
    now.checked_add(patience).unwrap_or(now)
}
