//! Any sequence of calls does what a plain map with plain lists would do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use fd_registry::{DupFd, FdSets};
use proptest::prelude::*;
use rustix::fs::OFlags;

#[derive(Debug, Clone)]
enum Call {
    Add(Option<i64>),
    Remove(i64, Option<usize>),
    Open(i64),
    Close(usize),
}

fn call() -> impl Strategy<Value = Call> {
    prop_oneof![
        prop::option::of(0..5_i64).prop_map(Call::Add),
        (0..5_i64, prop::option::of(0..3_usize)).prop_map(|(set, nth)| Call::Remove(set, nth)),
        (0..5_i64).prop_map(Call::Open),
        (0..4_usize).prop_map(Call::Close),
    ]
}

#[derive(Default)]
struct Model {
    /// Descriptors, oldest first, and the number of duplicates.
    sets: BTreeMap<i64, (Vec<i64>, usize)>,
}

impl Model {
    fn tidy(&mut self) {
        self.sets.retain(|_, (fds, dups)| !fds.is_empty() || *dups > 0);
    }

    fn lowest_free(&self) -> i64 {
        (0..).find(|id| !self.sets.contains_key(id)).unwrap()
    }
}

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

fn run(calls: Vec<Call>) {
    let (sets, mut model, mut dups) = (FdSets::new(), Model::default(), Vec::<DupFd>::new());
    for call in calls {
        match call {
            Call::Add(set) => {
                let expected = set.unwrap_or_else(|| model.lowest_free());
                let added = sets.add(set, None, null()).unwrap();
                assert_eq!(added.set, expected);
                model.sets.entry(expected).or_default().0.push(added.fd.into());
            }
            Call::Remove(set, nth) => {
                let known = model.sets.get_mut(&set);
                let fd =
                    nth.map(|nth| known.as_ref().and_then(|(fds, _)| fds.get(nth).copied()).unwrap_or(-1));
                let found = known.is_some() && fd != Some(-1);
                assert_eq!(sets.remove(set, fd).is_ok(), found);
                if let Some((fds, _)) = known {
                    fds.retain(|one| fd.is_some_and(|fd| *one != fd));
                }
            }
            Call::Open(set) => {
                let has = model.sets.get(&set).is_some_and(|(fds, _)| !fds.is_empty());
                let opened = sets.open(&format!("/dev/fdset/{set}"), OFlags::RDONLY);
                assert_eq!(opened.is_ok(), has);
                if let Ok(dup) = opened {
                    dups.push(dup);
                    model.sets.entry(set).or_default().1 += 1;
                }
            }
            Call::Close(nth) if nth < dups.len() => {
                let dup = dups.remove(nth);
                model.sets.entry(dup.set()).and_modify(|(_, dups)| *dups -= 1);
            }
            Call::Close(_) => {}
        }
        model.tidy();
        let listed = sets
            .query()
            .into_iter()
            .map(|set| (set.id, set.fds.into_iter().map(|fd| i64::from(fd.fd)).collect::<Vec<_>>()));
        let expected = model.sets.iter().rev().map(|(id, (fds, _))| (*id, fds.clone()));
        assert!(listed.eq(expected));
    }
}

proptest! {
    #[test]
    fn like_the_model(calls in prop::collection::vec(call(), 0..60)) {
        run(calls);
    }
}
