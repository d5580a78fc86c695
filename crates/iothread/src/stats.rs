//! What an iothread counts. Its thread alone writes, with relaxed atomics; anyone reads at any time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A reading of an iothread's counters, each counted from the thread's start. They are read one after another, so
/// they may be some calls apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Handlers that are there now.
    pub handlers: u64,
    /// Those of them that are being polled now: they have a hook, want to read, and have not been idle for 7 seconds.
    pub polled_handlers: u64,
    /// How long the thread polls now before it blocks; zero: not at all.
    pub poll_time: Duration,
    /// Returns from a wait that could block.
    pub wakeups: u64,
    /// Waits that polling ended: a hook found work.
    pub poll_hits: u64,
    /// Waits ahead of which the thread polled in vain.
    pub poll_misses: u64,
    /// Calls of handlers because their descriptor was ready.
    pub handler_calls: u64,
    /// Calls of timers.
    pub timer_calls: u64,
    /// Closures run.
    pub closures: u64,
    /// Handlers, timers and closures that panicked.
    pub panics: u64,
    /// Time spent polling: in vain exactly, and up to a hit as far as the clock was read, which is every few calls.
    pub polling: Duration,
    /// Time spent in waits that could block, without the one that is going on.
    pub blocked: Duration,
}

/// A counter that one thread writes and anyone reads at any time: neither waits, nor orders anything else.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds to it, wrapping at 2^64. Of several writers at once, one's addition may be lost.
    pub fn add(&self, count: u64) {
        // There is one writer, so this need not be an atomic addition.
        self.set(self.get().wrapping_add(count));
    }

    /// Sets it.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Reads it.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handlers: Counter,
    pub(crate) polled_handlers: Counter,
    pub(crate) poll_time_ns: Counter,
    pub(crate) wakeups: Counter,
    pub(crate) poll_hits: Counter,
    pub(crate) poll_misses: Counter,
    pub(crate) handler_calls: Counter,
    pub(crate) timer_calls: Counter,
    pub(crate) closures: Counter,
    pub(crate) panics: Counter,
    pub(crate) polling_ns: Counter,
    pub(crate) blocked_ns: Counter,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            handlers: self.handlers.get(),
            polled_handlers: self.polled_handlers.get(),
            poll_time: Duration::from_nanos(self.poll_time_ns.get()),
            wakeups: self.wakeups.get(),
            poll_hits: self.poll_hits.get(),
            poll_misses: self.poll_misses.get(),
            handler_calls: self.handler_calls.get(),
            timer_calls: self.timer_calls.get(),
            closures: self.closures.get(),
            panics: self.panics.get(),
            polling: Duration::from_nanos(self.polling_ns.get()),
            blocked: Duration::from_nanos(self.blocked_ns.get()),
        }
    }
}
