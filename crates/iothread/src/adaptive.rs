//! How long polling pays: the decisions of adaptive polling, without a clock, a descriptor or a thread.
//!
//! The event loop asks [`Adaptive::limit`] how long to poll before a wait, and tells afterwards how it went: polling
//! found work ([`Adaptive::hit`]), or the thread blocked ([`Adaptive::waited`]); and how long the turn was, the work
//! included ([`Adaptive::turn`]). All times are arguments, in nanoseconds.
//!
//! The rule is QEMU 7.2's. A wait is taken from its start, polling included, to its end. One that was no longer than
//! the present time of polling leaves it as it is. A longer one makes it grow, unless it was longer than
//! `poll-max-ns`: then polling would have been in vain, and its time shrinks. Four things are added:
//!
//! * **A wait ends later than its work arrives**, by the time that it takes to wake the thread: 20 us to 45 us from one
//!   core of a virtual machine to another, as long as `poll-max-ns` itself. So a wait may exceed `poll-max-ns` by
//!   [`WAKE_NS`] and polling still grows, and is not cut back. If it then polls for all of `poll-max-ns` and has never
//!   found anything, the work did come too late, and polling is put off.
//! * **A client on the same core** cannot run while the thread polls. It shows: polling finds nothing, and as soon as
//!   the thread blocks, the work is there. After [`SOON_WAITS`] of this in a row polling is put off.
//! * **Polling has to be faster than not polling.** Hits alone do not show that: the kernel may let a client on the same
//!   core run after a while, and polling finds its work, later than a thread that had slept would have. So the turns
//!   with polling, [`WINDOW`] at a time, are compared with the turns without; if they are longer, polling is put off.
//! * **Only work that polling could have found** is a reason to poll for longer. (QEMU does not poll at all while a
//!   descriptor without a hook is watched, so the question does not arise there.)
//!
//! Polling that is put off is not tried for [`FIRST_PAUSE`] waits, then for twice as many each time, up to
//! [`LONGEST_PAUSE`]. Each window in which it was worth it halves the next pause.

/// Polling's first length, QEMU's.
const FIRST_NS: u64 = 4000;
/// The factor that `poll-grow=0` means.
const DEFAULT_GROW: u64 = 2;
/// What a wake-up may add to a wait: a little more than the 20 us to 45 us that were measured.
const WAKE_NS: u64 = 50_000;
/// Work that comes within this time of blocking is likely to have waited for it. Two switches on one core and a
/// client's turn take 5 us; a wake-up from another core that has to leave its idle state takes more than this.
const SOON_NS: u64 = 10_000;
/// Growing takes two such waits even where it succeeds.
const SOON_WAITS: u32 = 3;
/// Turns with polling that are judged together.
const WINDOW: u32 = 32;
/// Windows after which what they are compared with is taken anew, at the price of a first pause: one turn in 256.
const FRESH_WINDOWS: u32 = 128;
/// Turns without polling that make something to compare with, and the weight of the newest: one in so many.
const REFERENCE_TURNS: u32 = 8;
/// Waits of the first pause. Enough for a reference.
const FIRST_PAUSE: u32 = 16;
/// Waits of the longest pause. A trial in vain costs 30 us, or a window of slower turns, so those of a hopeless case
/// are lost in the noise; and a client that moves to another core gets polling back after that many exchanges, well
/// within a second.
const LONGEST_PAUSE: u32 = 1024;

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
    /// Whether polling has found something since it last began to grow from nothing, or was last cut back.
    found: bool,
    /// Of [`SOON_WAITS`].
    soon: u32,
    /// Waits to be left out still.
    pause: u32,
    next_pause: u32,
    with: Window,
    without: Reference,
}

/// Turns with polling since the last judgement.
#[derive(Debug, Default)]
struct Window {
    turns: u32,
    sum_ns: u64,
}

/// Turns without polling: their mean, of which older ones are a lesser part.
#[derive(Debug, Default)]
struct Reference {
    turns: u32,
    mean_ns: u64,
    /// Windows that were compared with it.
    used: u32,
}

impl Reference {
    fn add(&mut self, turn_ns: u64) {
        self.turns = self.turns.saturating_add(1);
        let weight = u64::from(self.turns.min(REFERENCE_TURNS));
        self.mean_ns = (self.mean_ns * (weight - 1) + turn_ns) / weight;
    }

    fn is_good(&self) -> bool {
        self.turns >= REFERENCE_TURNS && self.used < FRESH_WINDOWS
    }
}

impl Adaptive {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            poll_ns: 0,
            found: false,
            soon: 0,
            pause: 0,
            next_pause: FIRST_PAUSE,
            with: Window::default(),
            without: Reference::default(),
        }
    }

    /// How long to poll before the next wait; 0: not at all.
    pub(crate) fn limit(&self) -> u64 {
        if self.pause > 0 { 0 } else { self.poll_ns }
    }

    /// Polling found work.
    pub(crate) fn hit(&mut self) {
        self.found = true;
        self.soon = 0;
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
            self.soon += 1;
            if self.soon == SOON_WAITS {
                return self.put_off();
            }
        } else {
            self.soon = 0;
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
        } else if !self.found && wait_ns > max_ns {
            self.put_off();
        }
    }

    /// A wait ended with work for a handler that has a hook, and the work has been done: all that took so long, per
    /// call of a handler. `polled`: there was polling in it, in vain or not.
    pub(crate) fn turn(&mut self, polled: bool, turn_ns: u64) {
        // A turn without anything to do says nothing, but one that polling made late counts.
        let turn_ns = turn_ns.min(self.limits.max_ns.saturating_add(WAKE_NS).saturating_mul(2));
        if !polled {
            return self.without.add(turn_ns);
        }
        self.with.turns += 1;
        self.with.sum_ns = self.with.sum_ns.saturating_add(turn_ns);
        if self.with.turns < WINDOW {
            return;
        }
        let mean_ns = self.with.sum_ns / u64::from(WINDOW);
        self.with = Window::default();
        if !self.without.is_good() {
            // Look what it is like without, and go on from here.
            self.without = Reference::default();
            self.pause = FIRST_PAUSE;
        } else if mean_ns > self.without.mean_ns {
            self.put_off();
        } else {
            self.without.used += 1;
            self.next_pause = (self.next_pause / 2).max(FIRST_PAUSE);
        }
    }

    fn grow(&mut self) {
        let grow = if self.limits.grow == 0 { DEFAULT_GROW } else { self.limits.grow };
        let grown = if self.poll_ns == 0 { FIRST_NS } else { self.poll_ns.saturating_mul(grow) };
        self.poll_ns = grown.min(self.limits.max_ns);
    }

    fn shrink(&mut self) {
        self.poll_ns = self.poll_ns.checked_div(self.limits.shrink).unwrap_or(0);
        self.found = false;
    }

    fn put_off(&mut self) {
        self.poll_ns = 0;
        self.found = false;
        self.soon = 0;
        self.with = Window::default();
        self.without = Reference::default();
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(LONGEST_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Limits = Limits { max_ns: 32768, grow: 0, shrink: 0 };

    /// What a handler does takes so long.
    const WORK: u64 = 2000;

    /// A peer whose work is there `ready_ns` after a wait begins, and a thread that takes `wake_ns` to wake. Gives the
    /// length of the wait.
    fn exchange(adaptive: &mut Adaptive, ready_ns: u64, wake_ns: u64) -> u64 {
        let limit = adaptive.limit();
        let wait_ns = if limit >= ready_ns {
            adaptive.hit();
            ready_ns
        } else {
            let blocked_ns = ready_ns - limit + wake_ns;
            adaptive.waited(Waited { polled_ns: limit, blocked_ns, found: true });
            ready_ns + wake_ns
        };
        adaptive.turn(limit > 0, wait_ns + WORK);
        wait_ns
    }

    /// A peer that runs only while the thread is blocked.
    fn exchange_on_one_core(adaptive: &mut Adaptive, blocked_ns: u64) -> u64 {
        let polled_ns = adaptive.limit();
        adaptive.waited(Waited { polled_ns, blocked_ns, found: true });
        adaptive.turn(polled_ns > 0, polled_ns + blocked_ns + WORK);
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
        let times: Vec<_> = (0..30).map(|_| exchange(&mut adaptive, 25_000, 40_000)).collect();
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
    fn hits_that_come_later_than_sleep_would_have_ended_do_not_save_polling() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        let mut polled = 0;
        for round in 0..100_000 {
            let limit = adaptive.limit();
            if round % 4 > 0 && limit >= 8000 {
                // The kernel takes the core from the polling thread, and its client has its turn.
                polled += 8000;
                adaptive.hit();
                adaptive.turn(true, 13_000 + WORK);
            } else {
                polled += exchange_on_one_core(&mut adaptive, 5000) - 5000;
            }
        }
        assert!(polled < 100_000 * 500, "{polled} ns");
    }

    #[test]
    fn polling_that_finds_half_of_it_goes_on_if_that_is_faster() {
        for (late, wake, pays) in [(20_000, 20_000, true), (60_000, 3000, false)] {
            let mut adaptive = Adaptive::new(DEFAULTS);
            let waits = (0..10_000).map(|round| {
                let ready = if round % 2 == 0 { 2000 } else { late };
                exchange(&mut adaptive, ready, wake)
            });
            let mean = waits.sum::<u64>() / 10_000;
            let without = (2000 + late) / 2 + wake;
            assert_eq!(mean < without - without / 10, pays, "{mean}, {without} without");
        }
    }

    #[test]
    fn work_that_begins_to_come_later_is_followed() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        for ready in [3000, 30_000, 3000, 30_000] {
            let times: Vec<_> = (0..60).map(|_| exchange(&mut adaptive, ready, 20_000)).collect();
            let slow = times.iter().filter(|time| **time > ready).count();
            assert!(slow <= 5 + FIRST_PAUSE as usize, "{slow} for {ready}");
        }
    }

    #[test]
    fn a_client_that_moves_to_its_own_core_is_polled_again_and_soon_trusted() {
        let mut adaptive = Adaptive::new(DEFAULTS);
        for _ in 0..10_000 {
            exchange_on_one_core(&mut adaptive, 5000);
        }
        let until = (0..).position(|_| exchange(&mut adaptive, 3000, 20_000) == 3000).unwrap();
        assert!(until <= LONGEST_PAUSE as usize + 3, "{until}");
        let times: Vec<_> = (0..100_000).map(|_| exchange(&mut adaptive, 3000, 20_000)).collect();
        let slow = times.iter().filter(|time| **time > 3000).count();
        assert!(slow <= 100_000 / 250 + 2, "{slow}");
        // Back on the same core: the first pauses are short ones again.
        let until = (0..).position(|_| {
            exchange_on_one_core(&mut adaptive, 5000);
            adaptive.limit() == 0
        });
        assert!(until.unwrap() <= SOON_WAITS as usize, "{until:?}");
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
