//! What the clients of a plane hold together.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use crate::support::{Client, Toy, ask, built, directory, listen, plain};
use serde_json::{Value, json};
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{Budgets, ControlPlane, MonitorConfig, NamedFdsScope, RunState, Usage};

const NONE: Usage = Usage { memory: 0, fds: 0 };

fn plane(budgets: Budgets) -> ControlPlane {
    built(ControlPlane::builder(Toy::new(RunState::Running)).budgets(budgets))
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

async fn until_nothing_is_held(plane: &ControlPlane) {
    while plane.usage() != NONE {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn getfd_and_add_fd_say_that_clients_hold_too_many() {
    let plane = plane(Budgets::default().fds(4));
    let directory = directory();
    let mut client = Client::new(&listen(&plane, directory.path(), "m").await).await;
    for name in ["a", "b", "c", "d"] {
        client
            .send_fd(&format!("{{\"execute\":\"getfd\",\"arguments\":{{\"fdname\":\"{name}\"}}}}"), &null());
        assert_eq!(client.line().await, "{\"return\": {}}");
    }
    assert_eq!(plane.usage().fds, 4);
    let refused = "{\"error\": {\"class\": \"GenericError\", \"desc\": \
                   \"The file descriptor supplied via SCM_RIGHTS was closed: clients hold too many\"}}";
    client.send_fd("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"e\"}}", &null());
    assert_eq!(client.line().await, refused);
    client.send_fd("{\"execute\":\"add-fd\"}", &null());
    assert_eq!(client.line().await, refused);
    assert_eq!(
        client.ask("{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"a\"}}").await,
        "{\"return\": {}}"
    );
    client.send_fd("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"e\"}}", &null());
    assert_eq!(client.line().await, "{\"return\": {}}");
    drop(client);
    until_nothing_is_held(&plane).await;
}

#[tokio::test]
async fn sets_take_half_of_the_fds_and_short_notes() {
    let plane = plane(Budgets::default().fds(8).memory(16 * 100));
    let directory = directory();
    let path = listen(&plane, directory.path(), "m").await;
    let note = "x".repeat(50);
    for n in 0..2 {
        // Each from a client of its own, which leaves.
        let mut client = Client::new(&path).await;
        client
            .send_fd(&format!("{{\"execute\":\"add-fd\",\"arguments\":{{\"opaque\":\"{note}\"}}}}"), &null());
        assert!(client.line().await.contains(&format!("\"fdset-id\": {n}")));
    }
    let mut client = Client::new(&path).await;
    client.send_fd("{\"execute\":\"add-fd\",\"arguments\":{\"opaque\":\"x\"}}", &null());
    let long = "The 'opaque' texts of all file descriptors in sets are too long";
    assert!(client.line().await.contains(long));
    for _ in 0..2 {
        client.send_fd("{\"execute\":\"add-fd\"}", &null());
        assert!(client.line().await.contains("return"));
    }
    client.send_fd("{\"execute\":\"add-fd\"}", &null());
    assert!(client.line().await.contains("There are too many file descriptors in sets"));
    // The author's own are not counted.
    plane.fd_sets().add(None, None, null()).unwrap();
    drop(client);
    while plane.usage().memory > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(plane.usage().fds, 4, "those in sets outlive who sent them");
    for set in 0..4 {
        plane.fd_sets().remove(set, None).unwrap();
    }
    until_nothing_is_held(&plane).await;
}

#[tokio::test]
async fn names_that_sessions_share_take_a_quarter_of_the_fds() {
    let plane = plane(Budgets::default().fds(16));
    let directory = directory();
    let path = directory.path().join("m.sock");
    let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("c", socket, 128).await.unwrap());
    plane.add_monitor(MonitorConfig::new("m").named_fds(NamedFdsScope::Monitor), &chardev, 64).unwrap();
    let getfd = |n: usize| format!("{{\"execute\":\"getfd\",\"arguments\":{{\"fdname\":\"f{n}\"}}}}");
    for n in 0..4 {
        // Each from a client of its own, which leaves.
        let mut client = Client::new(&path).await;
        client.send_fd(&getfd(n), &null());
        assert_eq!(client.line().await, "{\"return\": {}}");
    }
    let mut client = Client::new(&path).await;
    client.send_fd(&getfd(4), &null());
    assert!(client.line().await.contains("There are too many named file descriptors"));
    client.send_fd(&getfd(0), &null());
    assert_eq!(client.line().await, "{\"return\": {}}", "in place of another");
    let close = "{\"execute\":\"closefd\",\"arguments\":{\"fdname\":\"f1\"}}";
    assert_eq!(client.ask(close).await, "{\"return\": {}}");
    client.send_fd(&getfd(4), &null());
    assert_eq!(client.line().await, "{\"return\": {}}");
    while plane.usage().fds != 4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn who_holds_what_is_listed() {
    let plane = plain(&Toy::new(RunState::Running));
    let directory = directory();
    let path = listen(&plane, directory.path(), "m").await;
    let mut client = Client::new(&path).await;
    client.send_fd("{\"execute\":\"getfd\",\"arguments\":{\"fdname\":\"a\"}}", &null());
    assert_eq!(client.line().await, "{\"return\": {}}");
    client.send(&format!("[\"{}", "x".repeat(40_000))).await;
    let session = plane.connect();
    let listed = loop {
        let monitors = ask(&session, "x-query-monitors", ()).await;
        let listed = monitors[0]["sessions"][0].clone();
        if listed["held-bytes"].as_u64().unwrap() >= 40_000 {
            break listed;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(listed["held-fds"], 1);
    let held = usize::try_from(listed["held-bytes"].as_u64().unwrap()).unwrap();
    assert_eq!(plane.usage(), Usage { memory: held, fds: 1 });
    drop(client);
    until_nothing_is_held(&plane).await;
    let left: Value = ask(&session, "x-query-monitors", ()).await;
    assert_eq!(left[0]["sessions"], json!([]));
}
