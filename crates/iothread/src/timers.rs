//! The timers of one iothread, owned by its thread: a heap of due times, and what is to be called by id.
//!
//! Timers fire in the order of their due times, those of one time in the order in which they were added. A cancelled
//! timer's entry stays in the heap until it is due or such entries are the greater part.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::fmt;
use std::time::{Duration, Instant};

use crate::Scope;

/// A timer of one iothread. Ids are not used twice; an id means nothing to another iothread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TimerId(pub(crate) u64);

/// What a timer does when it is due.
pub(crate) enum TimerFn {
    Once(Box<dyn FnOnce(&mut Scope<'_>) + Send>),
    Every(Duration, Box<dyn FnMut(&mut Scope<'_>) + Send>),
}

impl fmt::Debug for TimerFn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Once(_) => f.write_str("Once"),
            Self::Every(interval, _) => f.debug_tuple("Every").field(interval).finish(),
        }
    }
}

/// The timers. A live one's function is away while it is being called.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, TimerId)>>,
    live: HashMap<TimerId, Option<TimerFn>>,
}

impl Timers {
    pub(crate) fn insert(&mut self, id: TimerId, due: Instant, call: TimerFn) {
        self.live.insert(id, Some(call));
        self.heap.push(Reverse((due, id)));
    }

    /// Takes a timer out. Its function is given back unless it is being called.
    pub(crate) fn remove(&mut self, id: TimerId) -> Option<TimerFn> {
        let call = self.live.remove(&id).flatten();
        if self.heap.len() > 2 * self.live.len() + 64 {
            let live = &self.live;
            self.heap.retain(|Reverse((_, id))| live.contains_key(id));
        }
        call
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// When the thread has to look again.
    pub(crate) fn next_due(&mut self) -> Option<Instant> {
        while let Some(Reverse((due, id))) = self.heap.peek() {
            if self.live.contains_key(id) {
                return Some(*due);
            }
            self.heap.pop();
        }
        None
    }

    /// Takes out what is to be called next, if it is due, to be given back by [`Timers::finish`].
    pub(crate) fn begin(&mut self, now: Instant) -> Option<(TimerId, Instant, TimerFn)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let Reverse((_, id)) = self.heap.pop()?;
        let call = self.live.get_mut(&id)?.take()?;
        Some((id, due, call))
    }

    /// After a call: a periodic timer is set anew if it is still wanted; else its function is given back.
    pub(crate) fn finish(
        &mut self,
        id: TimerId,
        due: Instant,
        now: Instant,
        call: Option<TimerFn>,
    ) -> Option<TimerFn> {
        match (self.live.get_mut(&id), call) {
            (Some(place), Some(TimerFn::Every(interval, call))) => {
                *place = Some(TimerFn::Every(interval, call));
                if let Some(due) = next_beat(due, now, interval) {
                    self.heap.push(Reverse((due, id)));
                }
                None
            }
            (_, call) => {
                self.live.remove(&id);
                call
            }
        }
    }

    /// All ids, for the end of the thread.
    pub(crate) fn ids(&self) -> Vec<TimerId> {
        self.live.keys().copied().collect()
    }
}

/// The first time after `now` that is a whole number of intervals after `due`. `None`: never, it is too far away.
fn next_beat(due: Instant, now: Instant, interval: Duration) -> Option<Instant> {
    let late = now.saturating_duration_since(due).as_nanos();
    let past = late % interval.as_nanos().max(1);
    let past = Duration::from_nanos(u64::try_from(past).unwrap_or(u64::MAX));
    now.max(due).checked_add(interval.saturating_sub(past).max(Duration::from_nanos(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn once() -> TimerFn {
        TimerFn::Once(Box::new(|_| {}))
    }

    #[test]
    fn order_is_by_time_then_by_age() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        for (id, ms) in [(1, 30), (2, 10), (3, 20), (4, 10)] {
            timers.insert(TimerId(id), at(ms), once());
        }
        assert_eq!(timers.next_due(), Some(at(10)));
        assert!(timers.begin(at(9)).is_none());
        let mut order = Vec::new();
        while let Some((id, due, _)) = timers.begin(at(30)) {
            order.push(id.0);
            timers.finish(id, due, at(30), None);
        }
        assert_eq!(order, [2, 4, 3, 1]);
        assert!(timers.live.is_empty() && timers.heap.is_empty());
    }

    #[test]
    fn missed_beats_are_skipped_and_the_phase_is_kept() {
        let due = Instant::now();
        let ms = Duration::from_millis;
        assert_eq!(next_beat(due, due, ms(10)), Some(due + ms(10)));
        assert_eq!(next_beat(due, due + ms(3), ms(10)), Some(due + ms(10)));
        assert_eq!(next_beat(due, due + ms(34), ms(10)), Some(due + ms(40)));
        assert_eq!(next_beat(due, due + ms(1), Duration::ZERO), Some(due + ms(1) + Duration::from_nanos(1)));
        assert_eq!(next_beat(due, due, Duration::MAX), None);
    }

    #[test]
    fn cancelled_timers_do_not_pile_up() {
        let far = Instant::now() + Duration::from_secs(3600);
        let mut timers = Timers::default();
        for id in 0..10_000 {
            timers.insert(TimerId(id), far, once());
            assert!(timers.remove(TimerId(id)).is_some());
        }
        assert!(timers.heap.len() <= 65);
        assert_eq!(timers.next_due(), None);
    }
}
