//! Which handlers are polled busily, and since when each has had nothing to do.

use std::time::{Duration, Instant};

use crate::Interest;

/// A handler that has had no work for so long is no longer polled, until its descriptor is ready. QEMU's figure.
const IDLE: Duration = Duration::from_secs(7);
/// How often idle handlers are looked for.
pub(crate) const SWEEP: Duration = Duration::from_secs(1);

/// Handlers that are polled at a time. A hook may be a system call of 0.3 us, and the one that has work waits for half a
/// round of them: 64 idle ones before it would cost more than polling gains. Those that are not polled are found by epoll,
/// which is asked every few microseconds meanwhile.
const MOST: usize = 4;

/// The slots of the handlers that are being polled, each called in its turn: the [`MOST`] that had work last.
#[derive(Debug, Default)]
pub(crate) struct Polled {
    /// In no order.
    list: Vec<u32>,
    /// By slot, those that are in the list.
    places: Vec<Option<Place>>,
    /// Those of the list that want to read and nothing else.
    readers: usize,
    /// Whose turn it is.
    turn: usize,
    /// Counts work.
    work: u64,
}

/// A slot that is in the list.
#[derive(Debug, Clone, Copy)]
struct Place {
    index: u32,
    /// It waits for room to write as well.
    writes: bool,
    /// When it last had work, as [`Polled::work`] counts.
    worked: u64,
}

impl Polled {
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// How many are done justice by polling alone: they do not wait for room to write as well.
    pub(crate) fn readers(&self) -> usize {
        self.readers
    }

    /// Puts a slot that has work into the list, if it is not there, and takes the one out whose work was longest ago if there
    /// are too many.
    pub(crate) fn add(&mut self, slot: u32, interest: Interest) {
        let slot_index = slot as usize;
        if self.places.len() <= slot_index {
            self.places.resize(slot_index + 1, None);
        }
        if self.places[slot_index].is_some() {
            return self.stir(slot);
        }
        if self.list.len() >= MOST {
            let worked = |slot: &u32| self.places[*slot as usize].map(|place| place.worked);
            if let Some(&oldest) = self.list.iter().min_by_key(|slot| worked(slot)) {
                self.remove(oldest);
            }
        }
        let index = u32::try_from(self.list.len()).unwrap_or_else(|_| unreachable!("no more than MOST"));
        self.work += 1;
        self.places[slot_index] = Some(Place { index, writes: interest.writes(), worked: self.work });
        self.readers += usize::from(!interest.writes());
        self.list.push(slot);
    }

    /// A slot of the list has had work.
    pub(crate) fn stir(&mut self, slot: u32) {
        if let Some(Some(place)) = self.places.get_mut(slot as usize) {
            self.work += 1;
            place.worked = self.work;
        }
    }

    /// Takes a slot out of the list, if it is there.
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(place) = self.places.get_mut(slot as usize).and_then(Option::take) else { return };
        self.readers -= usize::from(!place.writes);
        self.list.swap_remove(place.index as usize);
        if let Some(&moved) = self.list.get(place.index as usize)
            && let Some(moved) = &mut self.places[moved as usize]
        {
            moved.index = place.index;
        }
    }

    /// Keeps those slots of which `keep` says so.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(u32) -> bool) {
        for place in (0..self.list.len()).rev() {
            let slot = self.list[place];
            if !keep(slot) {
                self.remove(slot);
            }
        }
    }

    /// The slot whose turn it is. One that moves in the list because another is removed may be called twice or not at
    /// all in that round.
    pub(crate) fn next(&mut self) -> Option<u32> {
        if self.turn >= self.list.len() {
            self.turn = 0;
        }
        let slot = self.list.get(self.turn).copied();
        self.turn += 1;
        slot
    }
}

/// When a handler last had work, to within [`SWEEP`]: noting that it has is a store, not a look at the clock.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    idle_since: Option<Instant>,
}

impl Activity {
    /// It had work, or is new.
    pub(crate) fn stir(&mut self) {
        self.idle_since = None;
    }

    /// Whether it has had none for [`IDLE`].
    pub(crate) fn idle(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(*self.idle_since.get_or_insert(now)) >= IDLE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_has_a_turn_whoever_comes_and_goes() {
        let mut polled = Polled::default();
        assert_eq!(polled.next(), None);
        for slot in [4, 0, 2, 7] {
            polled.add(slot, Interest::READ);
            polled.add(slot, Interest::READ);
        }
        assert_eq!((polled.len(), polled.readers()), (4, 4));
        let mut round: Vec<_> = (0..4).map_while(|_| polled.next()).collect();
        round.sort_unstable();
        assert_eq!(round, [0, 2, 4, 7]);
        for slot in [4, 9, 4, 7] {
            polled.remove(slot);
        }
        let mut round: Vec<_> = (0..2).map_while(|_| polled.next()).collect();
        round.sort_unstable();
        assert_eq!(round, [0, 2]);
        polled.retain(|slot| slot == 2);
        assert_eq!([polled.next(), polled.next()], [Some(2), Some(2)]);
        polled.remove(2);
        assert_eq!((polled.next(), polled.readers()), (None, 0));
    }

    #[test]
    fn the_few_that_had_work_last_are_polled() {
        let mut polled = Polled::default();
        (0..10).for_each(|slot| polled.add(slot, Interest::READ));
        let round = |polled: &mut Polled| {
            let mut round: Vec<_> = (0..MOST).map_while(|_| polled.next()).collect();
            round.sort_unstable();
            round
        };
        assert_eq!(round(&mut polled), [6, 7, 8, 9]);
        polled.stir(6);
        polled.stir(3);
        polled.add(2, Interest::READ);
        polled.add(8, Interest::READ);
        polled.add(1, Interest::READ_WRITE);
        assert_eq!(round(&mut polled), [1, 2, 6, 8]);
        assert_eq!((polled.len(), polled.readers()), (4, 3));
    }

    #[test]
    fn those_who_wait_for_room_are_counted_apart() {
        let mut polled = Polled::default();
        polled.add(0, Interest::READ_WRITE);
        polled.add(1, Interest::READ);
        assert_eq!((polled.len(), polled.readers()), (2, 1));
        polled.remove(0);
        polled.add(0, Interest::READ);
        assert_eq!((polled.len(), polled.readers()), (2, 2));
    }

    #[test]
    fn idle_means_nothing_for_seven_seconds() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut activity = Activity::default();
        assert!(!activity.idle(at(0)) && !activity.idle(at(6)));
        activity.stir();
        assert!(!activity.idle(at(7)) && !activity.idle(at(13)));
        assert!(activity.idle(at(14)));
        activity.stir();
        // The thread slept meanwhile.
        assert!(!activity.idle(at(1000)) && activity.idle(at(1007)));
    }
}
