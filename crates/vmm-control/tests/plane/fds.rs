//! Fds that clients pass: names of a session, sets of a plane.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::support::{Client, Toy, ask, ask_with, directory, listen, plain};
use rustix::fs::{OFlags, fstat};
use serde_json::{Value, json};
use vmm_control::{ControlPlane, RunState};

fn plane() -> ControlPlane {
    plain(&Toy::new(RunState::Running))
}

fn null() -> OwnedFd {
    File::open("/dev/null").unwrap().into()
}

#[tokio::test]
async fn getfd_names_an_fd_for_its_session() {
    let plane = plane();
    let (session, other) = (plane.connect(), plane.connect());
    let name = json!({"fdname": "tap"});
    assert_eq!(ask_with(&session, "getfd", &name, vec![null()]).await, json!({}));
    assert_eq!(session.state().named_fds().names(), ["tap"]);
    let missing = "GenericError: File descriptor named 'tap' not found";
    assert_eq!(ask(&other, "closefd", &name).await, missing, "another session has names of its own");
    assert_eq!(ask(&session, "closefd", &name).await, json!({}));
    assert_eq!(ask(&session, "closefd", &name).await, missing);
}

#[tokio::test]
async fn getfd_replaces_and_closes_what_had_the_name() {
    let session = plane().connect();
    let (mut reader, writer) = std::io::pipe().unwrap();
    let name = json!({"fdname": "tap"});
    assert_eq!(ask_with(&session, "getfd", &name, vec![writer.into()]).await, json!({}));
    assert_eq!(ask_with(&session, "getfd", &name, vec![null()]).await, json!({}));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "the writing end is closed");
    assert_eq!(session.state().named_fds().len(), 1);
}

#[tokio::test]
async fn getfd_takes_the_first_fd_whatever_it_says_then() {
    let session = plane().connect();
    let none = "GenericError: No file descriptor supplied via SCM_RIGHTS";
    assert_eq!(ask(&session, "getfd", json!({"fdname": "tap"})).await, none);
    assert_eq!(ask(&session, "getfd", json!({"fdname": "1"})).await, none, "this comes before the name");
    let (mut reader, writer) = std::io::pipe().unwrap();
    assert_eq!(
        ask_with(&session, "getfd", json!({"fdname": "1tap"}), vec![writer.into()]).await,
        "GenericError: Parameter 'fdname' expects a name not starting with a digit"
    );
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "an fd that gets no name is closed");
    assert_eq!(
        ask_with(&session, "getfd", json!({"fdname": "t".repeat(1025)}), vec![null()]).await,
        "GenericError: Parameter 'fdname' expects at most 1024 bytes"
    );
    let longest = json!({"fdname": "t".repeat(1024)});
    assert_eq!(ask_with(&session, "getfd", longest, vec![null()]).await, json!({}));
    assert_eq!(ask(&session, "getfd", ()).await, "GenericError: Parameter 'fdname' is missing");
    assert_eq!(ask_with(&session, "getfd", json!({"fdname": ""}), vec![null()]).await, json!({}));
}

#[tokio::test]
async fn add_fd_fills_sets_that_all_sessions_see() {
    let plane = plane();
    let (session, other) = (plane.connect(), plane.connect());
    let fds = [null(), null(), null()];
    let numbers = fds.each_ref().map(AsRawFd::as_raw_fd);
    let [a, b, c] = fds;
    let added = ask_with(&session, "add-fd", (), vec![a]).await;
    assert_eq!(added, json!({"fd": numbers[0], "fdset-id": 0}));
    let added = ask_with(&session, "add-fd", json!({"fdset-id": 7, "opaque": "disk"}), vec![b]).await;
    assert_eq!(added, json!({"fd": numbers[1], "fdset-id": 7}));
    let added = ask_with(&other, "add-fd", json!({"fdset-id": 7, "opaque": ""}), vec![c]).await;
    assert_eq!(added, json!({"fd": numbers[2], "fdset-id": 7}));
    let expected = json!([
        {"fdset-id": 7, "fds": [{"fd": numbers[1], "opaque": "disk"}, {"fd": numbers[2], "opaque": ""}]},
        {"fdset-id": 0, "fds": [{"fd": numbers[0]}]},
    ]);
    assert_eq!(ask(&other, "query-fdsets", ()).await, expected);

    let remove = json!({"fdset-id": 7, "fd": numbers[1]});
    assert_eq!(ask(&other, "remove-fd", &remove).await, json!({}));
    let gone = format!("GenericError: File descriptor named 'fdset-id:7, fd:{}' not found", numbers[1]);
    assert_eq!(ask(&session, "remove-fd", &remove).await, gone);
    assert_eq!(ask(&session, "remove-fd", json!({"fdset-id": 7})).await, json!({}));
    assert_eq!(
        ask(&session, "remove-fd", json!({"fdset-id": 7})).await,
        "GenericError: File descriptor named 'fdset-id:7' not found"
    );
    assert_eq!(ask(&session, "remove-fd", json!({"fdset-id": 0})).await, json!({}));
    assert_eq!(ask(&session, "query-fdsets", ()).await, json!([]));
}

#[tokio::test]
async fn add_fd_refuses_in_qemus_words() {
    let session = plane().connect();
    assert_eq!(ask(&session, "add-fd", ()).await, "GenericError: No file descriptor supplied via SCM_RIGHTS");
    assert_eq!(
        ask_with(&session, "add-fd", json!({"fdset-id": -1}), vec![null()]).await,
        "GenericError: Parameter 'fdset-id' expects a non-negative value"
    );
    assert_eq!(
        ask(&session, "add-fd", json!({"fdset-id": "1"})).await,
        "GenericError: Invalid parameter type for 'fdset-id', expected: integer"
    );
    assert_eq!(ask(&session, "remove-fd", ()).await, "GenericError: Parameter 'fdset-id' is missing");
}

/// The way of an fd from a client to a file name that the VMM opens.
#[tokio::test]
async fn what_a_client_adds_the_vmm_opens() {
    let (plane, dir) = (plane(), directory());
    let mut client = Client::new(&listen(&plane, dir.path(), "q").await).await;
    let mut log = tempfile::tempfile().unwrap();
    let sent: OwnedFd = log.try_clone().unwrap().into();
    client.send_fd(r#"{"execute": "add-fd", "arguments": {"fdset-id": 3, "opaque": "log"}}"#, &sent);
    let reply: Value = serde_json::from_str(&client.line().await).unwrap();
    assert_eq!(reply["return"]["fdset-id"], 3);

    let opened = plane.fd_sets().open("/dev/fdset/3", OFlags::RDWR).unwrap();
    assert_eq!(fstat(&opened).unwrap().st_ino, fstat(&sent).unwrap().st_ino);
    File::from(opened.try_clone().unwrap()).write_all(b"a line").unwrap();
    log.rewind().unwrap();
    let mut text = String::new();
    log.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a line");

    // Removed, the set stays while the duplicate is in use. From a handle, it is the same set.
    client.ask(r#"{"execute": "remove-fd", "arguments": {"fdset-id": 3}}"#).await;
    assert_eq!(
        client.ask(r#"{"execute": "query-fdsets"}"#).await,
        r#"{"return": [{"fds": [], "fdset-id": 3}]}"#
    );
    assert!(plane.handle().fd_sets().open("/dev/fdset/3", OFlags::RDWR).is_err());
    drop(opened);
    assert_eq!(client.ask(r#"{"execute": "query-fdsets"}"#).await, r#"{"return": []}"#);
    plane.close().await;
}

#[tokio::test]
async fn sets_outlive_the_client_and_names_do_not() {
    let (plane, dir) = (plane(), directory());
    let path = listen(&plane, dir.path(), "q").await;
    let mut first = Client::new(&path).await;
    let (mut reader, writer) = std::io::pipe().unwrap();
    let writer: OwnedFd = writer.into();
    first.send_fd(r#"{"execute": "getfd", "arguments": {"fdname": "tap"}}"#, &writer);
    assert_eq!(first.line().await, "{\"return\": {}}");
    drop(writer);
    first.send_fd(r#"{"execute": "add-fd"}"#, &null());
    first.line().await;
    drop(first);
    // Ends when the last writing end is closed, which the session held.
    let read = tokio::task::spawn_blocking(move || reader.read(&mut [0]).unwrap());
    assert_eq!(tokio::time::timeout(crate::support::PATIENCE, read).await.unwrap().unwrap(), 0);
    assert_eq!(plane.fd_sets().query().len(), 1);
    plane.close().await;
}
