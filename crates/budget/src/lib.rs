//! Counts what many holders hold of something scarce, and finds the one that must give when it is too much.
//!
//! A [`Budget`] has a limit. Whoever makes others hold something (a session with a client) is a [`Holder`] of it, and
//! says how much it holds, or has each piece counted by a [`Charge`]. When all together hold more than the limit,
//! those that hold most are *told*, one after another, until what they could give would do. Being told is a flag, and
//! its task is woken; it gives on its own task, and says so with [`Holder::settle`].
//!
//! Invariants:
//!
//! * nobody is told that could give no more than the [floor](Budget::floor), so who holds next to nothing never pays for
//!   who holds much. What is held in all is therefore bounded by the limit, the floors of all, what nobody can give
//!   ([`Holder::set`]), and what is taken between being told and giving;
//! * of several that hold equally much, the one that asked for more is told;
//! * what is counted is given back when its [`Holder`] and its [`Charge`]s are dropped, to the last unit: with none of
//!   them left, [`Budget::used`] is exactly 0.
//!
//! Counting costs two atomic additions, and none where little has changed. The list of holders is behind a lock, which
//! is taken when a holder comes and goes, and while there is too much. Nothing is called under it.
//!
//! ```
//! use budget::Budget;
//! use std::task::Waker;
//!
//! let fds = Budget::new(100);
//! // Nobody sleeps here.
//! let mut a = fds.holder(Waker::noop().clone());
//! let mut b = fds.holder(Waker::noop().clone());
//! a.set(80, 0);
//! b.set(30, 0);
//! assert!(a.is_told() && !b.is_told());
//! // What a has given up.
//! a.settle(5, 0);
//! assert!(!a.is_told() && fds.used() == 35);
//! drop((a, b));
//! assert_eq!(fds.used(), 0);
//! ```

mod holder;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

pub use holder::{Account, Charge, Exempt, Holder};

use holder::Holding;

/// Unless said otherwise, the floor is this part of the limit.
const FLOORS: usize = 256;

/// Something scarce. A clone is a handle to the same.
#[derive(Clone)]
pub struct Budget(Arc<Shared>);

pub(crate) struct Shared {
    limit: usize,
    floor: usize,
    /// What all hold.
    used: AtomicUsize,
    /// What its holders have let go of, and is not gone yet.
    leaving: AtomicUsize,
    /// Holders that have been told and have not given yet.
    told: AtomicUsize,
    /// Somebody is exempt.
    exempt: AtomicBool,
    holders: Mutex<Vec<Arc<Holding>>>,
}

impl Budget {
    /// A budget of so much, in whatever unit; `usize::MAX` for no limit. Its floor is a 256th of that.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_floor(limit, limit / FLOORS)
    }

    /// The same, with another floor; at least 1.
    #[must_use]
    pub fn with_floor(limit: usize, floor: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            floor: floor.max(1),
            used: AtomicUsize::new(0),
            leaving: AtomicUsize::new(0),
            told: AtomicUsize::new(0),
            exempt: AtomicBool::new(false),
            holders: Mutex::default(),
        }))
    }

    /// How much all together may hold.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// How much is counted now.
    #[must_use]
    pub fn used(&self) -> usize {
        self.0.used.load(Ordering::Relaxed) + self.0.leaving.load(Ordering::Relaxed)
    }

    /// What a holder may always have.
    #[must_use]
    pub fn floor(&self) -> usize {
        self.0.floor
    }

    /// Whether more is held than may be.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.pressing() > self.0.limit
    }

    /// Whether a holder has been told to give and has not given yet: it would be well to let it have its turn before
    /// anything is made.
    #[must_use]
    pub fn is_pressed(&self) -> bool {
        self.0.told.load(Ordering::Relaxed) > 0
    }

    /// A new holder, which holds nothing. It is woken when it is told to give, from any thread, under no lock.
    #[must_use]
    pub fn holder(&self, wake: Waker) -> Holder {
        self.holder_for(None, wake)
    }

    /// The same, which acts for a user of the system, if it is known for which: [`Account::user`] says it.
    #[must_use]
    pub fn holder_for(&self, user: Option<u32>, wake: Waker) -> Holder {
        let holding = Arc::new(Holding::new(self.clone(), user, wake));
        self.0.holders().push(holding.clone());
        Holder::new(holding)
    }
}

impl fmt::Debug for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Budget").field("limit", &self.limit()).field("used", &self.used()).finish()
    }
}

impl Shared {
    fn holders(&self) -> MutexGuard<'_, Vec<Arc<Holding>>> {
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is weighed against the limit. What is about to go is not, however slowly it goes: others could give what they have,
    /// and it would be there all the same. Who lets go of much that stays is known by [`Account::leaving`].
    fn pressing(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Tells those that hold most, until what they can give would do. `asking`: who has just taken more.
    fn enforce(&self, asking: &Arc<Holding>) {
        if self.pressing() <= self.limit {
            return;
        }
        let mut woken = Vec::new();
        {
            let holders = self.holders();
            let told = holders.iter().filter(|holder| holder.is_told());
            let mut expected: usize = told.map(|holder| holder.can_give()).sum();
            while self.pressing().saturating_sub(expected) > self.limit {
                let may = holders.iter().filter(|h| !h.is_told() && h.can_give() > self.floor);
                let Some(most) = may.max_by_key(|h| (h.held(), Arc::ptr_eq(h, asking))) else { break };
                expected = expected.saturating_add(most.can_give());
                most.tell();
                self.told.fetch_add(1, Ordering::Relaxed);
                if !Arc::ptr_eq(most, asking) {
                    woken.push(most.clone());
                }
            }
        }
        woken.iter().for_each(|holder| holder.wake());
    }

    /// A holder is no longer told.
    fn gave(&self) {
        self.told.fetch_sub(1, Ordering::Relaxed);
    }

    fn leave(&self, holding: &Arc<Holding>) {
        let mut holders = self.holders();
        holders.retain(|holder| !Arc::ptr_eq(holder, holding));
        if holding.untell() {
            self.gave();
        }
    }
}

/// Keeps the example in the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
