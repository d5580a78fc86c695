//! Who gets past a listener.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

use chardev::{Address, Allowed, AttachError, Backend, Chardev, SocketOptions};
use common::is_pending;

async fn open(options: SocketOptions) -> Arc<Chardev> {
    Arc::new(Chardev::open("c", Backend::Socket(options), 16).await.unwrap())
}

fn own() -> (u32, u32) {
    (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
}

/// Lists of which none names this process.
fn others() -> Allowed {
    let (uid, _) = own();
    Allowed::new(Some(vec![uid + 1]), Some(vec![u32::MAX - 7]))
}

fn mode(path: &Path) -> u32 {
    path.symlink_metadata().unwrap().permissions().mode() & 0o777
}

/// What a peer gets that was closed without a word.
fn nothing(mut peer: UnixStream) -> bool {
    let mut got = Vec::new();
    match peer.read_to_end(&mut got) {
        Ok(_) => got.is_empty(),
        Err(error) => got.is_empty() && error.kind() == ErrorKind::ConnectionReset,
    }
}

#[tokio::test]
async fn a_refused_peer_gets_nothing_and_is_no_client() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let chardev = open(SocketOptions::server(Address::unix(&path)).allowed(others())).await;
    let mut front_end = chardev.front_end(1).unwrap();
    for _ in 0..3 {
        let mut peer = UnixStream::connect(&path).unwrap();
        peer.write_all(b"hello").unwrap();
        assert!(is_pending(front_end.next()).await, "it takes no place");
        assert!(!chardev.is_connected());
        assert!(nothing(peer));
    }
    // Nor does whoever waits for a client wait for it.
    drop(front_end);
    let peer = UnixStream::connect(&path).unwrap();
    assert!(is_pending(chardev.wait_for_client()).await);
    assert!(chardev.filename().starts_with("disconnected:"));
    assert!(nothing(peer));
}

/// However many they are, others have their turn after each of them.
#[tokio::test]
async fn refused_peers_take_turns_with_others() {
    const PEERS: usize = 30;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    for (allowed, admitted) in [(others(), Allowed::ANYBODY), (Allowed::ANYBODY, others())] {
        let options = SocketOptions::server(Address::unix(&path)).allowed(allowed);
        let options = Backend::Socket(options);
        let chardev = Arc::new(Chardev::open("c", options, 64).await.unwrap());
        let mut front_end = chardev.front_end(1).unwrap();
        front_end.admit_only(admitted);
        let peers: Vec<_> = (0..PEERS).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let refusing = tokio::spawn(async move { front_end.next().await.is_some() });
        let mut turns = 0;
        for mut peer in peers {
            peer.set_nonblocking(true).unwrap();
            while matches!(peer.read(&mut [0]), Err(error) if error.kind() == ErrorKind::WouldBlock) {
                turns += 1;
                tokio::task::yield_now().await;
            }
        }
        assert!(turns >= PEERS, "{turns} turns");
        refusing.abort();
    }
}

#[tokio::test]
async fn listed_users_and_groups_come_in() {
    let (uid, gid) = own();
    let dir = tempfile::tempdir().unwrap();
    for (number, allowed) in [
        Allowed::new(Some(vec![uid]), None),
        Allowed::new(None, Some(vec![gid])),
        Allowed::new(Some(vec![uid + 1]), Some(vec![gid])),
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.path().join(number.to_string());
        let chardev = open(SocketOptions::server(Address::unix(&path)).allowed(allowed)).await;
        let _peer = UnixStream::connect(&path).unwrap();
        let connection = chardev.front_end(1).unwrap().next().await.unwrap();
        assert_eq!(connection.peer().credentials.unwrap().uid, uid);
    }
}

#[tokio::test]
async fn the_file_is_open_to_others_only_if_they_are_listed() {
    let (uid, _) = own();
    let dir = tempfile::tempdir().unwrap();
    for (name, allowed, expected) in [
        ("nobody said", Allowed::ANYBODY, 0o600),
        ("own", Allowed::new(Some(vec![uid]), None), 0o600),
        ("others", Allowed::new(Some(vec![uid + 1]), None), 0o666),
        ("groups", Allowed::new(None, Some(vec![5])), 0o666),
    ] {
        let path = dir.path().join(name);
        let _chardev = open(SocketOptions::server(Address::unix(&path)).allowed(allowed)).await;
        assert_eq!(mode(&path), expected, "{name}");
    }
}

fn abstract_name(name: &str) -> Address {
    Address::Unix { path: name.into(), abstract_name: true, tight: true }
}

fn connect_abstract(name: &str) -> UnixStream {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

#[tokio::test]
async fn an_abstract_name_admits_its_own_user_and_lists_replace_that() {
    let (uid, _) = own();
    let name = format!("chardev-admission-{}", std::process::id());
    for (allowed, admitted) in [
        (Allowed::ANYBODY, true),
        (Allowed::new(Some(vec![uid + 1]), None), false),
        (Allowed::new(Some(vec![uid]), None), true),
    ] {
        // The name is free as soon as the last one is gone, whatever waits there.
        let chardev = open(SocketOptions::server(abstract_name(&name)).allowed(allowed)).await;
        let mut front_end = chardev.front_end(1).unwrap();
        let peer = connect_abstract(&name);
        assert_eq!(!is_pending(front_end.next()).await, admitted);
        let _waits = connect_abstract(&name);
        drop(peer);
    }
}

#[tokio::test]
async fn who_is_handed_in_is_held_against_lists_too() {
    let (uid, _) = own();
    let dir = tempfile::tempdir().unwrap();
    let pair = || UnixStream::pair().unwrap();
    let open_for = |name: &str, allowed| {
        let options = SocketOptions::server(Address::unix(dir.path().join(name))).allowed(allowed);
        async { open(options).await }
    };
    let chardev = open_for("others", others()).await;
    let (ours, theirs) = pair();
    assert!(matches!(chardev.attach(OwnedFd::from(ours), None), Err(AttachError::Refused)));
    assert!(nothing(theirs));
    // Nobody knows who is at the other end of a TCP connection.
    #[cfg(feature = "tcp")]
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(matches!(chardev.attach(OwnedFd::from(tcp), None), Err(AttachError::Refused)));
    }

    let chardev = open_for("own", Allowed::new(Some(vec![uid]), None)).await;
    let (ours, _theirs) = pair();
    chardev.attach(OwnedFd::from(ours), None).unwrap();
    assert!(chardev.front_end(1).unwrap().next().await.is_some());
}

/// Runs as another user; says why not where that cannot be.
fn as_nobody(program: &str, argument: &Path) -> Option<std::process::Output> {
    use std::os::unix::process::CommandExt;
    if own().0 != 0 {
        eprintln!("SKIPPED: only root can be another user, this test has shown nothing");
        return None;
    }
    let output = std::process::Command::new("python3")
        .args(["-c", program])
        .arg(argument)
        .current_dir("/")
        .gid(65533)
        .uid(65532)
        .output();
    if output.is_err() {
        eprintln!("SKIPPED: there is no python3, this test has shown nothing");
    }
    output.ok()
}

/// Connects to a socket, given by its path or, behind an `@`, its abstract name, and prints what comes.
const CLIENT: &str = "
import socket, sys
s = socket.socket(socket.AF_UNIX)
name = sys.argv[1]
try:
    s.connect('\0' + name[1:] if name.startswith('@') else name)
    print(repr(s.recv(99)))
except OSError as e:
    print(e.strerror)
";

/// Greets one client, if one comes in while another user's process tries.
async fn another_user_at(options: SocketOptions, argument: &Path) -> Option<String> {
    let chardev = open(options).await;
    let mut front_end = chardev.front_end(1).unwrap();
    let greeting = tokio::spawn(async move {
        let connection = front_end.next().await.unwrap();
        common::send(&connection, b"hi").await;
        (front_end, connection)
    });
    let argument = argument.to_owned();
    let output = tokio::task::spawn_blocking(move || as_nobody(CLIENT, &argument)).await.unwrap();
    greeting.abort();
    output.map(|output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    })
}

#[tokio::test]
async fn another_user_really() {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("s");
    let name = format!("chardev-another-user-{}", std::process::id());
    let shown = std::path::PathBuf::from(format!("@{name}"));
    let file = || SocketOptions::server(Address::unix(&path));
    let abstract_ = || SocketOptions::server(abstract_name(&name));
    let refused = ["b''", "Connection reset by peer"];
    for (options, argument, expected) in [
        (file(), &path, &["Permission denied"][..]),
        (file().allowed(Allowed::new(Some(vec![65531]), None)), &path, &refused),
        (file().allowed(Allowed::new(Some(vec![65532]), None)), &path, &["b'hi'"]),
        (file().allowed(Allowed::new(None, Some(vec![65533]))), &path, &["b'hi'"]),
        (abstract_(), &shown, &refused),
        (abstract_().allowed(Allowed::new(Some(vec![65532]), None)), &shown, &["b'hi'"]),
    ] {
        let text = format!("{options:?}");
        let Some(said) = another_user_at(options, argument).await else { return };
        assert!(expected.contains(&said.as_str()), "{text}: {said}");
    }
}

#[tokio::test]
async fn a_given_listener_holds_peers_against_lists_and_opens_its_file_to_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let before = mode(&path);
    let given = Address::Fd { fd: listener.into(), name: "7".into() };
    let chardev = open(SocketOptions::server(given).allowed(others())).await;
    assert_eq!(mode(&path), before);
    let mut front_end = chardev.front_end(1).unwrap();
    let peer = UnixStream::connect(&path).unwrap();
    assert!(is_pending(front_end.next()).await);
    assert!(nothing(peer));
}
