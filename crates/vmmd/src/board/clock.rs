//! Clocks: the guest's own, which stands while the machine is paused, and the one that drives the RTC.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::rtc::base::host_time;
use crate::config::RtcClock;

/// The guest's clock, from 0, in nanoseconds. It stands until the machine runs, and while it is paused; under `-accel
/// qtest` a test moves it and nothing else does.
#[derive(Debug)]
pub struct VirtualClock(Mutex<Virtual>);

#[derive(Debug)]
struct Virtual {
    /// What it showed when it last began or ceased to run.
    shown: i64,
    /// Since when it runs.
    running: Option<Instant>,
    /// A test moves it.
    driven: bool,
}

impl VirtualClock {
    /// One that stands at 0.
    pub(super) fn new(driven: bool) -> Self {
        Self(Mutex::new(Virtual { shown: 0, running: None, driven }))
    }

    /// What it shows.
    pub fn now(&self) -> i64 {
        self.with(|clock| clock.now())
    }

    /// Whether a test moves it.
    pub fn is_driven(&self) -> bool {
        self.with(|clock| clock.driven)
    }

    /// Moves it on to `to`, if it is not there yet, and gives what it shows then. Only where [`is_driven`](Self::is_driven).
    pub fn advance_to(&self, to: i64) -> i64 {
        self.with(|clock| {
            if clock.driven {
                clock.shown = clock.shown.max(to);
            }
            clock.now()
        })
    }

    pub(super) fn run(&self) {
        self.with(|clock| {
            if !clock.driven {
                clock.running.get_or_insert_with(Instant::now);
            }
        });
    }

    pub(super) fn pause(&self) {
        self.with(|clock| {
            clock.shown = clock.now();
            clock.running = None;
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Virtual) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Virtual {
    fn now(&self) -> i64 {
        self.shown.saturating_add(self.running.map_or(0, |since| nanoseconds(since.elapsed())))
    }
}

/// What drives the RTC.
#[derive(Debug)]
pub(super) enum Drive {
    /// The host's time of day, with its jumps.
    Host,
    /// The host's clock that never jumps.
    Monotonic(Instant),
    /// The guest's clock.
    Virtual(std::sync::Arc<VirtualClock>),
}

impl Drive {
    pub(super) fn new(clock: RtcClock, guest: &std::sync::Arc<VirtualClock>) -> Self {
        match clock {
            RtcClock::Host => Self::Host,
            RtcClock::Rt => Self::Monotonic(Instant::now()),
            RtcClock::Vm => Self::Virtual(guest.clone()),
        }
    }

    /// Now, in nanoseconds since whenever.
    pub(super) fn now(&self) -> i64 {
        match self {
            Self::Host => nanoseconds(host_time()),
            Self::Monotonic(start) => nanoseconds(start.elapsed()),
            Self::Virtual(clock) => clock.now(),
        }
    }
}

/// It is full in the year 2262.
pub(super) fn nanoseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stands_until_it_runs_and_while_it_is_paused() {
        let clock = VirtualClock::new(false);
        assert_eq!(clock.now(), 0);
        assert_eq!(clock.advance_to(7), 0, "nobody moves a clock that runs by itself");
        clock.run();
        while clock.now() == 0 {
            std::thread::yield_now();
        }
        clock.pause();
        let shown = clock.now();
        assert_eq!(clock.now(), shown);
        clock.run();
        assert!(clock.now() >= shown);
    }

    #[test]
    fn a_test_moves_it_and_never_back() {
        let clock = VirtualClock::new(true);
        clock.run();
        assert_eq!(clock.now(), 0);
        assert_eq!(clock.advance_to(7), 7);
        assert_eq!(clock.advance_to(3), 7);
        clock.pause();
        assert_eq!(clock.now(), 7);
    }
}
