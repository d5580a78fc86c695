//! Who is told, and that everything is given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Wake, Waker};

use budget::{Budget, Charge, Holder};
use proptest::prelude::*;

/// How often somebody was woken.
#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Woken {
    fn times(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

fn holder(budget: &Budget) -> (Holder, Arc<Woken>) {
    let woken = Arc::<Woken>::default();
    (budget.holder(woken.clone().into()), woken)
}

#[test]
fn the_largest_is_told_and_woken_and_nobody_else() {
    let budget = Budget::new(1000);
    let [(mut a, a_woken), (mut b, b_woken), (mut c, c_woken)] = [(); 3].map(|()| holder(&budget));
    a.set(300, 0);
    b.set(600, 0);
    assert!(!budget.is_over() && !budget.is_pressed());
    c.set(200, 0);
    assert_eq!([a.is_told(), b.is_told(), c.is_told()], [false, true, false]);
    assert_eq!([a_woken, b_woken, c_woken].map(|woken| woken.times()), [0, 1, 0]);
    // What b will give is expected of it: no other is told meanwhile.
    a.set(350, 0);
    assert!(budget.is_over() && budget.is_pressed() && !a.is_told());
    b.settle(0, 0);
    assert_eq!((budget.used(), budget.is_pressed()), (550, false));
}

#[test]
fn of_equals_it_is_the_one_that_asks_and_it_is_not_woken() {
    let budget = Budget::new(1000);
    let [(mut a, _), (mut b, b_woken), (mut c, _)] = [(); 3].map(|()| holder(&budget));
    a.set(400, 0);
    c.set(400, 0);
    b.set(400, 0);
    assert_eq!([a.is_told(), b.is_told(), c.is_told()], [false, true, false]);
    assert_eq!(b_woken.times(), 0);
}

#[test]
fn who_cannot_give_is_passed_over_and_small_ones_always_are() {
    let budget = Budget::new(2560);
    assert_eq!(budget.floor(), 10);
    let [(mut running, _), (mut small, _), (mut large, _)] = [(); 3].map(|()| holder(&budget));
    running.set(2560, 2555);
    small.set(10, 0);
    assert!(!running.is_told() && !small.is_told(), "over the limit, but nobody can help it");
    large.set(11, 0);
    assert!(large.is_told() && !running.is_told());
    large.settle(0, 0);
    assert!(!budget.is_pressed() && budget.is_over());
}

#[test]
fn one_that_gave_too_little_is_told_again_or_others_are() {
    let budget = Budget::new(1000);
    let [(mut a, _), (mut b, b_woken)] = [(); 2].map(|()| holder(&budget));
    b.set(500, 0);
    a.set(900, 0);
    assert!(a.is_told());
    a.settle(700, 0);
    assert!(a.is_told(), "it is still the largest");
    a.settle(600, 600);
    assert!(!a.is_told() && b.is_told(), "a has no more to give");
    assert_eq!(b_woken.times(), 1);
}

#[test]
fn charges_outlive_their_holder_and_can_be_given_once_they_are_new() {
    let budget = Budget::new(10);
    let (mut a, _) = holder(&budget);
    let account = a.account();
    let charges: Vec<_> = (0..12).map(|_| account.charge(1)).collect();
    a.enforce();
    assert!(a.is_told());
    a.settle(0, a.held());
    assert!(!a.is_told(), "they are stuck");
    drop(charges);
    let new: Vec<Charge> = (0..12).map(|_| account.charge(1)).collect();
    a.enforce();
    assert!(a.is_told(), "these can be given");
    drop(a);
    assert_eq!((budget.used(), budget.is_pressed()), (12, false));
    drop(new);
    assert_eq!(budget.used(), 0);
}

#[test]
fn what_leaves_presses_nobody_however_much_it_is_and_its_account_knows() {
    let budget = Budget::new(10);
    let [(a, _), (mut b, _)] = [(); 2].map(|()| holder(&budget));
    let mut charges: Vec<_> = (0..1000).map(|_| a.account().charge(1)).collect();
    charges.iter_mut().for_each(Charge::leave);
    assert_eq!((a.held(), a.account().leaving(), b.account().leaving()), (0, 1000, 0));
    assert_eq!((budget.used(), budget.is_over()), (1000, false));
    b.set(10, 0);
    b.enforce();
    assert!(!a.is_told() && !b.is_told(), "neither could help it");
    let account = a.account();
    drop((a, charges));
    assert_eq!((budget.used(), account.leaving()), (10, 0));
}

#[test]
fn an_account_says_whom_it_is_for() {
    let budget = Budget::new(10);
    let [a, b] = [Some(7), None].map(|user| budget.holder_for(user, Waker::noop().clone()));
    assert_eq!([a.account().user(), b.account().user()], [Some(7), None]);
    assert_eq!(a.account().key(), a.account().charge(1).account().key());
    assert_ne!(a.account().key(), b.account().key());
}

#[test]
fn small_changes_are_not_counted_and_all_is_given_back() {
    let budget = Budget::new(1 << 30);
    let (mut a, _) = holder(&budget);
    a.set(4095, 0);
    assert_eq!(budget.used(), 0);
    a.set(10_000, 0);
    a.set(9000, 0);
    assert_eq!(budget.used(), 10_000);
    drop(a);
    assert_eq!(budget.used(), 0);
}

#[test]
fn one_is_exempt_at_a_time() {
    let budget = Budget::new(10);
    let [(a, _), (b, _)] = [(); 2].map(|()| holder(&budget));
    let exempt = a.exempt().unwrap();
    assert!(b.exempt().is_none());
    drop(exempt);
    assert!(b.exempt().is_some());
}

/// What a holder does next.
#[derive(Clone, Debug)]
enum Step {
    Set(usize, usize),
    Charge(usize, usize),
    Uncharge(usize),
    Leave(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..8usize, 0..5000usize).prop_map(|(who, held)| Step::Set(who, held)),
        2 => (0..8usize, 0..3000usize).prop_map(|(who, amount)| Step::Charge(who, amount)),
        1 => (0..8usize).prop_map(Step::Uncharge),
        1 => (0..8usize).prop_map(Step::Leave),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens, and if those that are told give at once: the sum is right, what is held is bounded by the limit,
    /// the floors and the charges, and only the largest are told.
    #[test]
    fn the_sum_is_right_and_bounded(steps in steps()) {
        let budget = Budget::new(10_000);
        let mut holders: Vec<_> = (0..8).map(|_| holder(&budget).0).collect();
        let mut held = [0usize; 8];
        let mut charges: Vec<(usize, usize, Charge)> = Vec::new();
        for step in steps {
            match step {
                Step::Set(who, amount) => {
                    // Exactly what is counted, as the grain here is 1 in 256 of the limit.
                    if amount.abs_diff(held[who]) >= budget.floor() {
                        held[who] = amount;
                    }
                    let fixed: usize = charges.iter().filter(|c| c.0 == who).map(|c| c.1).sum();
                    holders[who].set(amount, fixed);
                }
                Step::Charge(who, amount) => {
                    charges.push((who, amount, holders[who].account().charge(amount)));
                    holders[who].enforce();
                }
                Step::Uncharge(who) => charges.retain(|c| c.0 != who),
                Step::Leave(who) => {
                    holders[who] = holder(&budget).0;
                    held[who] = 0;
                    // From here on they are nobody's.
                    charges.iter_mut().filter(|c| c.0 == who).for_each(|c| c.0 = usize::MAX);
                }
            }
            while let Some(who) = holders.iter().position(Holder::is_told) {
                let own = |n: usize| held[n] + charges.iter().filter(|c| c.0 == n).map(|c| c.1).sum::<usize>();
                prop_assert!(own(who) > budget.floor());
                held[who] = 0;
                let fixed = charges.iter().filter(|c| c.0 == who).map(|c| c.1).sum();
                holders[who].settle(0, fixed);
            }
            prop_assert!(!budget.is_pressed());
            let charged: usize = charges.iter().map(|c| c.1).sum();
            prop_assert_eq!(budget.used(), held.iter().sum::<usize>() + charged);
            prop_assert!(budget.used() <= 10_000 + 8 * budget.floor() + charged);
        }
        drop(holders);
        drop(charges);
        prop_assert_eq!(budget.used(), 0);
    }
}

#[test]
fn threads_leave_nothing_behind() {
    let budget = Budget::new(100_000);
    std::thread::scope(|scope| {
        for seed in 0..4usize {
            let budget = &budget;
            scope.spawn(move || {
                for round in 0..200 {
                    let (mut holder, _) = holder(budget);
                    let charge = holder.account().charge(seed + round);
                    for n in 0..20 {
                        holder.set((n * 7919 + seed * 104_729 + round) % 60_000, 0);
                        if holder.is_told() {
                            holder.settle(0, 0);
                        }
                    }
                    drop(holder);
                    drop(charge);
                }
            });
        }
    });
    assert_eq!((budget.used(), budget.is_pressed()), (0, false));
}
