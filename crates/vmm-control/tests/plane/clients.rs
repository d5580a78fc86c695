//! Clients that are handed in with `add_client`, and hung up on with `yank`. All texts are QEMU 7.2's, unless a test
//! says otherwise.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{Client, PATIENCE, Toy, ask, ask_with, built, directory, listen, listen_as, plain};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{
    Acceptor, CommandError, CommandResult, ControlPlane, DisplayClient, DisplayProtocol, LocalSession,
    MonitorConfig, RunState,
};

fn plane() -> ControlPlane {
    plain(&Toy::new(RunState::Running))
}

fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(PATIENCE)).unwrap();
    (ours.into(), theirs)
}

fn at_end(mut peer: impl Read) -> bool {
    peer.read(&mut [0]).unwrap() == 0
}

/// Passes a socket and hands it on. Whatever comes of it, its name must be free then.
async fn hand(session: &LocalSession, protocol: &str, fd: impl Into<OwnedFd>) -> Value {
    assert_eq!(ask_with(session, "getfd", json!({"fdname": "a"}), vec![fd.into()]).await, json!({}));
    let reply = ask(session, "add_client", json!({"protocol": protocol, "fdname": "a"})).await;
    let gone = "GenericError: File descriptor named 'a' not found";
    assert_eq!(ask(session, "closefd", json!({"fdname": "a"})).await, gone);
    reply
}

/// Registers a socket that listens in `directory`, without a monitor.
async fn socket(plane: &ControlPlane, directory: &std::path::Path, id: &str) -> Arc<Chardev> {
    let options = SocketOptions::server(Address::unix(directory.join(id)));
    let chardev = Arc::new(Chardev::open(id, Backend::Socket(options), 8).await.unwrap());
    plane.chardevs().insert(chardev.clone()).unwrap();
    chardev
}

const FAILED: &str = "GenericError: failed to add client";

#[tokio::test]
async fn without_displays() {
    let session = plane().connect();
    for (protocol, answer) in [
        ("vnc", json!({})),
        ("spice", "DeviceNotActive: SPICE is not in use".into()),
        ("@dbus-display", "DeviceNotActive: D-Bus display is not in use".into()),
        ("VNC", "GenericError: protocol 'VNC' is invalid".into()),
        ("", "GenericError: protocol '' is invalid".into()),
    ] {
        let missing = "GenericError: File descriptor named 'a' has not been found";
        assert_eq!(ask(&session, "add_client", json!({"protocol": protocol, "fdname": "a"})).await, missing);
        let (ours, theirs) = pair();
        assert_eq!(hand(&session, protocol, ours).await, answer);
        assert!(at_end(theirs), "QEMU leaks it for vnc");
    }
    let (ours, _theirs) = pair();
    ask_with(&session, "getfd", json!({"fdname": "a"}), vec![ours]).await;
    let wrong = json!({"protocol": "vnc", "fdname": "a", "skipauth": 1});
    let text = "GenericError: Invalid parameter type for 'skipauth', expected: boolean";
    assert_eq!(ask(&session, "add_client", wrong).await, text);
    assert_eq!(ask(&session, "closefd", json!({"fdname": "a"})).await, json!({}), "nothing was taken");
}

/// 11.1's text, and like there it comes before anything else but the name.
#[tokio::test]
async fn an_fd_that_is_no_socket() {
    let (plane, dir) = (plane(), directory());
    socket(&plane, dir.path(), "sk").await;
    let session = plane.connect();
    for protocol in ["vnc", "spice", "nope", "sk"] {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let text = "GenericError: parameter @fdname must name a socket";
        assert_eq!(hand(&session, protocol, writer).await, text);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    }
}

/// Keeps what it is handed, unless it is told to refuse.
#[derive(Default)]
struct Collecting {
    clients: Mutex<Vec<DisplayClient>>,
    refuses: bool,
}

impl Acceptor for Collecting {
    fn accept(&self, client: DisplayClient) -> CommandResult<()> {
        if self.refuses {
            return Err(CommandError::generic("no more clients"));
        }
        self.clients.lock().unwrap().push(client);
        Ok(())
    }
}

#[tokio::test]
async fn a_display_of_the_authors() {
    let accepting = Arc::new(Collecting::default());
    let refusing = Arc::new(Collecting { refuses: true, ..Collecting::default() });
    let builder = ControlPlane::builder(Toy::new(RunState::Running))
        .display_acceptor(DisplayProtocol::Vnc, accepting.clone())
        .display_acceptor(DisplayProtocol::DbusDisplay, refusing);
    let session = built(builder).connect();
    let (ours, mut theirs) = pair();
    assert_eq!(hand(&session, "vnc", ours).await, json!({}));
    let client = accepting.clients.lock().unwrap().pop().unwrap();
    assert!(!client.skip_auth && !client.tls);
    UnixStream::from(client.socket.into_fd()).write_all(b"RFB").unwrap();
    theirs.read_exact(&mut [0; 3]).unwrap();

    let (ours, _theirs) = pair();
    ask_with(&session, "getfd", json!({"fdname": "a"}), vec![ours]).await;
    let arguments = json!({"protocol": "vnc", "fdname": "a", "skipauth": true, "tls": true});
    assert_eq!(ask(&session, "add_client", arguments).await, json!({}));
    let client = accepting.clients.lock().unwrap().pop().unwrap();
    assert!(client.skip_auth && client.tls);

    let (ours, theirs) = pair();
    assert_eq!(hand(&session, "@dbus-display", ours).await, "GenericError: no more clients");
    assert!(at_end(theirs));
}

#[tokio::test]
async fn a_chardev_without_a_monitor_takes_one() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let chardev = socket(&plane, dir.path(), "sk").await;
    let (first, first_peer) = pair();
    assert_eq!(hand(&session, "sk", first).await, json!({}));
    assert_eq!(chardev.filename(), "unix:,server=on");
    let (second, second_peer) = pair();
    assert_eq!(hand(&session, "sk", second).await, FAILED);
    assert!(at_end(second_peer));
    drop(first_peer);
    let (third, _third_peer) = pair();
    assert_eq!(hand(&session, "sk", third).await, json!({}));
    ask(&session, "chardev-add", json!({"id": "nul", "backend": {"type": "null", "data": {}}})).await;
    let (ours, theirs) = pair();
    assert_eq!(hand(&session, "nul", ours).await, FAILED);
    assert!(at_end(theirs));
}

#[tokio::test]
async fn sockets_that_nobody_could_talk_through() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let chardev = socket(&plane, dir.path(), "sk").await;
    let listener = UnixListener::bind(dir.path().join("l")).unwrap();
    assert_eq!(hand(&session, "sk", listener).await, FAILED, "QEMU takes it");
    assert_eq!(hand(&session, "sk", UnixDatagram::pair().unwrap().0).await, FAILED);
    assert_eq!(hand(&session, "sk", TcpListener::bind("127.0.0.1:0").unwrap()).await, FAILED);
    // One that nobody reads, whose close would wait.
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut lingering = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
    let _unread = tcp.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&lingering, Some(Duration::from_secs(600))).unwrap();
    lingering.set_nonblocking(true).unwrap();
    while lingering.write(&[7; 65536]).is_ok() {}
    lingering.set_nonblocking(false).unwrap();
    let asked = hand(&session, "nope", lingering);
    let answer = tokio::time::timeout(PATIENCE, asked).await.expect("the close is not waited for");
    assert_eq!(answer, "GenericError: protocol 'nope' is invalid");
    assert!(!chardev.is_connected());
}

/// What a session on a handed-in socket says.
async fn greeted(theirs: UnixStream) -> Client {
    theirs.set_nonblocking(true).unwrap();
    Client::negotiated(tokio::net::UnixStream::from_std(theirs).unwrap()).await
}

#[tokio::test]
async fn a_monitor_gets_a_further_session() {
    let (plane, dir) = (plane(), directory());
    let path = listen(&plane, dir.path(), "m").await;
    let mut first = Client::new(&path).await;
    let session = plane.connect();
    let (ours, theirs) = pair();
    assert_eq!(hand(&session, "m", ours).await, json!({}));
    let mut further = greeted(theirs).await;
    let named = r#"{"execute": "query-name", "id": 1}"#;
    for client in [&mut first, &mut further] {
        assert_eq!(client.ask(named).await, r#"{"return": {}, "id": 1}"#);
    }
}

#[tokio::test]
async fn a_full_monitor_gets_none() {
    let (plane, dir) = (plane(), directory());
    let options = SocketOptions::server(Address::unix(dir.path().join("s")));
    let chardev = Arc::new(Chardev::open("c", Backend::Socket(options), 1).await.unwrap());
    plane.add_monitor(MonitorConfig::new("m"), &chardev, 1).unwrap();
    let session = plane.connect();
    let (ours, theirs) = pair();
    assert_eq!(hand(&session, "c", ours).await, json!({}));
    let client = greeted(theirs).await;
    let (ours, theirs) = pair();
    assert_eq!(hand(&session, "c", ours).await, FAILED);
    assert!(at_end(theirs));
    drop(client);
    // The place is free when the session has seen its end.
    loop {
        let (ours, theirs) = pair();
        if hand(&session, "c", ours).await == json!({}) {
            greeted(theirs).await;
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// The kinds and ids of `query-yank`.
async fn instances(session: &LocalSession) -> Value {
    ask(session, "query-yank", ()).await
}

fn chardevs(ids: &[&str]) -> Value {
    ids.iter().map(|id| json!({"type": "chardev", "id": id})).collect()
}

#[tokio::test]
async fn sockets_can_be_hung_up_on_and_nothing_else() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    listen(&plane, dir.path(), "m").await;
    ask(&session, "chardev-add", json!({"id": "nul", "backend": {"type": "null", "data": {}}})).await;
    let chardev = socket(&plane, dir.path(), "sk").await;
    assert_eq!(instances(&session).await, chardevs(&["m", "sk"]));
    let not_found = "DeviceNotFound: Instance not found";
    let (ours, theirs) = pair();
    chardev.attach(ours, None).unwrap();
    for list in [
        json!([{"type": "migration"}]),
        json!([{"type": "block-node", "node-name": "x"}]),
        chardevs(&["nope"]),
        chardevs(&["sk", "nul"]),
    ] {
        assert_eq!(ask(&session, "yank", json!({"instances": list})).await, not_found);
    }
    assert!(chardev.is_connected(), "all or none");
    assert_eq!(ask(&session, "yank", json!({"instances": chardevs(&["sk", "sk"])})).await, json!({}));
    assert!(at_end(theirs));
    assert!(!chardev.is_connected());
    assert_eq!(ask(&session, "yank", json!({"instances": chardevs(&["sk"])})).await, json!({}));
    assert_eq!(ask(&session, "yank", json!({"instances": []})).await, json!({}));
    for (list, text) in [
        (json!([{"type": "nope"}]), "Parameter 'type' does not accept value 'nope'"),
        (json!([{"type": "chardev"}]), "Parameter 'instances[0].id' is missing"),
        (json!([{}]), "Parameter 'instances[0].type' is missing"),
        (json!([{"type": "chardev", "id": "sk", "x": 1}]), "Parameter 'instances[0].x' is unexpected"),
    ] {
        let refused = format!("GenericError: {text}");
        assert_eq!(ask(&session, "yank", json!({"instances": list})).await, refused);
    }
}

#[tokio::test]
async fn a_hung_up_monitor_takes_new_clients() {
    let (plane, dir) = (plane(), directory());
    let path = listen(&plane, dir.path(), "m").await;
    let (mut one, mut other) = (Client::new(&path).await, Client::new(&path).await);
    let session = plane.connect();
    ask(&session, "yank", json!({"instances": chardevs(&["m"])})).await;
    assert_eq!((one.rest().await, other.rest().await), (String::new(), String::new()));
    Client::new(&path).await;
}

/// A command that blocks holds up neither `yank` nor the look at what could be yanked; nor does another monitor.
#[tokio::test(flavor = "multi_thread")]
async fn out_of_band_while_a_command_blocks() {
    let dir = directory();
    let plane = built(ControlPlane::builder(Toy::new(RunState::Running)).test_commands(true));
    let path = listen(&plane, dir.path(), "m").await;
    let victim = listen_as(&plane, dir.path(), MonitorConfig::new("victim")).await;
    let mut victim = Client::new(&victim).await;
    let fifo = dir.path().join("fifo");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, mode, 0).unwrap();

    let mut client = Client::new_oob(&path).await;
    let block = json!({"execute": "x-test-block", "arguments": {"path": fifo}, "id": "blocked"});
    client.send(&block.to_string()).await;
    let yank = json!({"exec-oob": "yank", "arguments": {"instances": chardevs(&["victim"])}, "id": "yank"});
    assert_eq!(client.ask(&yank.to_string()).await, r#"{"return": {}, "id": "yank"}"#);
    assert_eq!(victim.rest().await, "");
    let listed = client.ask(r#"{"exec-oob": "query-yank", "id": "list"}"#).await;
    assert!(listed.contains(r#""id": "victim""#), "{listed}");
    // It ends when its fifo does.
    let writer = tokio::task::spawn_blocking(move || std::fs::File::options().write(true).open(fifo));
    drop(writer.await.unwrap().unwrap());
    assert_eq!(client.line().await, r#"{"return": {}, "id": "blocked"}"#);
}

#[tokio::test]
async fn there_are_no_test_commands_unless_asked_for() {
    let text = "CommandNotFound: The command x-test-block has not been found";
    assert_eq!(ask(&plane().connect(), "x-test-block", json!({"path": "x"})).await, text);
}

/// Nothing of what is passed, refused or hung up on stays open.
#[tokio::test]
async fn descriptors_come_back() {
    let (plane, dir) = (plane(), directory());
    let session = plane.connect();
    let chardev = socket(&plane, dir.path(), "sk").await;
    for _ in 0..50 {
        let mut peers = Vec::new();
        for protocol in ["sk", "sk", "vnc", "spice", "nope"] {
            let (ours, theirs) = pair();
            hand(&session, protocol, ours).await;
            peers.push(theirs);
        }
        ask(&session, "yank", json!({"instances": chardevs(&["sk"])})).await;
        for peer in peers {
            peer.set_nonblocking(true).unwrap();
            let mut peer = tokio::net::UnixStream::from_std(peer).unwrap();
            let read = tokio::time::timeout(PATIENCE, peer.read(&mut [0])).await;
            assert_eq!(read.expect("closed in time").unwrap(), 0);
        }
        assert!(!chardev.is_connected());
    }
}
