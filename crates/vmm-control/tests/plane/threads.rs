//! The threads that a plane starts.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use vmm_control::{ControlPlane, RunState, ThreadKind};

use crate::support::Toy;

/// Kind, name and blocked signals of each thread that has started.
type Seen = Arc<Mutex<Vec<(ThreadKind, String, u64)>>>;

fn blocked() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn watched() -> (ControlPlane, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let plane = ControlPlane::builder(Toy::new(RunState::Running))
        .on_thread_start(move |kind, name| noted.lock().unwrap().push((kind, name.to_owned(), blocked())))
        .build()
        .unwrap();
    (plane, seen)
}

#[tokio::test]
async fn each_thread_is_announced_with_its_signals_blocked() {
    let (plane, seen) = watched();
    let session = plane.connect();
    for object in [
        json!({"qom-type": "iothread", "id": "io0"}),
        json!({"qom-type": "memory-backend-ram", "id": "m0", "size": 65536, "prealloc": true}),
    ] {
        session.call("object-add", &object).await.unwrap();
    }
    let listed: Value = session.execute("query-iothreads", &()).await.unwrap();
    plane.close().await;
    // Other planes of this process have descriptors closed.
    let mut seen = seen.lock().unwrap().clone();
    seen.retain(|(kind, ..)| *kind != ThreadKind::FdCloser);
    let kinds: Vec<_> = seen.iter().map(|(kind, name, _)| (*kind, name.as_str())).collect();
    let (helper, iothread) = (ThreadKind::Helper, ThreadKind::IoThread);
    assert_eq!(kinds, [(iothread, "IO io0"), (helper, "prealloc"), (helper, "plane-end")]);
    // HUP, INT, USR1, USR2, ALRM, TERM, CHLD.
    let some = [1, 2, 10, 12, 14, 15, 17].into_iter().fold(0, |bits, signal| bits | 1_u64 << (signal - 1));
    assert!(seen.iter().all(|(.., blocked)| blocked & some == some), "{seen:x?}");
    assert_eq!(listed[0]["id"], "io0");
}

#[tokio::test]
async fn a_hook_that_panics_makes_object_add_fail_and_no_more() {
    let plane = ControlPlane::builder(Toy::new(RunState::Running))
        .on_thread_start(|kind, _| assert!(kind != ThreadKind::IoThread, "not today"))
        .build()
        .unwrap();
    let session = plane.connect();
    let add = json!({"qom-type": "iothread", "id": "io0"});
    let error = session.call("object-add", &add).await.unwrap_err();
    assert_eq!(error.to_string(), "the iothread's start hook panicked");
    assert_eq!(session.execute::<_, Value>("query-iothreads", &()).await.unwrap(), json!([]));
    plane.close().await;
}
