//! The wait of an iothread: busy polling where that pays, then epoll.
//!
//! Polling calls the hooks in turn. After each call it looks at the inbox, a load; every [`CALLS_PER_CLOCK`] calls at
//! the clock, for its own end, timers that are due and changed properties; and every [`LOOK`] at epoll, for the
//! descriptors that have no hook. So while the thread polls nobody waits for longer than these few calls.

use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, Event};
use rustix::io::Errno;

use crate::adaptive::{Adaptive, Waited};
use crate::event_loop::EventLoop;
use crate::polled::SWEEP;
use crate::properties::PollSettings;

/// Calls of hooks between two looks at the clock. A look costs 25 ns, a hook's system call some 300 ns.
const CALLS_PER_CLOCK: usize = 4;
/// How long a descriptor that is not polled waits for epoll to be asked while others are polled. Asking costs 0.3 us,
/// so this spends 3 % on it, and is less than a thread needs to wake up on another core.
const LOOK: Duration = Duration::from_micros(10);

/// What the wait remembers from turn to turn.
#[derive(Debug)]
pub(crate) struct Polling {
    adaptive: Adaptive,
    /// Of the settings that `adaptive` was made of.
    version: u64,
    next_look: Instant,
    next_sweep: Instant,
    turn: Option<Turn>,
}

/// A turn that brought work for a handler with a hook, until the next wait.
#[derive(Debug)]
struct Turn {
    start: Instant,
    polled: bool,
    /// Calls that it had to make.
    calls: u32,
}

impl Polling {
    pub(crate) fn new(settings: &PollSettings) -> Self {
        let version = settings.version();
        let now = Instant::now();
        Self {
            adaptive: Adaptive::new(settings.limits()),
            version,
            next_look: now,
            next_sweep: now,
            turn: None,
        }
    }
}

/// How polling ended.
enum Outcome {
    /// There is something to do: so many events, or something that the next turn of the loop does.
    GoRound(usize),
    /// At this time it was given up.
    GivenUp(Instant),
}

impl EventLoop {
    /// Waits for events, and not at all if there is work. The one place where the thread blocks.
    pub(crate) fn wait(&mut self, events: &mut [Event]) -> usize {
        let turn = self.polling.turn.take();
        if self.stopping || !self.closures.is_empty() || self.shared.inbox.pending() {
            return self.fetch(events, Some(Duration::ZERO));
        }
        self.update();
        let start = Instant::now();
        if let Some(Turn { start: began, polled, calls }) = turn {
            let turn_ns = nanos(start.saturating_duration_since(began)) / u64::from(calls);
            self.polling.adaptive.turn(polled, turn_ns);
        }
        let timer = self.timers.next_due();
        if timer.is_some_and(|due| due <= start) {
            return self.fetch(events, Some(Duration::ZERO));
        }
        let mut now = start;
        if self.handlers.polled() > 0 {
            self.sweep(start);
            let limit = self.polling.adaptive.limit();
            if limit > 0 {
                match self.poll(start, limit, events) {
                    Outcome::GoRound(count) => return count,
                    Outcome::GivenUp(at) => now = at,
                }
            }
        }
        self.block(start, now, events)
    }

    /// Takes over properties that were set, which makes polling start from nothing.
    fn update(&mut self) {
        let settings = &self.shared.poll;
        let version = settings.version();
        if version != self.polling.version {
            self.polling.adaptive = Adaptive::new(settings.limits());
            self.polling.version = version;
            self.shared.counters.poll_time_ns.set(0);
        }
    }

    /// Drops idle handlers from polling, every second or so.
    fn sweep(&mut self, now: Instant) {
        if now >= self.polling.next_sweep {
            self.polling.next_sweep = now + SWEEP;
            self.handlers.sweep(now);
            self.count_handlers();
        }
    }

    /// Calls the hooks in turn for `limit` nanoseconds, or until there is something to do.
    fn poll(&mut self, start: Instant, limit: u64, events: &mut [Event]) -> Outcome {
        let limit = Duration::from_nanos(limit);
        let mut now = start;
        let outcome = loop {
            if let Some(count) = self.look(now, events) {
                break Outcome::GoRound(count);
            }
            for _ in 0..CALLS_PER_CLOCK {
                if self.poll_once(start) {
                    return self.end_polling(start, now, Outcome::GoRound(0));
                }
            }
            now = Instant::now();
            if self.timers.next_due().is_some_and(|due| due <= now) {
                break Outcome::GoRound(0);
            }
            if now.saturating_duration_since(start) >= limit {
                self.shared.counters.poll_misses.add(1);
                break Outcome::GivenUp(now);
            }
            if self.shared.poll.version() != self.polling.version {
                break Outcome::GoRound(0);
            }
        };
        self.end_polling(start, now, outcome)
    }

    fn end_polling(&self, start: Instant, now: Instant, outcome: Outcome) -> Outcome {
        self.shared.counters.polling_ns.add(nanos(now.saturating_duration_since(start)));
        outcome
    }

    /// Calls the hook whose turn it is, then carries out what was asked meanwhile. Says whether the loop has to go
    /// round.
    fn poll_once(&mut self, start: Instant) -> bool {
        let Some(call) = self.handlers.begin_poll() else { return true };
        if self.serve(call, |handler, scope| handler.poll(scope)) {
            self.shared.counters.poll_hits.add(1);
            self.polling.adaptive.hit();
            self.polling.turn = Some(Turn { start, polled: true, calls: 1 });
            return true;
        }
        self.stopping || !self.closures.is_empty()
    }

    /// Asks epoll for what polling does not see, if it is time to. `Some`: there is something.
    fn look(&mut self, now: Instant, events: &mut [Event]) -> Option<usize> {
        if now < self.polling.next_look || !self.handlers.need_epoll() {
            return None;
        }
        self.polling.next_look = now + LOOK;
        Some(self.fetch(events, Some(Duration::ZERO))).filter(|count| *count > 0)
    }

    /// Blocks until something happens. The wait began at `start`; it is `now`, and between the two was polling.
    fn block(&mut self, start: Instant, now: Instant, events: &mut [Event]) -> usize {
        let timeout = self.timers.next_due().map(|due| due.saturating_duration_since(now));
        // The last look at the inbox: what is pushed from here on writes to the eventfd.
        if !self.shared.inbox.sleep() {
            return self.fetch(events, Some(Duration::ZERO));
        }
        let count = self.fetch(events, timeout);
        self.shared.inbox.awake();
        let blocked_ns = nanos(now.elapsed());
        let counters = &self.shared.counters;
        counters.wakeups.add(1);
        counters.blocked_ns.add(blocked_ns);
        if self.handlers.hooks() > 0 {
            let polled_ns = nanos(now.saturating_duration_since(start));
            let found = events[..count].iter().any(|event| self.handlers.has_hook(event.data.u64()));
            self.polling.adaptive.waited(Waited { polled_ns, blocked_ns, found });
            if found {
                let calls = u32::try_from(count).unwrap_or(u32::MAX);
                self.polling.turn = Some(Turn { start, polled: polled_ns > 0, calls });
            }
            counters.poll_time_ns.set(self.polling.adaptive.limit());
        }
        count
    }

    fn fetch(&mut self, events: &mut [Event], timeout: Option<Duration>) -> usize {
        // A time too far away for the kernel is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match epoll::wait(&self.shared.epoll, events, timeout.as_ref()) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => {
                tracing::error!(%error, "an iothread cannot wait for events and ends");
                self.stopping = true;
                0
            }
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
