//! Clients that are handed in, and hanging up on them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::any::Any;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use chardev::{Address, AttachError, Backend, Badge, Chardev, OpenOptions, SocketOptions};
use common::{is_pending, read, send};

async fn server(path: &Path) -> Arc<Chardev> {
    let options = SocketOptions::server(Address::unix(path));
    Arc::new(Chardev::open("c", Backend::Socket(options), 8).await.unwrap())
}

fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    (ours.into(), theirs)
}

fn at_end(mut peer: impl Read) -> bool {
    peer.read(&mut [0; 1]).unwrap() == 0
}

#[tokio::test]
async fn without_a_front_end_there_is_room_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let chardev = server(&path).await;
    let (first, peer) = pair();
    chardev.attach(first, None).unwrap();
    assert!(chardev.is_connected());
    assert_eq!(chardev.filename(), "unix:,server=on");
    let (second, second_peer) = pair();
    assert!(matches!(chardev.attach(second, None), Err(AttachError::Full)));
    assert!(at_end(second_peer));
    // Who has hung up makes room, whatever was left unread.
    (&peer).write_all(b"unread").unwrap();
    drop(peer);
    assert!(!chardev.is_connected());
    assert_eq!(chardev.filename(), format!("disconnected:unix:{},server=on", path.display()));
    let (third, mut third_peer) = pair();
    chardev.attach(third, None).unwrap();
    third_peer.write_all(b"third").unwrap();
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"third");
    // A connection in other hands counts too, with a front end or without.
    let (fourth, fourth_peer) = pair();
    assert!(matches!(chardev.attach(fourth, None), Err(AttachError::Full)));
    assert!(at_end(fourth_peer));
}

#[tokio::test]
async fn a_front_end_has_room_for_as_many_as_it_takes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let chardev = server(&path).await;
    let mut front_end = chardev.front_end(2).unwrap();
    let _client = UnixStream::connect(&path).unwrap();
    let accepted = front_end.next().await.unwrap();
    assert_eq!(chardev.filename(), format!("unix:{},server=on", path.display()));
    assert!(accepted.badge().is_none());

    let badge: Badge = Arc::new(7_u32);
    let (ours, peer) = pair();
    chardev.attach(ours, Some(badge)).unwrap();
    assert_eq!(chardev.filename(), "unix:,server=on");
    let (beyond, _peer) = pair();
    assert!(matches!(chardev.attach(beyond, None), Err(AttachError::Full)), "one that waits counts");
    let attached = front_end.next().await.unwrap();
    let badge: &(dyn Any + Send + Sync) = &**attached.badge().unwrap();
    assert_eq!(badge.downcast_ref::<u32>(), Some(&7));
    send(&attached, b"x").await;
    assert_eq!((&peer).read(&mut [0; 1]).unwrap(), 1);
    let (beyond, beyond_peer) = pair();
    assert!(matches!(chardev.attach(beyond, None), Err(AttachError::Full)));
    assert!(at_end(beyond_peer));
    assert!(is_pending(front_end.next()).await);

    // Parked, it keeps its badge.
    attached.park();
    assert!(front_end.next().await.unwrap().badge().is_some());
    // The next one that comes by itself is called after the listener again.
    drop(accepted);
    let _client = UnixStream::connect(&path).unwrap();
    let _accepted = front_end.next().await.unwrap();
    assert_eq!(chardev.filename(), format!("unix:{},server=on", path.display()));
}

#[tokio::test]
async fn a_waiting_front_end_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let mut front_end = chardev.front_end(1).unwrap();
    let waiting = tokio::spawn(async move { front_end.next().await.unwrap() });
    tokio::task::yield_now().await;
    let (ours, _peer) = pair();
    chardev.attach(ours, None).unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn waiting_for_a_client_is_over_when_one_is_handed_in() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let waiting = tokio::spawn({
        let chardev = chardev.clone();
        async move { chardev.wait_for_client().await }
    });
    tokio::task::yield_now().await;
    let (ours, _peer) = pair();
    chardev.attach(ours, None).unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn a_client_chardev_gets_another_when_its_own_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let options = SocketOptions::client(Address::unix(&path));
    let chardev = Arc::new(Chardev::open("c", Backend::Socket(options), 1).await.unwrap());
    let mut front_end = chardev.front_end(64).unwrap();
    let connection = front_end.next().await.unwrap();
    assert!(matches!(chardev.attach(pair().0, None), Err(AttachError::Full)));
    drop((connection, listener));
    assert!(is_pending(front_end.next()).await);
    let (ours, _peer) = pair();
    chardev.attach(ours, None).unwrap();
    assert_eq!(chardev.filename(), "unix:");
    front_end.next().await.unwrap();
}

#[tokio::test]
async fn what_is_no_connected_socket_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let refused = |fd: OwnedFd| {
        let error = chardev.attach(fd, None).unwrap_err();
        assert!(matches!(error, AttachError::Unusable { .. }), "{error}");
    };
    refused(std::fs::File::open("/dev/null").unwrap().into());
    let (mut reader, writer) = std::io::pipe().unwrap();
    refused(writer.into());
    assert_eq!(reader.read(&mut [0]).unwrap(), 0, "it is closed");
    refused(UnixDatagram::pair().unwrap().0.into());
    refused(UnixListener::bind(dir.path().join("l")).unwrap().into());
    refused(TcpListener::bind("127.0.0.1:0").unwrap().into());
    refused(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into());
    assert!(!chardev.is_connected());
}

#[tokio::test]
async fn one_whose_peer_has_gone_leaves_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let (ours, peer) = pair();
    drop(peer);
    // Whether it is still called connected is the kernel's choice.
    let _ = chardev.attach(ours, None);
    assert!(!chardev.is_connected());
    chardev.attach(pair().0, None).unwrap();
}

/// A socket whose close would wait for its peer, which does not read.
fn lingering() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(600))).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[7; 65536]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    (socket.into(), peer)
}

#[tokio::test]
async fn a_socket_that_lingers_holds_nobody_up() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let _front_end = chardev.front_end(1).unwrap();
    let (first, _peer) = pair();
    chardev.attach(first, None).unwrap();
    let started = std::time::Instant::now();
    let (socket, _unread) = lingering();
    assert!(chardev.attach(socket, None).is_err());
    assert!(started.elapsed() < Duration::from_secs(60), "the close was waited for");
}

#[cfg(feature = "tcp")]
#[tokio::test]
async fn a_tcp_client_of_a_unix_listener() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let (local, remote) = (ours.local_addr().unwrap(), peer.local_addr().unwrap());
    chardev.attach(OwnedFd::from(ours), None).unwrap();
    assert_eq!(chardev.filename(), format!("tcp:{local},server=on <-> {remote}"));
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    assert!(!connection.carries_fds());
}

#[tokio::test]
async fn hanging_up() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let chardev = server(&path).await;
    let mut front_end = chardev.front_end(8).unwrap();
    let first = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    let (ours, waiting) = pair();
    chardev.attach(ours, None).unwrap();
    chardev.disconnect();
    assert!(at_end(first), "in other hands");
    assert!(at_end(waiting), "parked");
    assert_eq!(read(&connection).await.unwrap(), b"", "its user sees the end too");
    drop(connection);
    assert!(is_pending(front_end.next()).await);
    // The listener is still there.
    let mut next = UnixStream::connect(&path).unwrap();
    next.write_all(b"hello").unwrap();
    let connection = front_end.next().await.unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"hello");
}

#[tokio::test(start_paused = true)]
async fn hanging_up_on_a_client_makes_it_connect_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let options = SocketOptions {
        reconnect: Some(Duration::from_secs(1)),
        ..SocketOptions::client(Address::unix(&path))
    };
    let chardev = Arc::new(Chardev::open("c", Backend::Socket(options), 1).await.unwrap());
    chardev.disconnect(); // nobody is there
    let mut front_end = chardev.front_end(1).unwrap();
    let connection = front_end.next().await.unwrap();
    let (peer, _) = listener.accept().unwrap();
    chardev.disconnect();
    assert!(at_end(peer));
    drop(connection);
    front_end.next().await.unwrap();
}

#[tokio::test]
async fn a_retired_chardev_takes_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let chardev = server(&dir.path().join("s")).await;
    let front_end = chardev.front_end(1).unwrap();
    assert!(chardev.has_front_end());
    assert!(chardev.retire().is_err());
    drop(front_end);
    assert!(!chardev.has_front_end());
    chardev.retire().unwrap();
    assert!(chardev.front_end(1).is_err());
    assert!(matches!(chardev.attach(pair().0, None), Err(AttachError::Full)));
}

#[tokio::test]
async fn a_chardev_has_its_openers_badge() {
    let badge: Badge = Arc::new("mine");
    let options = OpenOptions::new(1).badge(Some(badge));
    let chardev = Chardev::open_with("c", Backend::Null, options).await.unwrap();
    assert!(chardev.badge().unwrap().is::<&str>());
}
