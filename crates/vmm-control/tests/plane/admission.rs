//! Who may connect to what clients make, and whose a client is that is handed in.

use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::support::{Client, Toy, ask, ask_with, directory, listen, plain};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use vmm_control::{ControlPlane, LocalSession, RunState};

fn plane() -> ControlPlane {
    plain(&Toy::new(RunState::Running))
}

fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

async fn add(session: &LocalSession, id: &str, address: Value, mut more: Value) -> Value {
    more["addr"] = address;
    ask(session, "chardev-add", json!({"id": id, "backend": {"type": "socket", "data": more}})).await
}

async fn serve(session: &LocalSession, id: &str, mut more: Value) -> Value {
    more["qom-type"] = "monitor-qmp".into();
    more["id"] = format!("m-{id}").into();
    more["chardev"] = id.into();
    ask(session, "object-add", more).await
}

fn unix(path: &Path) -> Value {
    json!({"type": "unix", "data": {"path": path}})
}

/// Whether a client is refused without a byte.
async fn is_refused(path: &Path) -> bool {
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    let mut got = Vec::new();
    let read = tokio::time::timeout(crate::support::PATIENCE, stream.read_to_end(&mut got)).await.unwrap();
    got.is_empty() && read.is_ok_and(|len| len == 0)
}

#[tokio::test]
async fn lists_of_chardevs_and_of_monitors() {
    let ((uid, gid), dir, plane) = (own(), directory(), plane());
    let session = plane.connect();
    let ours = json!({"allowed-uids": [uid + 1], "allowed-gids": [gid]});
    let others = json!({"allowed-uids": [uid + 1], "allowed-gids": [u32::MAX - 7]});
    for (id, of_chardev, of_monitor, mode, admitted) in [
        ("a", json!({}), json!({}), 0o600, true),
        ("b", ours.clone(), json!({}), 0o666, true),
        ("c", others.clone(), json!({}), 0o666, false),
        ("d", json!({}), ours.clone(), 0o600, true),
        ("e", json!({}), others.clone(), 0o600, false),
        // Both must admit.
        ("f", ours.clone(), others.clone(), 0o666, false),
        ("g", others, ours, 0o666, false),
    ] {
        let path = dir.path().join(id);
        assert_eq!(add(&session, id, unix(&path), of_chardev).await, json!({}));
        assert_eq!(serve(&session, id, of_monitor.clone()).await, json!({}));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{id}");
        match admitted {
            true => drop(Client::new(&path).await),
            false => assert!(is_refused(&path).await, "{id}"),
        }
        let get = json!({"path": format!("/objects/m-{id}"), "property": "allowed-gids"});
        let shown = ask(&session, "qom-get", get).await;
        assert_eq!(shown, of_monitor["allowed-gids"], "{id}");
    }
}

#[tokio::test]
async fn a_client_that_is_handed_in_is_held_against_lists() {
    let ((uid, _), dir, plane) = (own(), directory(), plane());
    let session = plane.connect();
    let list = json!({"allowed-uids": [uid + 1]});
    assert_eq!(add(&session, "c", unix(&dir.path().join("c")), list).await, json!({}));
    serve(&session, "c", json!({})).await;
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ask_with(&session, "getfd", json!({"fdname": "a"}), vec![OwnedFd::from(ours)]).await;
    let reply = ask(&session, "add_client", json!({"protocol": "c", "fdname": "a"})).await;
    assert_eq!(reply, "GenericError: failed to add client");
}

/// `chardev-add` with `wait` keeps its session's place for as long as it likes; its client can be handed in no other.
#[tokio::test]
async fn a_command_that_waits_keeps_no_other_out() {
    let (dir, plane) = (directory(), plane());
    let path = listen(&plane, dir.path(), "m").await;
    let mut waits = Client::new(&path).await;
    let target = dir.path().join("never");
    let add = json!({"execute": "chardev-add", "arguments": {"id": "w", "backend": {"type": "socket", "data": {
        "addr": {"type": "unix", "data": {"path": target}}, "server": true, "wait": true}}}});
    waits.send(&add.to_string()).await;
    // 63 that say nothing fill it; whoever comes then gets in all the same.
    let mut idle = Vec::new();
    for _ in 0..63 {
        idle.push(UnixStream::connect(&path).unwrap());
    }
    for _ in 0..3 {
        let mut client = Client::new(&path).await;
        assert_eq!(client.ask("{\"execute\":\"query-name\"}").await, "{\"return\": {}}");
    }
    let mut last = Client::new(&path).await;
    last.ask("{\"execute\":\"chardev-remove\",\"arguments\":{\"id\":\"w\"}}").await;
    assert!(waits.line().await.contains("it was removed while it waited"));
}

#[cfg(feature = "tcp")]
mod tcp {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn inet(host: &str) -> Value {
        json!({"type": "inet", "data": {"host": host, "port": "0", "ipv6": false}})
    }

    #[tokio::test]
    async fn other_hosts_are_let_in_only_where_that_is_said() {
        let (plane, session) = {
            let plane = plane();
            let session = plane.connect();
            (plane, session)
        };
        for host in ["", "0.0.0.0"] {
            let refused = add(&session, "c", inet(host), json!({})).await;
            let text = refused.as_str().unwrap();
            assert!(
                text.starts_with("GenericError: Failed to add chardev 'c': Listening on 0.0.0.0:0 would"),
                "{text}"
            );
            assert!(text.ends_with("or insecure=on if that is meant"), "{text}");
        }
        assert_eq!(add(&session, "c", inet(""), json!({"insecure": true})).await, json!({}));
        assert_eq!(add(&session, "d", inet("127.0.0.1"), json!({"insecure": false})).await, json!({}));
        let refused = add(&session, "e", inet("127.0.0.1"), json!({"allowed-gids": [0]})).await;
        assert_eq!(
            refused,
            "GenericError: Failed to add chardev 'e': 'allowed-gids' needs a listening unix socket"
        );
        drop(plane);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn strict_is_a_property() {
        let plane = plane();
        let session = plane.connect();
        for (id, properties, answers) in [("a", json!({}), 1), ("b", json!({"strict": false}), 3)] {
            assert_eq!(add(&session, id, inet("127.0.0.1"), json!({})).await, json!({}));
            assert_eq!(serve(&session, id, properties.clone()).await, json!({}));
            let get = json!({"path": format!("/objects/m-{id}"), "property": "strict"});
            let strict = ask(&session, "qom-get", get).await;
            assert_eq!(strict, *properties.get("strict").unwrap_or(&json!(true)));
            let at = plane.chardevs().get(id).unwrap().local_addr().unwrap();
            let mut client = TcpStream::connect(at).unwrap();
            client.write_all(b"]\n{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-name\"}").unwrap();
            client.shutdown(std::net::Shutdown::Write).unwrap();
            let mut said = Vec::new();
            let _ = client.read_to_end(&mut said);
            let said = String::from_utf8(said).unwrap();
            // A reset may have taken what was said to one who is none.
            assert!(said.lines().count() <= answers + 1, "{said}");
            assert_eq!(said.contains("return"), answers > 1, "{said}");
        }
    }
}
