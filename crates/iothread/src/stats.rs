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
    /// Returns from a wait that could block.
    pub wakeups: u64,
    /// Calls of handlers.
    pub handler_calls: u64,
    /// Calls of timers.
    pub timer_calls: u64,
    /// Closures run.
    pub closures: u64,
    /// Handlers, timers and closures that panicked.
    pub panics: u64,
    /// Time spent in waits that could block, without the one that is going on.
    pub blocked: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        // There is one writer, so this need not be an atomic addition.
        self.set(self.get().wrapping_add(count));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) handlers: Counter,
    pub(crate) wakeups: Counter,
    pub(crate) handler_calls: Counter,
    pub(crate) timer_calls: Counter,
    pub(crate) closures: Counter,
    pub(crate) panics: Counter,
    pub(crate) blocked_ns: Counter,
}

impl Counters {
    pub(crate) fn read(&self) -> Stats {
        Stats {
            handlers: self.handlers.get(),
            wakeups: self.wakeups.get(),
            handler_calls: self.handler_calls.get(),
            timer_calls: self.timer_calls.get(),
            closures: self.closures.get(),
            panics: self.panics.get(),
            blocked: Duration::from_nanos(self.blocked_ns.get()),
        }
    }
}
