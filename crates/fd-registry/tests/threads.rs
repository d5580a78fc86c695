//! Many threads at once. Alone in its process, because it counts the process's descriptors.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::sync::Barrier;
use std::thread;

use fd_registry::{FdSets, NamedFds};
use rustix::fs::OFlags;

const THREADS: usize = 8;
const ROUNDS: usize = 300;

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// One test, so that nothing else opens descriptors meanwhile.
#[test]
fn nothing_is_lost_and_no_number_is_given_twice() {
    let before = open_fds();
    numbers_are_unique_and_lowest();
    assert_eq!(open_fds(), before);
    all_calls_at_once();
    assert_eq!(open_fds(), before);
    names_change_hands();
    assert_eq!(open_fds(), before);
}

/// All adders get different numbers, and together the lowest ones.
fn numbers_are_unique_and_lowest() {
    let (sets, start) = (FdSets::new(), Barrier::new(THREADS));
    let each = 20;
    let add = || {
        start.wait();
        (0..each).map(|_| sets.add(None, None, null()).unwrap().set).collect::<Vec<_>>()
    };
    let given: Vec<i64> = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(add)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    let lowest: BTreeSet<i64> = (0_i64..).take(THREADS * each).collect();
    assert_eq!(given.len(), lowest.len());
    assert_eq!(given.into_iter().collect::<BTreeSet<_>>(), lowest);
}

/// Adding, opening, removing and listing race; in the end everything is gone and the lowest number free again.
fn all_calls_at_once() {
    let (sets, start) = (FdSets::new(), Barrier::new(THREADS));
    let work = &|thread: usize| {
        start.wait();
        for round in 0..ROUNDS {
            let named = (round + thread).is_multiple_of(3).then_some(2);
            let added = sets.add(named, Some(format!("{thread}")), null()).unwrap();
            // Another thread may have emptied a set that was named; one's own number is one's own.
            let dup = sets.open(&format!("/dev/fdset/{}", added.set), OFlags::RDONLY);
            let set = sets.query().into_iter().find(|set| set.id == added.set);
            assert!(named.is_some() || (dup.is_ok() && set.is_some()));
            let removed = sets.remove(added.set, Some(added.fd.into()));
            assert!(removed.is_ok(), "only its adder removes a descriptor");
            drop(dup);
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || work(thread));
        }
    });
    assert!(sets.query().is_empty());
    assert_eq!(sets.add(None, None, null()).unwrap().set, 0);
}

fn names_change_hands() {
    let (fds, start) = (NamedFds::new(), Barrier::new(THREADS));
    let work = || {
        start.wait();
        for round in 0..ROUNDS {
            drop(fds.insert(format!("{}", round % 5), null()).unwrap());
            drop(fds.take(&format!("{}", (round + 2) % 5)));
            fds.close(&format!("{}", (round + 3) % 5));
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    assert!(fds.len() <= 5);
}
