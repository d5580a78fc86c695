//! The handlers of one iothread, owned by its thread: a table by slot, so that an event finds its handler by index.
//!
//! An epoll registration carries a token of slot and generation. A slot's generation changes when its handler is
//! removed, so an event that was fetched before the removal finds nothing. A descriptor is taken out of the epoll
//! instance before it is dropped, because closing it does not do so while somebody else (a client, say) has it open.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io;

use crate::{Events, Interest, Scope};

/// The token of the iothread's own eventfd.
pub(crate) const WAKE: u64 = u64::MAX;
/// The token of a descriptor whose handler is still on its way to the thread.
const UNARMED: u64 = u64::MAX - 1;

/// A handler of one iothread. Ids are not used twice; an id means nothing to another iothread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(pub(crate) u64);

pub(crate) type HandlerFn = Box<dyn FnMut(Events, &mut Scope<'_>) + Send>;

/// A descriptor and what is called for it.
pub(crate) struct Handler {
    pub(crate) source: Box<dyn AsFd + Send>,
    pub(crate) interest: Interest,
    /// Away while it is being called.
    pub(crate) call: Option<HandlerFn>,
}

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler")
            .field("fd", &self.source.as_fd())
            .field("interest", &self.interest)
            .finish_non_exhaustive()
    }
}

/// Registers a descriptor so that nothing is reported of it yet (one hang-up at most), which shows whether it can be.
///
/// [`Handlers::insert`] arms it, on the thread; so no event arrives ahead of its handler again and again.
pub(crate) fn register(epoll: &OwnedFd, source: BorrowedFd<'_>) -> io::Result<()> {
    epoll::add(epoll, source, EventData::new_u64(UNARMED), EventFlags::ONESHOT)
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Handlers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<HandlerId, u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    id: HandlerId,
    handler: Option<Handler>,
}

impl Handlers {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Takes a handler in and arms its registered descriptor.
    pub(crate) fn insert(&mut self, epoll: &OwnedFd, id: HandlerId, handler: Handler) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, id, handler: None });
            u32::try_from(self.slots.len() - 1)
                .unwrap_or_else(|_| unreachable!("fewer descriptors than 2^32"))
        });
        let slot = &mut self.slots[index as usize];
        let token = u64::from(slot.generation) << 32 | u64::from(index);
        arm(epoll, &handler, token);
        slot.id = id;
        slot.handler = Some(handler);
        self.by_id.insert(id, index);
    }

    /// Changes what a handler is called for. Unknown ids are ignored.
    pub(crate) fn modify(&mut self, epoll: &OwnedFd, id: HandlerId, interest: Interest) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let slot = &mut self.slots[index as usize];
        if let Some(handler) = &mut slot.handler {
            handler.interest = interest;
            arm(epoll, handler, u64::from(slot.generation) << 32 | u64::from(index));
        }
    }

    /// Takes a handler out, with its descriptor no longer watched.
    pub(crate) fn remove(&mut self, epoll: &OwnedFd, id: HandlerId) -> Option<Handler> {
        let index = self.by_id.remove(&id)?;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        let handler = slot.handler.take()?;
        if let Err(error) = epoll::delete(epoll, &handler.source) {
            tracing::warn!(%error, "cannot stop watching a descriptor");
        }
        Some(handler)
    }

    /// Takes what is to be called for an event out of its slot, to be given back by [`Handlers::finish`].
    ///
    /// `None` if the handler has gone, or no longer wants to hear what the event says.
    pub(crate) fn begin(&mut self, token: u64, flags: EventFlags) -> Option<(HandlerId, HandlerFn, Events)> {
        let slot = self.slot(token)?;
        let handler = slot.handler.as_mut()?;
        let wanted = flags & (handler.interest.flags() | EventFlags::HUP | EventFlags::ERR);
        if wanted.is_empty() {
            return None;
        }
        Some((slot.id, handler.call.take()?, Events(wanted)))
    }

    /// Puts it back; gives it to the caller if its handler was removed meanwhile.
    pub(crate) fn finish(&mut self, token: u64, call: HandlerFn) -> Option<HandlerFn> {
        match self.slot(token).and_then(|slot| slot.handler.as_mut()) {
            Some(handler) => {
                handler.call = Some(call);
                None
            }
            None => Some(call),
        }
    }

    /// All ids, for the end of the thread.
    pub(crate) fn ids(&self) -> Vec<HandlerId> {
        self.by_id.keys().copied().collect()
    }

    fn slot(&mut self, token: u64) -> Option<&mut Slot> {
        let index = usize::try_from(token & u64::from(u32::MAX)).ok()?;
        self.slots.get_mut(index).filter(|slot| u64::from(slot.generation) == token >> 32)
    }
}

fn arm(epoll: &OwnedFd, handler: &Handler, token: u64) {
    let data = EventData::new_u64(token);
    if let Err(error) = epoll::modify(epoll, &handler.source, data, handler.interest.flags()) {
        tracing::error!(%error, "cannot watch a descriptor that was registered");
    }
}
