//! What runs beside what.

use crate::support::{Gate, by_hand, client, router, shown};
use qmp_command::layers::permit::Permit;
use qmp_command::{Command, Router};
use tokio_test::{assert_pending, assert_ready};

#[test]
fn exclusive_commands_run_one_at_a_time_in_order_of_arrival_across_sessions() {
    let (a, b) = (Gate::new(), Gate::new());
    let router = router([a.exclusive("a"), b.exclusive("b")]);
    let mut first = by_hand(&router, "a", client(1));
    let mut second = by_hand(&router, "b", client(2));
    let mut third = by_hand(&router, "a", client(3));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    assert_eq!((a.started(), b.started()), (1, 0));

    a.open();
    assert!(first.is_woken());
    assert_eq!(shown(assert_ready!(first.poll())), "{}");
    drop(first);
    // The third asked after the second: it does not get ahead of it, though it is polled first.
    assert_pending!(third.poll());
    assert!(second.is_woken());
    assert_pending!(second.poll());
    assert_eq!((a.started(), b.started()), (1, 1));

    b.open();
    assert!(assert_ready!(second.poll()).is_ok());
    drop(second);
    assert!(third.is_woken());
    assert_pending!(third.poll());
    assert_eq!(a.started(), 2);
    a.open();
    assert!(assert_ready!(third.poll()).is_ok());
}

#[test]
fn others_run_beside_an_exclusive_command_and_each_other() {
    let (exclusive, reads, changes) = (Gate::new(), Gate::new(), Gate::new());
    let router = router([
        exclusive.exclusive("exclusive"),
        reads.behind(Command::new("reads").read_only()),
        changes.behind(Command::new("changes").concurrent()),
    ]);
    let names = ["exclusive", "reads", "changes", "reads", "changes"];
    let mut calls: Vec<_> =
        names.into_iter().zip(1..).map(|(name, n)| by_hand(&router, name, client(n))).collect();
    for call in &mut calls {
        assert_pending!(call.poll());
    }
    assert_eq!((exclusive.started(), reads.started(), changes.started()), (1, 2, 2));

    // And an exclusive one starts while others run.
    exclusive.open();
    assert!(assert_ready!(calls.remove(0).poll()).is_ok());
    let mut next = by_hand(&router, "exclusive", client(1));
    assert_pending!(next.poll());
    assert_eq!(exclusive.started(), 2);
}

#[test]
fn a_waiting_call_that_is_dropped_is_not_started() {
    let (holder, never, after) = (Gate::new(), Gate::new(), Gate::new());
    let router = router([holder.exclusive("holder"), never.exclusive("never"), after.exclusive("after")]);
    let mut held = by_hand(&router, "holder", client(1));
    let mut gone = by_hand(&router, "never", client(2));
    let mut waits = by_hand(&router, "after", client(3));
    assert_pending!(held.poll());
    assert_pending!(gone.poll());
    assert_pending!(waits.poll());
    drop(gone);
    holder.open();
    assert!(assert_ready!(held.poll()).is_ok());
    drop(held);
    assert!(waits.is_woken());
    assert_pending!(waits.poll());
    assert_eq!((never.started(), after.started()), (0, 1));
}

#[test]
fn a_call_whose_turn_has_come_gives_it_up_when_it_is_dropped() {
    let gate = Gate::new();
    let router = router([gate.exclusive("x")]);
    let mut first = by_hand(&router, "x", client(1));
    let mut second = by_hand(&router, "x", client(2));
    let mut third = by_hand(&router, "x", client(3));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(third.poll());
    gate.open();
    assert!(assert_ready!(first.poll()).is_ok());
    drop(first);
    // The permit is the second's now, which has not noticed yet.
    drop(second);
    assert!(third.is_woken());
    assert_pending!(third.poll());
    assert_eq!(gate.started(), 2);
}

#[test]
fn a_refused_call_waits_for_nobody() {
    let gate = Gate::new();
    let router = router([gate.exclusive("x")]);
    let mut running = by_hand(&router, "x", client(1));
    assert_pending!(running.poll());
    let mut unknown = by_hand(&router, "y", client(2));
    assert!(assert_ready!(unknown.poll()).is_err());
    let mut oob = by_hand(&router, "x", client(2).with_oob(true));
    assert!(assert_ready!(oob.poll()).is_err());
}

#[test]
fn routers_share_a_permit_when_they_are_given_one() {
    let gate = Gate::new();
    let permit = Permit::new();
    let build = || Router::builder().permit(permit.clone()).command(gate.exclusive("x")).build().unwrap();
    let (one, other, apart) = (build(), build(), router([gate.exclusive("x")]));
    let mut first = by_hand(&one, "x", client(1));
    let mut second = by_hand(&other, "x", client(2));
    let mut independent = by_hand(&apart, "x", client(3));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    assert_pending!(independent.poll());
    assert_eq!(gate.started(), 2, "the first, and the one of the router that has its own permit");
}
