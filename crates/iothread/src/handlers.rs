//! The handlers of one iothread, owned by its thread: a table by slot, so that an event finds its handler by index.
//!
//! An epoll registration carries a token of slot and generation. A slot's generation changes when its handler is
//! removed, so an event that was fetched before the removal finds nothing. A descriptor is taken out of the epoll
//! instance before it is dropped, because closing it does not do so while somebody else (a client, say) has it open.
//!
//! Those that are polled busily stand in a list as well ([`Polled`]): they have a hook, want to read, and have not
//! been idle for long.

use std::collections::HashMap;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io;

use crate::polled::{Activity, Polled};
use crate::{Events, Handler, Interest};

/// The token of the iothread's own eventfd.
pub(crate) const WAKE: u64 = u64::MAX;
/// The token of a descriptor whose handler is still on its way to the thread.
const UNARMED: u64 = u64::MAX - 1;

/// A handler of one iothread. Ids are not used twice; an id means nothing to another iothread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HandlerId(pub(crate) u64);

/// A descriptor and what is called for it.
pub(crate) struct Entry {
    source: Box<dyn AsFd + Send>,
    interest: Interest,
    /// The one that the handler has set for itself.
    second: Option<Second>,
    /// Whether `call` has a hook.
    hook: bool,
    activity: Activity,
    /// Away while it is being called.
    call: Option<Box<dyn Handler>>,
}

/// A descriptor that a handler is called for beside its own.
struct Second {
    source: Box<dyn AsFd + Send>,
    interest: Interest,
}

impl Entry {
    /// Not yet watched: see [`Handlers::insert`].
    pub(crate) fn new(
        source: impl AsFd + Send + 'static,
        interest: Interest,
        hook: bool,
        call: impl Handler + 'static,
    ) -> Self {
        let (source, call) = (Box::new(source), Box::new(call));
        Self { source, interest, second: None, hook, activity: Activity::default(), call: Some(call) }
    }

    /// Registers the descriptor so that nothing is reported of it yet (one hang-up at most), which shows whether it
    /// can be.
    ///
    /// [`Handlers::insert`] arms it, on the thread; so no event arrives ahead of its handler again and again.
    pub(crate) fn register(&self, epoll: &OwnedFd) -> io::Result<()> {
        epoll::add(epoll, self.fd(), EventData::new_u64(UNARMED), EventFlags::ONESHOT)
    }

    /// Takes it back. Whoever shares the file would keep it registered.
    pub(crate) fn unregister(&self, epoll: &OwnedFd) {
        unregister(epoll, self.fd());
        if let Some(second) = &self.second {
            unregister(epoll, second.source.as_fd());
        }
    }

    /// What it may be called for.
    fn wanted(&self) -> EventFlags {
        let second = self.second.as_ref().map_or(EventFlags::empty(), |second| second.interest.flags());
        self.interest.flags() | second | EventFlags::HUP | EventFlags::ERR
    }

    fn arm(&self, epoll: &OwnedFd, token: u64) {
        let data = EventData::new_u64(token);
        if let Err(error) = epoll::modify(epoll, self.fd(), data, self.interest.flags()) {
            tracing::error!(%error, "cannot watch a descriptor that was registered");
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    /// Whether it is to be polled, as long as it is not idle.
    fn wants_polling(&self) -> bool {
        self.hook && self.interest.reads()
    }
}

fn unregister(epoll: &OwnedFd, fd: BorrowedFd<'_>) {
    if let Err(error) = epoll::delete(epoll, fd) {
        tracing::warn!(%error, "cannot stop watching a descriptor");
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("fd", &self.fd())
            .field("interest", &self.interest)
            .field("hook", &self.hook)
            .finish_non_exhaustive()
    }
}

/// A handler that is taken out of its slot to be called.
pub(crate) struct Call {
    token: u64,
    pub(crate) id: HandlerId,
    pub(crate) handler: Box<dyn Handler>,
}

/// The table.
#[derive(Debug, Default)]
pub(crate) struct Handlers {
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_id: HashMap<HandlerId, u32>,
    /// Handlers with a hook, polled now or not.
    hooks: usize,
    polled: Polled,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    id: HandlerId,
    entry: Option<Entry>,
}

impl Handlers {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// How many have a hook.
    pub(crate) fn hooks(&self) -> usize {
        self.hooks
    }

    /// How many are being polled.
    pub(crate) fn polled(&self) -> usize {
        self.polled.len()
    }

    /// Whether polling misses what epoll would tell: some handler is not polled, or waits for room to write; or there are
    /// several, of which one that is always busy must not keep epoll from being asked for what a hook does not see: a second
    /// descriptor, or the many things that a descriptor may stand for. (One alone is told of those when it is not busy.)
    pub(crate) fn need_epoll(&self) -> bool {
        self.len() > 1 || self.len() > self.polled.readers()
    }

    /// Takes a handler in and arms its registered descriptor.
    pub(crate) fn insert(&mut self, epoll: &OwnedFd, id: HandlerId, entry: Entry) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, id, entry: None });
            u32::try_from(self.slots.len() - 1)
                .unwrap_or_else(|_| unreachable!("fewer descriptors than 2^32"))
        });
        let slot = &mut self.slots[index as usize];
        entry.arm(epoll, token(slot.generation, index));
        self.hooks += usize::from(entry.hook);
        if entry.wants_polling() {
            self.polled.add(index, entry.interest);
        }
        slot.id = id;
        slot.entry = Some(entry);
        self.by_id.insert(id, index);
    }

    /// Changes what a handler is called for. Unknown ids are ignored.
    pub(crate) fn modify(&mut self, epoll: &OwnedFd, id: HandlerId, interest: Interest) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let slot = &mut self.slots[index as usize];
        if let Some(entry) = &mut slot.entry {
            entry.interest = interest;
            entry.arm(epoll, token(slot.generation, index));
            self.polled.remove(index);
            if entry.wants_polling() {
                entry.activity.stir();
                self.polled.add(index, interest);
            }
        }
    }

    /// Sets a handler's second descriptor, in the place of the one that it has. Unknown ids are ignored.
    pub(crate) fn set_second(
        &mut self,
        epoll: &OwnedFd,
        id: HandlerId,
        second: Option<(Box<dyn AsFd + Send>, Interest)>,
    ) -> io::Result<()> {
        let Some(&index) = self.by_id.get(&id) else { return Ok(()) };
        let slot = &mut self.slots[index as usize];
        let Some(entry) = &mut slot.entry else { return Ok(()) };
        if let Some(old) = entry.second.take() {
            unregister(epoll, old.source.as_fd());
        }
        if let Some((source, interest)) = second {
            let data = EventData::new_u64(token(slot.generation, index));
            epoll::add(epoll, source.as_fd(), data, interest.flags())?;
            entry.second = Some(Second { source, interest });
        }
        Ok(())
    }

    /// Changes what the second descriptor is watched for. Ignored if there is none.
    pub(crate) fn modify_second(&mut self, epoll: &OwnedFd, id: HandlerId, interest: Interest) {
        let Some(&index) = self.by_id.get(&id) else { return };
        let slot = &mut self.slots[index as usize];
        let Some(second) = slot.entry.as_mut().and_then(|entry| entry.second.as_mut()) else { return };
        second.interest = interest;
        let data = EventData::new_u64(token(slot.generation, index));
        if let Err(error) = epoll::modify(epoll, second.source.as_fd(), data, interest.flags()) {
            tracing::error!(%error, "cannot watch a descriptor that was registered");
        }
    }

    /// Takes a handler out, with its descriptors no longer watched.
    pub(crate) fn remove(&mut self, epoll: &OwnedFd, id: HandlerId) -> Option<Entry> {
        let index = self.by_id.remove(&id)?;
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index);
        self.polled.remove(index);
        let entry = slot.entry.take()?;
        self.hooks -= usize::from(entry.hook);
        entry.unregister(epoll);
        Some(entry)
    }

    /// Whether an event is of a handler with a hook.
    pub(crate) fn has_hook(&self, token: u64) -> bool {
        self.slot(token).and_then(|slot| slot.entry.as_ref()).is_some_and(|entry| entry.hook)
    }

    /// Takes what is to be called for an event out of its slot, to be given back by [`Handlers::finish`]. A handler
    /// with a hook is polled from here on.
    ///
    /// `None` if the handler has gone, or no longer wants to hear what the event says.
    pub(crate) fn begin(&mut self, token: u64, flags: EventFlags) -> Option<(Call, Events)> {
        let index = index(token)?;
        let slot = self.slots.get_mut(index as usize).filter(|slot| slot.is(token))?;
        let entry = slot.entry.as_mut()?;
        let wanted = flags & entry.wanted();
        if wanted.is_empty() {
            return None;
        }
        let handler = entry.call.take()?;
        if entry.wants_polling() {
            entry.activity.stir();
            self.polled.add(index, entry.interest);
        }
        Some((Call { token, id: slot.id, handler }, Events(wanted)))
    }

    /// Likewise the next one to be polled, in turn.
    pub(crate) fn begin_poll(&mut self) -> Option<Call> {
        let index = self.polled.next()?;
        let slot = &mut self.slots[index as usize];
        let handler = slot.entry.as_mut()?.call.take()?;
        Some(Call { token: token(slot.generation, index), id: slot.id, handler })
    }

    /// Puts it back, and notes whether it had work; gives it to the caller if it was removed meanwhile.
    pub(crate) fn finish(&mut self, call: Call, worked: bool) -> Option<Box<dyn Handler>> {
        let place = index(call.token);
        let slot = place.and_then(|index| self.slots.get_mut(index as usize));
        match slot.filter(|slot| slot.is(call.token)).and_then(|slot| slot.entry.as_mut()) {
            Some(entry) => {
                entry.call = Some(call.handler);
                if worked {
                    entry.activity.stir();
                    place.inspect(|place| self.polled.stir(*place));
                }
                None
            }
            None => Some(call.handler),
        }
    }

    /// Drops those from polling that have been idle for long. To be called every second or so.
    pub(crate) fn sweep(&mut self, now: Instant) {
        let slots = &mut self.slots;
        self.polled.retain(|index| match &mut slots[index as usize].entry {
            Some(entry) => !entry.activity.idle(now),
            None => false,
        });
    }

    /// All ids, for the end of the thread.
    pub(crate) fn ids(&self) -> Vec<HandlerId> {
        self.by_id.keys().copied().collect()
    }

    fn slot(&self, token: u64) -> Option<&Slot> {
        self.slots.get(index(token)? as usize).filter(|slot| slot.is(token))
    }
}

impl Slot {
    fn is(&self, token: u64) -> bool {
        u64::from(self.generation) == token >> 32
    }
}

fn token(generation: u32, index: u32) -> u64 {
    u64::from(generation) << 32 | u64::from(index)
}

fn index(token: u64) -> Option<u32> {
    u32::try_from(token & u64::from(u32::MAX)).ok()
}
