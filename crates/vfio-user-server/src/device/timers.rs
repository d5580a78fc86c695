//! The timers and the put-off work of one device.

use std::collections::VecDeque;
use std::time::Instant;

/// One timer.
#[derive(Debug, Clone, Copy)]
struct Timer {
    tag: u64,
    due: Instant,
    /// It outlives a client that goes.
    lasting: bool,
}

/// A device has a handful of timers at most, so they are looked through one by one.
#[derive(Debug, Default)]
pub(crate) struct Timers(Vec<Timer>);

impl Timers {
    /// Sets a timer, in the place of the one with the same tag.
    pub(crate) fn set(&mut self, tag: u64, due: Instant, lasting: bool) {
        self.cancel(tag);
        self.0.push(Timer { tag, due, lasting });
    }

    pub(crate) fn cancel(&mut self, tag: u64) {
        self.0.retain(|timer| timer.tag != tag);
    }

    pub(crate) fn cancel_all(&mut self) {
        self.0.clear();
    }

    /// Cancels those that do not outlive the client.
    pub(crate) fn hangup(&mut self) {
        self.0.retain(|timer| timer.lasting);
    }

    /// When the next one is due.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|timer| timer.due).min()
    }

    /// Takes out the one that has been due for longest.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let (index, first) = self.0.iter().enumerate().min_by_key(|(_, timer)| timer.due)?;
        if first.due > now {
            return None;
        }
        Some(self.0.swap_remove(index).tag)
    }
}

/// Work that was put off, each tag once.
#[derive(Debug, Default)]
pub(crate) struct Work(VecDeque<u64>);

impl Work {
    pub(crate) fn add(&mut self, tag: u64) {
        if !self.0.contains(&tag) {
            self.0.push_back(tag);
        }
    }

    pub(crate) fn take(&mut self) -> Option<u64> {
        self.0.pop_front()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn timers_come_in_the_order_of_their_times() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        timers.set(1, at(30), false);
        timers.set(2, at(10), true);
        timers.set(3, at(20), false);
        timers.set(1, at(5), false);
        assert_eq!(timers.next_due(), Some(at(5)));
        assert_eq!(timers.take_due(at(4)), None);
        assert_eq!([timers.take_due(at(20)), timers.take_due(at(20))], [Some(1), Some(2)]);
        timers.set(4, at(50), true);
        timers.hangup();
        assert_eq!([timers.take_due(at(90)), timers.take_due(at(90))], [Some(4), None]);
    }

    #[test]
    fn work_is_done_once_however_often_it_is_asked_for() {
        let mut work = Work::default();
        work.add(1);
        work.add(2);
        work.add(1);
        assert_eq!([work.take(), work.take(), work.take()], [Some(1), Some(2), None]);
    }
}
