//! How long polling pays: the decisions of adaptive polling, without a clock, a descriptor or a thread.
//!
//! The event loop asks [`Adaptive::limit`] how long to poll before a wait, and tells afterwards how it went: polling
//! found work ([`Adaptive::hit`]), or the thread blocked ([`Adaptive::waited`]). All times are arguments, in
//! nanoseconds.
//!
//! The rule is QEMU 7.2's. A wait is taken from its start, polling included, to its end. One that was no longer than
//! the present time of polling leaves it as it is. A longer one makes it grow, unless it was longer than
//! `poll-max-ns`: then polling would have been in vain, and its time shrinks. Three things are added:
//!
//! * **A wait ends later than its work arrives**, by the time that it takes to wake the thread: 20 us to 45 us from one
//!   core of a virtual machine to another, as long as `poll-max-ns` itself. So a wait may exceed `poll-max-ns` by
//!   [`WAKE_NS`] and polling still grows. If it then polls for all of `poll-max-ns` and never finds anything, the
//!   work did come too late, and polling is put off.
//! * **A client on the same core** cannot run while the thread polls. It shows: polling finds nothing, and as soon as
//!   the thread blocks, the work is there. When that happens again and again ([`SOON_BUDGET`]), polling is put off.
//! * **Only work that polling could have found** is a reason to poll for longer. (QEMU does not poll at all while a
//!   descriptor without a hook is watched, so the question does not arise there.)
//!
//! Polling that is put off is not tried for [`FIRST_PAUSE`] waits, then for twice as many each time, up to
//! [`LONGEST_PAUSE`]. [`PROVEN`] hits after a trial make the next pause a short one again.

/// Polling's first length, QEMU's.
const FIRST_NS: u64 = 4000;
/// The factor that `poll-grow=0` means.
const DEFAULT_GROW: u64 = 2;
/// What a wake-up may add to a wait: a little more than the 20 us to 45 us that were measured.
const WAKE_NS: u64 = 50_000;
/// Work that comes within this time of blocking is likely to have waited for it. Two switches on one core and a
/// client's turn take 5 us; a wake-up from another core that has to leave its idle state takes more than this.
const SOON_NS: u64 = 10_000;
/// What such a wait costs, and what a hit gives back: polling that finds work in two of three waits goes on.
const SOON_COST: u32 = 2;
/// When this is spent, polling is put off. Growing takes two or three such waits even where it succeeds.
const SOON_BUDGET: u32 = 6;
/// Waits of the first pause.
const FIRST_PAUSE: u32 = 16;
/// Waits of the longest pause. A trial costs about 28 us, so those of a hopeless case cost 0.03 us per wait; and a
/// client that moves to another core gets polling back after that many exchanges, well within a second.
const LONGEST_PAUSE: u32 = 1024;
/// Hits without a pause after which the next pause is [`FIRST_PAUSE`].
const PROVEN: u32 = 64;

/// The properties that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) max_ns: u64,
    /// 0: [`DEFAULT_GROW`].
    pub(crate) grow: u64,
    /// 0: back to nothing.
    pub(crate) shrink: u64,
}

/// A wait that ended otherwise than by a hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waited {
    /// Spent polling, in vain.
    pub(crate) polled_ns: u64,
    /// Spent blocked after it.
    pub(crate) blocked_ns: u64,
    /// Whether it ended because a descriptor with a hook was ready.
    pub(crate) found: bool,
}

/// The state: how long to poll now, and whether to.
#[derive(Debug)]
pub(crate) struct Adaptive {
    limits: Limits,
    poll_ns: u64,
    /// Hits since polling last began to grow from nothing, or was last cut back.
    hits: u32,
    /// Of [`SOON_BUDGET`].
    spent: u32,
    /// Waits to be left out still.
    pause: u32,
    next_pause: u32,
}

impl Adaptive {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, poll_ns: 0, hits: 0, spent: 0, pause: 0, next_pause: FIRST_PAUSE }
    }

    /// How long to poll before the next wait; 0: not at all.
    pub(crate) fn limit(&self) -> u64 {
        if self.pause > 0 { 0 } else { self.poll_ns }
    }

    /// Polling found work.
    pub(crate) fn hit(&mut self) {
        self.spent = self.spent.saturating_sub(1);
        self.hits = self.hits.saturating_add(1);
        if self.hits == PROVEN {
            self.next_pause = FIRST_PAUSE;
        }
    }

    /// The thread blocked, and that has ended.
    pub(crate) fn waited(&mut self, wait: Waited) {
        let Limits { max_ns, .. } = self.limits;
        if max_ns == 0 {
            return;
        }
        if self.pause > 0 {
            self.pause -= u32::from(wait.found);
            return;
        }
        if wait.found && wait.polled_ns > 0 && wait.blocked_ns <= SOON_NS {
            self.spent += SOON_COST;
            if self.spent >= SOON_BUDGET {
                return self.put_off();
            }
        }
        let wait_ns = wait.polled_ns.saturating_add(wait.blocked_ns);
        if wait_ns <= self.poll_ns {
            // Long enough; it was cut short by something else.
        } else if wait_ns > max_ns.saturating_add(if wait.found { WAKE_NS } else { 0 }) {
            self.shrink();
        } else if self.poll_ns < max_ns {
            if wait.found {
                self.grow();
            }
        } else if wait_ns <= max_ns {
            // As long as it may be, and cut short.
        } else if self.hits == 0 {
            self.put_off();
        } else {
            self.shrink();
        }
    }

    fn grow(&mut self) {
        let grow = if self.limits.grow == 0 { DEFAULT_GROW } else { self.limits.grow };
        let grown = if self.poll_ns == 0 { FIRST_NS } else { self.poll_ns.saturating_mul(grow) };
        self.poll_ns = grown.min(self.limits.max_ns);
    }

    fn shrink(&mut self) {
        self.poll_ns = self.poll_ns.checked_div(self.limits.shrink).unwrap_or(0);
        self.hits = 0;
    }

    fn put_off(&mut self) {
        self.poll_ns = 0;
        self.hits = 0;
        self.spent = 0;
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Limits = Limits { max_ns: 32768, grow: 0, shrink: 0 };

    /// A peer whose work is there `ready_ns` after a wait begins, and a thread that takes `wake_ns` to wake.
    fn exchange(adaptive: &mut Adaptive, ready_ns: u64, wake_ns: u64) -> u64 {
        let limit = adaptive.limit();
        if limit >= ready_ns {
            adaptive.hit();
            return ready_ns;
        }
        let blocked_ns = ready_ns - limit + wake_ns;
        adaptive.waited(Waited { polled_ns: limit, blocked_ns, found: true });
        ready_ns + wake_ns
    }

    /// A peer that runs only while the thread is blocked.
    fn exchange_on_one_core(adaptive: &mut Adaptive, blocked_ns: u64) -> u64 {
        let polled_ns = adaptive.limit();
        adaptive.waited(Waited { polled_ns, blocked_ns, found: true });
        polled_ns + blocked_ns
    }

    /// The limits after waits of these lengths, each by itself none that looks like one core.
    fn waits(adaptive: &mut Adaptive, waits: &[u64]) -> Vec<u64> {
        waits
            .iter()
            .map(|wait| {
                adaptive.waited(Waited { polled_ns: 0, blocked_ns: *wait, found: true });
                adaptive.limit()
            })
            .collect()
    }

    #[test]
    fn it_grows_and_shrinks_as_in_qemu() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        assert_eq!(adaptive.limit(), 0);
        let wait = 30_000;
        assert_eq!(waits(&mut adaptive, &[wait; 5]), [4000, 8000, 16000, 32000, 32000]);
        // Grows to the bound and no further; a long wait ends it.
        assert_eq!(waits(&mut adaptive, &[32_500, 32_768, 32_768, 100_000]), [32768, 32768, 32768, 0]);

        let mut adaptive = Adaptive::new(Limits { max_ns: 100_000, grow: 3, shrink: 4 });
        assert_eq!(waits(&mut adaptive, &[90_000; 5]), [4000, 12000, 36000, 100_000, 100_000]);
        assert_eq!(waits(&mut adaptive, &[200_000; 3]), [25_000, 6250, 1562]);

        let mut adaptive = Adaptive::new(Limits { max_ns: 1000, grow: 0, shrink: 0 });
        assert_eq!(waits(&mut adaptive, &[900; 2]), [1000, 1000]);
    }

    #[test]
    fn zero_never_polls() {
        let mut adaptive = Adaptive::new(Limits { max_ns: 0, ..DEFAULTS });
        for wait in [1, 4000, 1_000_000] {
            assert_eq!(waits(&mut adaptive, &[wait]), [0]);
        }
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let largest = i64::MAX.unsigned_abs();
        let mut adaptive = Adaptive::new(Limits { max_ns: largest, grow: largest, shrink: largest });
        assert_eq!(waits(&mut adaptive, &[u64::MAX / 2, u64::MAX / 2 - 1]), [4000, largest]);
        waits(&mut adaptive, &[u64::MAX, u64::MAX]);
    }

    #[test]
    fn a_wakeup_slower_than_the_bound_does_not_keep_it_from_polling() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        let times: Vec<_> = (0..100).map(|_| exchange(&mut adaptive, 25_000, 40_000)).collect();
        assert!(times[5..].iter().all(|time| *time == 25_000), "{times:?}");
    }

    #[test]
    fn work_that_comes_too_late_for_polling_is_not_polled_for() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        let mut polled = 0;
        for _ in 0..10_000 {
            polled += adaptive.limit();
            exchange(&mut adaptive, 45_000, 20_000);
        }
        assert!(polled / 10_000 < 500, "{polled} ns");
    }

    #[test]
    fn an_idle_device_costs_one_round_of_polling() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        for _ in 0..10 {
            exchange(&mut adaptive, 2000, 20_000);
        }
        assert_eq!(adaptive.limit(), 4000);
        exchange(&mut adaptive, 10_000_000, 20_000);
        for _ in 0..100 {
            assert_eq!(adaptive.limit(), 0);
            exchange(&mut adaptive, 10_000_000, 20_000);
        }
    }

    #[test]
    fn a_client_on_the_same_core_is_found_out() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        let times: Vec<_> = (0..20_000).map(|_| exchange_on_one_core(&mut adaptive, 5000)).collect();
        let polled = times.iter().sum::<u64>() - 20_000 * 5000;
        assert!(polled < 20_000 * 100, "{polled} ns");
        let last: Vec<_> = times.iter().rev().take(10_000).filter(|time| **time > 5000).collect();
        assert!(last.len() <= 40, "{}", last.len());
    }

    #[test]
    fn hits_now_and_then_do_not_save_polling_on_one_core() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        let mut polled = 0;
        for round in 0..10_000 {
            if round % 2 == 0 && adaptive.limit() > 0 {
                adaptive.hit();
            } else {
                polled += exchange_on_one_core(&mut adaptive, 5000) - 5000;
            }
        }
        assert!(polled < 10_000 * 500, "{polled} ns");
    }

    #[test]
    fn a_client_that_moves_to_its_own_core_is_polled_again_and_soon_trusted() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        for _ in 0..10_000 {
            exchange_on_one_core(&mut adaptive, 5000);
        }
        let until = (0..).position(|_| exchange(&mut adaptive, 3000, 20_000) == 3000).unwrap();
        assert!(until <= LONGEST_PAUSE as usize + 3, "{until}");
        for _ in 0..PROVEN {
            assert_eq!(exchange(&mut adaptive, 3000, 20_000), 3000);
        }
        // Back on the same core: the first pauses are short ones again.
        for _ in 0..10 {
            exchange_on_one_core(&mut adaptive, 5000);
        }
        assert!(adaptive.pause > 0 && adaptive.pause <= FIRST_PAUSE);
    }

    #[test]
    fn what_polling_cannot_find_does_not_make_it_grow() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        for _ in 0..10 {
            adaptive.waited(Waited { polled_ns: 0, blocked_ns: 20_000, found: false });
        }
        assert_eq!(adaptive.limit(), 0);
        exchange(&mut adaptive, 3000, 20_000);
        assert_eq!(adaptive.limit(), 4000);
        adaptive.waited(Waited { polled_ns: 4000, blocked_ns: 60_000, found: false });
        assert_eq!(adaptive.limit(), 0);
    }
}
