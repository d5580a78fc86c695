//! The list of system calls: what is made of it, and that the document shows it.

use std::collections::HashSet;

use thread_start::system_calls::markdown;
use thread_start::{SYSTEM_CALLS, ThreadKind};

#[test]
fn the_document_shows_the_list() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/SECCOMP.md");
    let there = std::fs::read_to_string(path).unwrap();
    let now = markdown();
    let stale = "docs/SECCOMP.md: the table is stale, replace it by what this prints: \
                 cargo run -p thread-start --example system_calls";
    assert!(there.contains(&now), "{stale}");
}

#[test]
fn no_kind_makes_a_call_twice() {
    for kind in ThreadKind::ALL {
        let mut seen = HashSet::new();
        for call in kind.system_calls() {
            assert!(seen.insert(call.name), "{} is listed twice for {kind}", call.name);
        }
    }
    assert!(SYSTEM_CALLS.iter().all(|call| !call.kinds.is_empty() && !call.reason.is_empty()));
}

#[test]
fn a_filter_has_room_for_all_threads_that_are_started_under_it() {
    for kind in ThreadKind::ALL {
        let outer = kind.filter();
        for inner in kind.starts().iter().flat_map(|started| started.filter()) {
            let same = outer.iter().find(|call| call.name == inner.name).unwrap();
            assert!(inner.optional || !same.optional, "{kind} answers {} with an error", inner.name);
        }
    }
}

#[test]
fn what_serves_devices_neither_opens_nor_connects_nor_executes() {
    let calls = ThreadKind::IoThread.filter();
    for name in ["open", "openat2", "socket", "connect", "bind", "listen", "execve", "ptrace", "kill"] {
        assert!(!calls.iter().any(|call| call.name == name), "{name}");
    }
    assert!(calls.iter().any(|call| call.name == "openat" && call.optional));
    let plane = ThreadKind::Plane.filter();
    assert!(plane.iter().any(|call| call.name == "openat" && !call.optional));
    assert!(!plane.iter().any(|call| call.name == "execve"));
}
