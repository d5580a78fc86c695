//! Listening unix sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::io::{self, Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::PathBuf;

use chardev::{Address, Backend, Chardev, Connection, OpenError, Peeked, SocketOptions};
use common::{is_pending, listener, read, send_fds};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

fn temp() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    (dir, path)
}

async fn open(address: Address) -> Result<Chardev, OpenError> {
    Chardev::open("c", Backend::Socket(SocketOptions::server(address)), 128).await
}

#[tokio::test]
async fn a_client_comes_talks_and_goes() {
    let (_dir, path) = temp();
    let (chardev, mut front_end) = listener(&path, 64, 128).await;
    let shown = path.display();
    assert_eq!(chardev.id(), "c");
    assert_eq!(chardev.filename(), format!("disconnected:unix:{shown},server=on"));
    let mut client = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    assert_eq!(chardev.filename(), format!("unix:{shown},server=on"));
    assert_eq!(chardev.local_addr(), None);

    let credentials = connection.peer().credentials.unwrap();
    assert_eq!(credentials.pid, Some(i32::try_from(std::process::id()).unwrap()));
    assert_eq!(credentials.uid, rustix::process::getuid().as_raw());
    assert_eq!(credentials.gid, rustix::process::getgid().as_raw());
    assert!(connection.peer().to_string().starts_with(&format!("unix:{shown} (pid ")));

    client.write_all(b"hello").unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"hello");
    assert_eq!(connection.try_send(b"world").unwrap(), 5);
    connection.shutdown_write();
    let mut reply = String::new();
    client.read_to_string(&mut reply).unwrap();
    assert_eq!(reply, "world");

    drop(client);
    assert_eq!(read(&connection).await.unwrap(), b"");
    assert_eq!(connection.try_send(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe); // and no SIGPIPE
    drop(connection);
    assert_eq!(chardev.filename(), format!("disconnected:unix:{shown},server=on"));
}

#[tokio::test]
async fn a_full_socket_says_so_and_tells_when_it_is_not() {
    let (server, client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let server = tokio::net::UnixStream::from_std(server).unwrap();
    let connection = Connection::from_unix_stream(server).unwrap();
    std::future::poll_fn(|cx| connection.poll_write_ready(cx)).await.unwrap();
    let mut sent = 0;
    let full = loop {
        match connection.try_send(&[b'x'; 4096]) {
            Ok(len) => sent += len,
            Err(error) => break error,
        }
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    assert!(is_pending(std::future::poll_fn(|cx| connection.poll_write_ready(cx))).await);
    let reader = std::thread::spawn(move || {
        let (mut client, mut buf) = (client, vec![0; sent]);
        client.read_exact(&mut buf).unwrap();
        client
    });
    std::future::poll_fn(|cx| connection.poll_write_ready(cx)).await.unwrap();
    let _client = reader.join().unwrap();
    assert_eq!(connection.try_send(b"more").unwrap(), 4);
}

#[tokio::test]
async fn descriptors_are_told_apart() {
    let (_dir, path) = temp();
    let (_chardev, mut front_end) = listener(&path, 1, 1).await;
    let mut client = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    assert!(connection.carries_fds());
    let (mut buf, mut fds) = ([0; 64], Vec::new());
    client.write_all(b"first").unwrap();
    send_fds(&client, b"second", &[io::stdin().as_fd_owned(), io::stdin().as_fd_owned()]).unwrap();
    std::future::poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
    assert_eq!(connection.try_peek(&mut buf).unwrap(), Peeked { len: 11, fds: true });
    let received = connection.try_recv(&mut buf[..5], &mut fds).unwrap();
    assert_eq!((received.len, received.fds, fds.len()), (5, false, 0));
    let received = connection.try_recv(&mut buf, &mut fds).unwrap();
    assert_eq!((received.len, received.fds, received.truncated, fds.len()), (6, true, false, 2));
    assert_eq!(connection.try_peek(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    assert!(is_pending(std::future::poll_fn(|cx| connection.poll_read_ready(cx))).await);
}

/// A duplicate of what can be borrowed.
trait AsFdOwned: std::os::fd::AsFd {
    fn as_fd_owned(&self) -> std::os::fd::OwnedFd {
        self.as_fd().try_clone_to_owned().unwrap()
    }
}

impl AsFdOwned for io::Stdin {}

#[tokio::test]
async fn one_client_at_a_time_and_a_short_queue() {
    let (_dir, path) = temp();
    let (_chardev, mut front_end) = listener(&path, 1, 1).await;
    let first = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    let mut second = UnixStream::connect(&path).unwrap();
    second.write_all(b"waited").unwrap();
    let third = UnixStream::connect(&path).unwrap();
    // A backlog of one lets two wait, as on QEMU.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fourth = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).unwrap();
    let full = rustix::net::connect(&fourth, &SocketAddrUnix::new(&path).unwrap());
    assert_eq!(full, Err(rustix::io::Errno::AGAIN));
    assert!(is_pending(front_end.next()).await);

    drop(connection);
    let connection = front_end.next().await.unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"waited");
    rustix::net::connect(&fourth, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    drop((first, third));
}

#[tokio::test]
async fn as_many_as_allowed() {
    let (_dir, path) = temp();
    let (_chardev, mut front_end) = listener(&path, 3, 128).await;
    let clients: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(front_end.next().await.unwrap());
    }
    assert!(is_pending(front_end.next()).await);
    connections.clear();
    assert!(front_end.next().await.is_some());
    assert!(front_end.next().await.is_some());
    drop(clients);
}

#[tokio::test]
async fn one_front_end_at_a_time() {
    let (_dir, path) = temp();
    let (chardev, mut front_end) = listener(&path, 1, 1).await;
    let error = chardev.front_end(1).unwrap_err();
    assert_eq!(error.to_string(), "Device 'c' is in use");
    let mut client = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    drop(front_end);

    // The client of the old front end goes to the new one, with what it has sent meanwhile.
    let mut front_end = chardev.front_end(1).unwrap();
    assert!(is_pending(front_end.next()).await);
    client.write_all(b"kept").unwrap();
    connection.park();
    let connection = front_end.next().await.unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"kept");
}

#[tokio::test]
async fn a_parked_client_wakes_who_is_accepting() {
    let (_dir, path) = temp();
    let (chardev, mut front_end) = listener(&path, 2, 128).await;
    let _client = UnixStream::connect(&path).unwrap();
    let connection = front_end.next().await.unwrap();
    let (next, ()) = tokio::join!(front_end.next(), async {
        tokio::task::yield_now().await;
        connection.park();
    });
    assert!(next.is_some());
    assert!(chardev.is_connected());
}

#[tokio::test]
async fn opening_waits_for_the_first_client() {
    let (_dir, path) = temp();
    let options = SocketOptions { wait: true, ..SocketOptions::server(Address::unix(&path)) };
    let opening = tokio::spawn(async { Chardev::open("c", Backend::Socket(options), 1).await });
    while !path.exists() {
        tokio::task::yield_now().await;
    }
    let client = loop {
        match UnixStream::connect(&path) {
            Ok(client) => break client,
            Err(_) => tokio::task::yield_now().await, // bound, but not listening yet
        }
    };
    let chardev = std::sync::Arc::new(opening.await.unwrap().unwrap());
    assert!(chardev.is_connected());
    let mut front_end = chardev.front_end(1).unwrap();
    let connection = front_end.next().await.unwrap();
    drop(client);
    assert_eq!(read(&connection).await.unwrap(), b"");
}

#[tokio::test]
async fn the_file_is_private_and_goes_with_the_chardev() {
    let (_dir, path) = temp();
    let stale = UnixListener::bind(&path).unwrap();
    drop(stale); // its file stays behind
    let (chardev, front_end) = listener(&path, 1, 1).await;
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    drop(chardev);
    assert!(path.exists(), "the front end holds the chardev");
    drop(front_end);
    assert!(!path.exists());
}

#[tokio::test]
async fn anothers_file_stays() {
    let (_dir, path) = temp();
    let (first, first_front) = listener(&path, 1, 1).await;
    let (second, second_front) = listener(&path, 1, 1).await;
    drop((first, first_front));
    UnixStream::connect(&path).unwrap();
    drop((second, second_front));
    assert!(!path.exists());
}

#[tokio::test]
async fn clear_errors() {
    let (dir, path) = temp();
    let text = |address| async { open(address).await.unwrap_err().to_string() };
    let missing = dir.path().join("no/such");
    assert_eq!(
        text(Address::unix(&missing)).await,
        format!("Failed to bind socket to {}: No such file or directory", missing.display())
    );
    let long = dir.path().join("x".repeat(108));
    assert_eq!(
        text(Address::unix(&long)).await,
        format!("UNIX socket path '{}' is too long (at most 107 bytes)", long.display())
    );
    assert_eq!(text(Address::unix("")).await, "UNIX socket path is empty");
    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(open(Address::unix(&path)).await, Err(OpenError::NotASocket { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
}

#[tokio::test]
async fn abstract_names() {
    for (tight, length) in [(true, None), (false, Some(107))] {
        let name = format!("chardev-test-{}-{tight}", std::process::id());
        let address = Address::Unix { path: name.clone().into(), abstract_name: true, tight };
        let chardev = std::sync::Arc::new(open(address).await.unwrap());
        let flags = if tight { ",abstract=on,tight=on" } else { ",abstract=on" };
        assert_eq!(chardev.filename(), format!("disconnected:unix:{name}{flags},server=on"));
        let mut bytes = name.into_bytes();
        bytes.resize(length.unwrap_or(bytes.len()), 0);
        let _client = UnixStream::connect_addr(&SocketAddr::from_abstract_name(&bytes).unwrap()).unwrap();
        assert!(chardev.front_end(1).unwrap().next().await.is_some());
    }
}

#[tokio::test]
async fn null_has_no_clients_and_no_end() {
    let chardev = std::sync::Arc::new(Chardev::open("n", Backend::Null, 1).await.unwrap());
    assert_eq!(chardev.filename(), "null");
    assert!(is_pending(chardev.front_end(1).unwrap().next()).await);
}
