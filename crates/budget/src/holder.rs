//! One holder, and what is counted for it.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Waker;

use crate::{Budget, Shared};

/// What a holder holds may differ by less than this from what it is counted for: so most changes cost nothing.
const GRAIN: usize = 4096;

/// A holder as the budget sees it.
pub(crate) struct Holding {
    budget: Budget,
    held: AtomicUsize,
    /// What of it cannot be given.
    fixed: AtomicUsize,
    /// What it has let go of, and is not gone yet.
    leaving: AtomicUsize,
    /// Whose it is, if that is known.
    user: Option<u32>,
    told: AtomicBool,
    wake: Waker,
}

impl Holding {
    pub(crate) fn new(budget: Budget, user: Option<u32>, wake: Waker) -> Self {
        let (held, fixed, leaving) = Default::default();
        Self { budget, held, fixed, leaving, user, told: AtomicBool::new(false), wake }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    pub(crate) fn can_give(&self) -> usize {
        self.held().saturating_sub(self.fixed.load(Ordering::Relaxed))
    }

    pub(crate) fn is_told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    pub(crate) fn tell(&self) {
        self.told.store(true, Ordering::Release);
    }

    /// Says whether it was told.
    pub(crate) fn untell(&self) -> bool {
        self.told.swap(false, Ordering::AcqRel)
    }

    pub(crate) fn wake(&self) {
        self.wake.wake_by_ref();
    }

    fn take(&self, amount: usize) {
        self.held.fetch_add(amount, Ordering::Relaxed);
        self.budget.0.used.fetch_add(amount, Ordering::Relaxed);
    }

    fn give(&self, amount: usize) {
        let left = self.held.fetch_sub(amount, Ordering::Relaxed) - amount;
        // What is fixed is a part of what is held.
        self.fixed.fetch_min(left, Ordering::Relaxed);
        self.budget.0.used.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// One of those that hold. Dropped, it holds nothing more, but for what its [`Charge`]s go on counting.
pub struct Holder {
    holding: Arc<Holding>,
    /// What [`set`](Self::set) has counted.
    counted: usize,
}

impl Holder {
    pub(crate) fn new(holding: Arc<Holding>) -> Self {
        Self { holding, counted: 0 }
    }

    /// It holds so much now, `fixed` of which it could not give if it were told (beside its charges). A difference of less
    /// than 4096 from what is counted is left alone; what is fixed is always noted. May find that it must give itself: see
    /// [`is_told`](Self::is_told).
    pub fn set(&mut self, held: usize, fixed: usize) {
        if held.abs_diff(self.counted) < GRAIN.min(self.holding.budget.0.floor) {
            self.holding.fixed.store(fixed, Ordering::Relaxed);
            return;
        }
        if self.count(held, fixed) {
            self.enforce();
        }
    }

    /// Counts, and says whether that was more than before.
    fn count(&mut self, held: usize, fixed: usize) -> bool {
        let before = std::mem::replace(&mut self.counted, held);
        match held.checked_sub(before) {
            Some(more) => self.holding.take(more),
            None => self.holding.give(before - held),
        }
        self.holding.fixed.store(fixed, Ordering::Relaxed);
        held > before
    }

    /// Looks whether there is too much, after [`Charge`]s were made.
    pub fn enforce(&self) {
        self.holding.budget.0.enforce(&self.holding);
    }

    /// Whether it must give.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.holding.is_told()
    }

    /// It has given what it could: it holds so much now, `fixed` of which it cannot give. If that was not enough, others
    /// are told, or it is once more.
    pub fn settle(&mut self, held: usize, fixed: usize) {
        self.count(held, fixed);
        if self.holding.untell() {
            self.holding.budget.0.gave();
        }
        self.enforce();
    }

    /// Takes this holder out of the limit for one thing of any size, if nobody else is: the caller does not count it for as
    /// long as it keeps what it gets here.
    #[must_use]
    pub fn exempt(&self) -> Option<Exempt> {
        let Budget(budget) = &self.holding.budget;
        let free = budget.exempt.compare_exchange(false, true, Ordering::Relaxed, Ordering::Relaxed);
        free.is_ok().then(|| Exempt(budget.clone()))
    }

    /// The budget that it is counted in.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.holding.budget
    }

    /// How much is counted for it.
    #[must_use]
    pub fn held(&self) -> usize {
        self.holding.held()
    }

    /// For whatever is to be counted for it and may outlive it.
    #[must_use]
    pub fn account(&self) -> Account {
        Account(self.holding.clone())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.holding.budget.0.leave(&self.holding);
        self.holding.give(self.counted);
    }
}

impl fmt::Debug for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Holder").field("held", &self.held()).field("told", &self.is_told()).finish()
    }
}

/// Where [`Charge`]s go. A clone is the same.
#[derive(Clone)]
pub struct Account(Arc<Holding>);

impl Account {
    /// Counts so much until what comes back is dropped. Nobody is told before [`Holder::enforce`] is called.
    #[must_use]
    pub fn charge(&self, amount: usize) -> Charge {
        self.0.take(amount);
        Charge { account: self.clone(), amount, leaving: false }
    }

    /// How much is counted for its holder.
    #[must_use]
    pub fn held(&self) -> usize {
        self.0.held()
    }

    /// How much its holder has let go of that is [not gone yet](Charge::leave).
    #[must_use]
    pub fn leaving(&self) -> usize {
        self.0.leaving.load(Ordering::Relaxed)
    }

    /// Which user its holder [acts for](crate::Budget::holder_for), if that is known.
    #[must_use]
    pub fn user(&self) -> Option<u32> {
        self.0.user
    }

    /// Tells accounts apart: no two that are there at once have the same.
    #[must_use]
    pub fn key(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Whether a charge was made here.
    #[must_use]
    pub fn has(&self, charge: &Charge) -> bool {
        Arc::ptr_eq(&self.0, &charge.account.0)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account").field("held", &self.held()).finish()
    }
}

/// A part of what is held, for as long as it lives.
#[derive(Debug)]
pub struct Charge {
    account: Account,
    amount: usize,
    leaving: bool,
}

impl Charge {
    /// Its holder has let go of what is charged, which will be gone in a while. From now on nobody is told because of it. The
    /// budget still knows of it, and [who let go of it](Account::leaving).
    pub fn leave(&mut self) {
        if !std::mem::replace(&mut self.leaving, true) {
            self.account.0.leaving.fetch_add(self.amount, Ordering::Relaxed);
            self.account.0.budget.0.leaving.fetch_add(self.amount, Ordering::Relaxed);
            self.account.0.give(self.amount);
        }
    }

    /// Where it was made.
    #[must_use]
    pub fn account(&self) -> &Account {
        &self.account
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        match self.leaving {
            true => {
                self.account.0.leaving.fetch_sub(self.amount, Ordering::Relaxed);
                self.account.0.budget.0.leaving.fetch_sub(self.amount, Ordering::Relaxed);
            }
            false => self.account.0.give(self.amount),
        }
    }
}

/// Something that is held and not counted; one of a budget at a time.
pub struct Exempt(Arc<Shared>);

impl Drop for Exempt {
    fn drop(&mut self) {
        self.0.exempt.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for Exempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exempt").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use crate::Budget;

    /// Less than this changes nothing that is counted.
    const LITTLE: usize = 100;

    #[test]
    fn what_is_fixed_is_noted_though_nothing_else_changes() {
        let budget = Budget::with_floor(1 << 20, 1 << 13);
        let [mut a, mut b] = [(); 2].map(|()| budget.holder(Waker::noop().clone()));
        // It runs, and cannot be given; then it is output of about that size, which can.
        a.set(1 << 20, 1 << 20);
        a.set((1 << 20) - LITTLE, 0);
        b.set(1 << 19, 0);
        assert!(a.is_told() && !b.is_told());
        a.settle(0, 0);
        // And the other way round.
        b.set((1 << 19) + LITTLE, 1 << 19);
        a.set(1 << 20, 0);
        assert!(a.is_told() && !b.is_told());
    }
}
