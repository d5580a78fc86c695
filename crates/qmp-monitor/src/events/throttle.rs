//! Which events are sent now, later, or replaced: QEMU's rate limit, as a decision without a clock.
//!
//! The first event of a key goes out at once and opens a window. Inside the window, a later event replaces the one
//! that waits. When the window ends, the waiting event goes out and a new window opens; a window in which nothing
//! waits closes. (Recorded from QEMU 7.2; its windows are 1,000 ms.)

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

/// Windows by key, each with the event that waits in it.
#[derive(Debug)]
pub(crate) struct Throttle<K, I, E> {
    window: Duration,
    open: HashMap<K, Window<I, E>>,
}

#[derive(Debug)]
struct Window<I, E> {
    ends: I,
    waiting: Option<E>,
}

impl<K, I, E> Throttle<K, I, E>
where
    K: Clone + Eq + Hash,
    I: Copy + Ord + std::ops::Add<Duration, Output = I>,
{
    pub(crate) fn new(window: Duration) -> Self {
        Self { window, open: HashMap::new() }
    }

    /// An event is raised at `now`: gives it back when it is to be sent at once, else keeps it.
    pub(crate) fn offer(&mut self, key: K, event: E, now: I) -> Option<E> {
        match self.open.get_mut(&key) {
            Some(window) => {
                window.waiting = Some(event);
                None
            }
            None => {
                self.open.insert(key, Window { ends: now + self.window, waiting: None });
                Some(event)
            }
        }
    }

    /// When the next window ends.
    pub(crate) fn next_end(&self) -> Option<I> {
        self.open.values().map(|window| window.ends).min()
    }

    /// Ends the windows that are over at `now`; gives the events that waited in them, earliest window first.
    pub(crate) fn expire(&mut self, now: I) -> Vec<E> {
        let mut over: Vec<_> =
            self.open.iter().filter(|(_, w)| w.ends <= now).map(|(key, w)| (w.ends, key.clone())).collect();
        over.sort_by_key(|(ends, _)| *ends);
        let mut events = Vec::new();
        for (_, key) in over {
            let waiting = self.open.get_mut(&key).and_then(|window| {
                window.ends = now + self.window;
                window.waiting.take()
            });
            match waiting {
                Some(event) => events.push(event),
                None => drop(self.open.remove(&key)),
            }
        }
        events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Time in milliseconds since some start.
    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn throttle() -> Throttle<&'static str, Duration, u32> {
        Throttle::new(at(1000))
    }

    #[test]
    fn the_last_of_a_window_is_sent_at_its_end_and_opens_another() {
        let mut t = throttle();
        assert_eq!(t.offer("RTC", 1, at(0)), Some(1));
        assert_eq!(t.offer("RTC", 2, at(100)), None);
        assert_eq!(t.offer("RTC", 3, at(999)), None);
        assert_eq!(t.next_end(), Some(at(1000)));
        assert!(t.expire(at(999)).is_empty());
        assert_eq!(t.expire(at(1000)), [3]);
        assert_eq!(t.offer("RTC", 4, at(1500)), None, "a new window is open");
        assert_eq!(t.expire(at(2000)), [4]);
        assert!(t.expire(at(3000)).is_empty(), "nothing waited");
        assert_eq!(t.next_end(), None);
        assert_eq!(t.offer("RTC", 5, at(3001)), Some(5));
    }

    #[test]
    fn keys_do_not_disturb_each_other() {
        let mut t = throttle();
        assert_eq!(t.offer("a", 1, at(0)), Some(1));
        assert_eq!(t.offer("b", 2, at(500)), Some(2));
        assert_eq!(t.offer("b", 3, at(600)), None);
        assert!(t.expire(at(1000)).is_empty());
        assert_eq!(t.expire(at(1500)), [3]);
    }

    proptest! {
        /// Whatever is raised when: never two sent within a window, the newest is never lost, and all windows close.
        #[test]
        fn the_newest_always_arrives_and_never_too_soon(gaps in prop::collection::vec(0u64..700, 1..60)) {
            let (mut t, mut now, mut sent) = (throttle(), 0, Vec::new());
            for (n, gap) in (0u32..).zip(&gaps) {
                let until = now + gap;
                while let Some(end) = t.next_end().filter(|end| *end <= at(until)) {
                    sent.extend(t.expire(end).into_iter().map(|e| (end, e)));
                }
                now = until;
                sent.extend(t.offer("k", n, at(now)).map(|e| (at(now), e)));
            }
            while let Some(end) = t.next_end() {
                sent.extend(t.expire(end).into_iter().map(|e| (end, e)));
            }
            prop_assert_eq!(sent.last().map(|s| s.1 as usize), Some(gaps.len() - 1));
            for pair in sent.windows(2) {
                prop_assert!(pair[1].0 - pair[0].0 >= at(1000));
                prop_assert!(pair[1].1 > pair[0].1);
            }
        }
    }
}
