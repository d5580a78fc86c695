//! What clients make stops before the process is out of fds. In a process of its own, whose limit it lowers.

#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use vmm_control::{ControlPlane, LocalError, RunState, RunStateCell};

const LIMIT: u64 = 128;

#[tokio::test]
async fn objects_and_chardevs_leave_a_reserve() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), maximum }).unwrap();
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap();
    let session = plane.connect();
    let mut made = 0;
    let error = loop {
        let arguments = json!({"qom-type": "iothread", "id": format!("io{made}")});
        match session.call("object-add", &arguments).await {
            Ok(()) => made += 1,
            Err(LocalError::Command(error)) => break error,
            Err(other) => panic!("{other}"),
        }
        assert!(made < 1000, "it ends some time");
    };
    // A reserve of 16, and the budget of clients' fds.
    let reason = "Too many open files: the last 48 that the process may have are kept for what runs already and for file \
                  descriptors that clients pass";
    assert_eq!((&*error.desc, made > 10), (reason, true));
    let chardev = json!({"id": "c", "backend": {"type": "null", "data": {}}});
    let error = session.call("chardev-add", &chardev).await.unwrap_err();
    assert_eq!(error.to_string(), reason);
    // There is still something for those who run.
    let files: Vec<_> = (0..42).map(|_| File::open("/dev/null").unwrap()).collect();
    drop(files);
    // What goes makes room.
    session.call("object-del", &json!({"id": "io0"})).await.unwrap();
    session.call("object-add", &json!({"qom-type": "iothread", "id": "again"})).await.unwrap();
    plane.close().await;
}
