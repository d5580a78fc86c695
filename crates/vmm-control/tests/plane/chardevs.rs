//! Chardevs that come and go at run time. All texts are QEMU 7.2's, unless a test says otherwise.

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{Client, Toy, ask, ask_with, built, directory, listen, plain};
use serde_json::{Value, json};
use vmm_control::chardev::{Backend, Chardev};
use vmm_control::{ChardevError, ControlPlane, LocalSession, MonitorConfig, MonitorError, RunState};

fn plane() -> ControlPlane {
    plain(&Toy::new(RunState::Running))
}

async fn add(session: &LocalSession, id: &str, kind: &str, data: Value) -> Value {
    ask(session, "chardev-add", json!({"id": id, "backend": {"type": kind, "data": data}})).await
}

/// Adds a socket that listens (or not) at `path`, with more to say.
async fn add_unix(session: &LocalSession, id: &str, path: &Path, mut more: Value) -> Value {
    more["addr"] = json!({"type": "unix", "data": {"path": path}});
    add(session, id, "socket", more).await
}

fn error(text: &str) -> Value {
    Value::from(format!("GenericError: {text}"))
}

/// Label, file name and whether a monitor has it, in the order of `query-chardev`.
async fn listed(session: &LocalSession) -> Vec<(String, String, bool)> {
    let list = ask(session, "query-chardev", ()).await;
    let text = |info: &Value, key: &str| info[key].as_str().unwrap().to_owned();
    let info = |info: &Value| (text(info, "label"), text(info, "filename"), info["frontend-open"] == true);
    list.as_array().unwrap().iter().map(info).collect()
}

/// A '/' is nothing special in a chardev's id, but it is in the path of an object.
#[tokio::test]
async fn an_id_with_a_slash_leaves_nothing_in_the_object_tree() {
    let plane = plane();
    let session = plane.connect();
    let before = ask(&session, "qom-list", json!({"path": "/chardevs"})).await;
    for id in ["1", "x/1", "/"] {
        assert_eq!(add(&session, id, "null", json!({})).await, json!({}), "{id}");
        assert_eq!(ask(&session, "chardev-remove", json!({"id": id})).await, json!({}), "{id}");
        assert_eq!(ask(&session, "qom-list", json!({"path": "/chardevs"})).await, before, "{id}");
    }
    plane.close().await;
}

#[tokio::test]
async fn added_listed_removed() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    assert_eq!(add(&session, "c", "null", json!({})).await, json!({}));
    assert_eq!(add(&session, "c", "null", json!({})).await, error("Chardev with id 'c' already exists"));
    let file = dir.path().join("f");
    assert_eq!(add(&session, "f", "file", json!({"out": file, "append": true})).await, json!({}));
    let path = dir.path().join("s");
    assert_eq!(add_unix(&session, "s", &path, json!({})).await, json!({}));
    let unix = format!("disconnected:unix:{},server=on", path.display());
    let mut all = listed(&session).await;
    all.sort();
    let row = |label: &str, filename: &str| (label.to_owned(), filename.to_owned(), false);
    assert_eq!(all, [row("c", "null"), row("f", "file"), row("s", &unix)]);
    for id in ["c", "f", "s"] {
        assert_eq!(ask(&session, "chardev-remove", json!({"id": id})).await, json!({}));
    }
    assert!(!path.exists() && file.exists());
    assert_eq!(ask(&session, "chardev-remove", json!({"id": "c"})).await, error("Chardev 'c' not found"));
    // Any text is an id, as in QEMU.
    for id in ["", "1x", "a/b"] {
        assert_eq!(add(&session, id, "null", json!({})).await, json!({}));
    }
}

#[tokio::test]
async fn backends() {
    let list = ask(&plane().connect(), "query-chardev-backends", ()).await;
    let names: Vec<_> = list.as_array().unwrap().iter().map(|info| info["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["file", "socket", "null", "pipe", "stdio"]);
}

#[tokio::test]
async fn what_a_monitor_uses_stays() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let path = listen(&plane, dir.path(), "m").await;
    let filename = format!("disconnected:unix:{},server=on", path.display());
    assert_eq!(listed(&session).await, [("m".to_owned(), filename, true)]);
    let busy = error("Chardev 'm' is busy");
    assert_eq!(ask(&session, "chardev-remove", json!({"id": "m"})).await, busy);
    assert!(plane.remove_monitor("m").await);
    assert_eq!(ask(&session, "chardev-remove", json!({"id": "m"})).await, json!({}));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_monitor_on_a_chardev_that_was_added() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let path = dir.path().join("s");
    add_unix(&session, "s", &path, json!({})).await;
    let chardev = plane.chardevs().get("s").unwrap();
    plane.add_monitor(MonitorConfig::new("m"), &chardev, 2).unwrap();
    drop(chardev);
    Client::new(&path).await;
    plane.close().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_id_is_one_chardevs() {
    let plane = plane();
    let null = async || Arc::new(Chardev::open("n", Backend::Null, 1).await.unwrap());
    let first = null().await;
    plane.add_monitor(MonitorConfig::new("a"), &first, 1).unwrap();
    let error = plane.add_monitor(MonitorConfig::new("b"), &null().await, 1).unwrap_err();
    assert!(matches!(error, MonitorError::Registry(ChardevError::Exists(id)) if id == "n"));
    assert_eq!(plane.chardevs().list().len(), 1);
}

#[tokio::test]
async fn what_fails_leaves_nothing_behind() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let path = dir.path().join("s");
    let nope = dir.path().join("nope/x");
    let failed = |why: &str| error(&format!("Failed to add chardev 's': {why}"));
    let shown = nope.display();
    assert_eq!(
        add_unix(&session, "s", &nope, json!({})).await,
        failed(&format!("Failed to bind socket to {shown}: No such file or directory"))
    );
    assert_eq!(
        add_unix(&session, "s", &nope, json!({"server": false})).await,
        failed(&format!("Failed to connect to '{shown}': No such file or directory"))
    );
    for (more, why) in [
        (json!({"reconnect": 0}), "'reconnect' option is incompatible with socket in server listen mode"),
        (
            json!({"server": false, "wait": false}),
            "'wait' option is incompatible with socket in client connect mode",
        ),
        (json!({"tls-creds": "t"}), "No TLS credentials with id 't'"),
        (json!({"tls-authz": "t"}), "'tls_authz' option requires 'tls_creds' option"),
        (json!({"server": false, "websocket": true}), "Websocket client is not implemented"),
        // Ours: QEMU has these.
        (json!({"websocket": true}), "'websocket' is not supported"),
        (json!({"telnet": true}), "'telnet' is not supported"),
        (json!({"tn3270": true}), "'tn3270' is not supported"),
        (json!({"logfile": nope}), &*format!("Could not create '{shown}': No such file or directory")),
    ] {
        assert_eq!(add_unix(&session, "s", &path, more).await, failed(why));
    }
    let open = format!("Could not open '{shown}': No such file or directory");
    assert_eq!(add(&session, "s", "file", json!({"out": nope})).await, failed(&open));
    assert_eq!(add(&session, "s", "pipe", json!({"device": nope})).await, failed(&open));
    assert_eq!(
        add(&session, "s", "file", json!({"out": "/dev/fdset/9"})).await,
        failed("Could not open '/dev/fdset/9': No such file or directory")
    );
    assert_eq!(
        add(&session, "s", "file", json!({"out": "/dev/fdset/x"})).await,
        failed("Could not open '/dev/fdset/x': Invalid argument")
    );
    assert!(plane.chardevs().list().is_empty() && !path.exists());
    // What contradicts nothing.
    assert_eq!(add_unix(&session, "s", &path, json!({"telnet": false, "nodelay": true})).await, json!({}));
}

#[tokio::test]
async fn a_client_that_connects_again() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let path = dir.path().join("s");
    for seconds in [1, i64::MAX] {
        let more = json!({"server": false, "reconnect": seconds});
        assert_eq!(add_unix(&session, "s", &path, more).await, json!({}));
        let chardev = plane.chardevs().get("s").unwrap();
        let mut front_end = chardev.front_end(1).unwrap();
        let next = tokio::time::timeout(Duration::from_millis(20), front_end.next()).await;
        assert!(next.is_err(), "nobody is there");
        drop(front_end);
        ask(&session, "chardev-remove", json!({"id": "s"})).await;
    }
    let failed = format!(
        "Failed to add chardev 's': Failed to connect to '{}': No such file or directory",
        path.display()
    );
    for seconds in [0, -5] {
        let more = json!({"server": false, "reconnect": seconds});
        assert_eq!(add_unix(&session, "s", &path, more).await, error(&failed));
    }
}

#[tokio::test]
async fn a_socket_by_the_name_of_an_fd() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let name = json!({"fdname": "x"});
    let data = json!({"addr": {"type": "fd", "data": {"str": "x"}}, "server": false});
    let failed = |why: &str| error(&format!("Failed to add chardev 's': {why}"));
    let missing = failed("File descriptor named 'x' has not been found");
    assert_eq!(add(&session, "s", "socket", data.clone()).await, missing);

    let (ours, mut theirs) = UnixStream::pair().unwrap();
    ask_with(&session, "getfd", &name, vec![ours.into()]).await;
    let mut again = data.clone();
    again["reconnect"] = 1.into();
    let incompatible = failed("'reconnect' option is incompatible with 'fd' address type");
    assert_eq!(add(&session, "s", "socket", again).await, incompatible, "the fd is still there");
    assert_eq!(add(&session, "s", "socket", data.clone()).await, json!({}));
    assert_eq!(listed(&session).await[0].1, "unix:");
    let gone = error("File descriptor named 'x' not found");
    assert_eq!(ask(&session, "closefd", &name).await, gone);
    ask(&session, "chardev-remove", json!({"id": "s"})).await;
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);

    let (mut reader, writer) = std::io::pipe().unwrap();
    ask_with(&session, "getfd", &name, vec![writer.into()]).await;
    let no_socket = failed("File descriptor 'x' is not a socket");
    assert_eq!(add(&session, "s", "socket", data.clone()).await, no_socket);
    assert_eq!(ask(&session, "closefd", &name).await, gone, "it is gone whatever came of it");
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);

    let server = json!({"addr": {"type": "fd", "data": {"str": "x"}}});
    let (ours, _theirs) = UnixStream::pair().unwrap();
    ask_with(&session, "getfd", &name, vec![ours.into()]).await;
    let cannot_listen = failed("Failed to listen on fd socket: Invalid argument");
    assert_eq!(add(&session, "s", "socket", server.clone()).await, cannot_listen);

    let path = dir.path().join("l");
    let listener = UnixListener::bind(&path).unwrap();
    ask_with(&session, "getfd", &name, vec![listener.into()]).await;
    assert_eq!(add(&session, "s", "socket", server).await, json!({}));
    assert_eq!(listed(&session).await[0].1, format!("disconnected:unix:{},server=on", path.display()));
}

#[tokio::test]
async fn files_from_an_fd_set() {
    let plane = plane();
    let session = plane.connect();
    let (mut reader, writer) = std::io::pipe().unwrap();
    ask_with(&session, "add-fd", json!({"fdset-id": 1}), vec![writer.into()]).await;
    assert_eq!(add(&session, "f", "file", json!({"out": "/dev/fdset/1"})).await, json!({}));
    let denied = error("Failed to add chardev 'p': Could not open '/dev/fdset/1': Permission denied");
    assert_eq!(add(&session, "p", "pipe", json!({"device": "/dev/fdset/1"})).await, denied);
    // The set is in use until the chardev has gone.
    ask(&session, "remove-fd", json!({"fdset-id": 1})).await;
    assert_eq!(ask(&session, "query-fdsets", ()).await, json!([{"fds": [], "fdset-id": 1}]));
    ask(&session, "chardev-remove", json!({"id": "f"})).await;
    assert_eq!(ask(&session, "query-fdsets", ()).await, json!([]));
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
}

/// QEMU's main loop waits, with all monitors.
#[tokio::test]
async fn waiting_for_a_client_holds_up_nobody_else() {
    let (plane, dir) = (plane(), directory());
    let path = dir.path().join("s");
    let arguments = json!({"id": "s", "backend": {"type": "socket", "data":
        {"addr": {"type": "unix", "data": {"path": path}}, "wait": true}}});
    let (asking, session) = (plane.connect(), plane.connect());
    let waiting = tokio::spawn(async move { ask(&asking, "chardev-add", arguments).await });
    while listed(&session).await.is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&session, "stop", ()).await, json!({}));
    let exists = error("Chardev with id 's' already exists");
    assert_eq!(add(&session, "s", "null", json!({})).await, exists);
    assert!(!waiting.is_finished());
    let _client = UnixStream::connect(&path).unwrap();
    assert_eq!(waiting.await.unwrap(), json!({}));
    assert_eq!(listed(&session).await[0].1, format!("unix:{},server=on", path.display()));
}

#[tokio::test]
async fn waiting_ends_with_the_chardev_and_with_the_plane() {
    let dir = directory();
    let removed = error("Failed to add chardev 's': it was removed while it waited");
    for close in [false, true] {
        let plane = plane();
        let (asking, session) = (plane.connect(), plane.connect());
        let data = json!({"addr": {"type": "unix", "data": {"path": dir.path().join("s")}}, "wait": true});
        let waiting = tokio::spawn(async move { add(&asking, "s", "socket", data).await });
        while listed(&session).await.is_empty() {
            tokio::task::yield_now().await;
        }
        if close {
            plane.close().await;
        } else {
            assert_eq!(ask(&session, "chardev-remove", json!({"id": "s"})).await, json!({}));
        }
        assert_eq!(waiting.await.unwrap(), removed);
    }
}

#[tokio::test]
async fn before_the_machine_there_is_only_the_list() {
    let plane = built(ControlPlane::builder(Toy::new(RunState::Prelaunch)).preconfig(true));
    let session = plane.connect();
    assert_eq!(ask(&session, "query-chardev", ()).await, json!([]));
    for command in
        ["chardev-add", "chardev-remove", "query-chardev-backends", "query-yank", "yank", "add_client"]
    {
        let refused =
            format!("The command '{command}' is permitted only after machine initialization has completed");
        assert_eq!(ask(&session, command, ()).await, error(&refused));
    }
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn tcp() {
    let plane = plane();
    let session = plane.connect();
    let inet = |mut data: Value, server: bool| {
        data["host"] = data.get("host").cloned().unwrap_or_else(|| "127.0.0.1".into());
        json!({"addr": {"type": "inet", "data": data}, "server": server, "insecure": server})
    };
    let listening = json!({"port": "0", "numeric": true, "ipv4": true, "keep-alive": true});
    assert_eq!(add(&session, "l", "socket", inet(listening, true)).await, json!({}));
    let address = plane.chardevs().get("l").unwrap().local_addr().unwrap();
    assert_eq!(listed(&session).await[0].1, format!("disconnected:tcp:{address},server=on"));
    let port = address.port().to_string();
    let connected = json!({"port": port, "keep-alive": true});
    assert_eq!(add(&session, "c", "socket", inet(connected, false)).await, json!({}));
    for (data, server, why) in [
        (json!({"port": port}), true, "Failed to find an available port: Address already in use"),
        (
            json!({"host": "192.0.2.1", "port": "1"}),
            true,
            "Failed to bind socket: Cannot assign requested address",
        ),
        (
            json!({"port": "0", "ipv4": false, "ipv6": false}),
            true,
            "Cannot disable IPv4 and IPv6 at same time",
        ),
        (
            json!({"port": "x"}),
            false,
            "address resolution failed for 127.0.0.1:x: Servname not supported for ai_socktype",
        ),
        (
            json!({"port": "7", "ipv6": true}),
            true,
            "address resolution failed for 127.0.0.1:7: Address family for hostname not supported",
        ),
        (
            json!({"host": "host", "port": "7", "numeric": true}),
            true,
            "address resolution failed for host:7: Name or service not known",
        ),
        (json!({"port": "0", "mptcp": true}), true, "'mptcp' is not supported"),
    ] {
        let failed = error(&format!("Failed to add chardev 's': {why}"));
        assert_eq!(add(&session, "s", "socket", inet(data, server)).await, failed);
    }
    let arguments = inet(json!({"port": "0", "to": 70000}), true);
    // QEMU leaves the path out.
    assert_eq!(add(&session, "s", "socket", arguments).await, error("Parameter 'to' expects uint16_t"));
}

#[tokio::test]
async fn a_policy_goes_for_types() {
    use vmm_control::{Policy, Rules};
    let (plane, dir) = (plane(), directory());
    let rules = Rules::new().deny(["chardev-add:file"]).unwrap();
    let config = MonitorConfig::new("m").policy(Policy::from(rules));
    let path = crate::support::listen_as(&plane, dir.path(), config).await;
    let mut client = Client::new(&path).await;
    let add = |kind: &str, data: &str| {
        format!(
            r#"{{"execute": "chardev-add", "arguments": {{"id": "{kind}", "backend": {{"type": "{kind}", "data": {data}}}}}}}"#
        )
    };
    assert_eq!(client.ask(&add("null", "{}")).await, r#"{"return": {}}"#);
    let refused = client.ask(&add("file", r#"{"out": "/dev/null"}"#)).await;
    assert!(refused.contains("is not allowed for 'file' on this monitor"), "{refused}");
    // What it made carries its rights.
    let badge = plane.chardevs().get("null").unwrap().badge().cloned().unwrap();
    assert!(badge.downcast_ref::<Policy>().unwrap().check_type("chardev-add", "file").is_err());
}

#[tokio::test]
async fn a_plane_that_is_gone_leaves_no_socket() {
    let (plane, dir) = (plane(), directory());
    let path = dir.path().join("s");
    let session = plane.connect();
    add_unix(&session, "s", &path, json!({})).await;
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    plane.chardevs().get("s").unwrap().attach(OwnedFd::from(ours), None).unwrap();
    let handle = plane.handle();
    drop(plane);
    assert!(!path.exists());
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    let late = Arc::new(Chardev::open("late", Backend::Null, 1).await.unwrap());
    assert_eq!(handle.chardevs().insert(late), Err(ChardevError::Closed));
}

/// QEMU has no such bounds.
#[tokio::test]
async fn there_are_bounds_for_clients() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let long = add(&session, &"c".repeat(1025), "null", json!({})).await;
    assert_eq!(long, error("Parameter 'id' expects at most 1024 bytes"));
    let users = json!({"server": true, "allowed-uids": vec![0; 1025]});
    let listed = add_unix(&session, "s", &dir.path().join("s"), users).await;
    assert_eq!(listed, error("Failed to add chardev 's': Parameter 'allowed-uids' expects at most 1024 ids"));
    for number in 0..4096 {
        assert_eq!(add(&session, &format!("c{number}"), "null", json!({})).await, json!({}));
    }
    let more = add(&session, "more", "null", json!({})).await;
    assert_eq!(more, error("There are 4096 chardevs already: remove some"));
    assert_eq!(ask(&session, "chardev-remove", json!({"id": "c7"})).await, json!({}));
    assert_eq!(add(&session, "more", "null", json!({})).await, json!({}));
}

/// What cannot be an address is not kept for trying again and again.
#[tokio::test]
async fn addresses_that_are_too_long() {
    let plane = plane();
    let session = plane.connect();
    let again = || json!({"server": false, "reconnect": 1});
    let path = "p".repeat(1 << 20);
    let refused = add_unix(&session, "s", Path::new(&path), again()).await;
    assert!(refused.as_str().unwrap().ends_with("is too long (at most 107 bytes)"));
    #[cfg(feature = "tcp")]
    {
        let mut more = again();
        more["addr"] = json!({"type": "inet", "data": {"host": path, "port": "1"}});
        let refused = add(&session, "s", "socket", more).await;
        assert!(refused.as_str().unwrap().ends_with("Name or service not known"));
    }
}
