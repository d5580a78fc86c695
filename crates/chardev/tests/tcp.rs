//! TCP.

#![cfg(feature = "tcp")]

mod common;

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chardev::{Address, Backend, Chardev, OpenError, SocketOptions};
use common::{is_pending, read};
use rustix::net::{AddressFamily, SocketType};
use tokio::time::Instant;

fn address(host: &str, port: u16) -> Address {
    range(host, port, None)
}

fn range(host: &str, port: u16, to: Option<u16>) -> Address {
    let host = host.into();
    Address::Tcp { host, port, to, ipv4: None, ipv6: None, numeric: false, keep_alive: false }
}

async fn open(options: SocketOptions) -> Result<Arc<Chardev>, OpenError> {
    Chardev::open("c", Backend::Socket(options), 1).await.map(Arc::new)
}

#[tokio::test]
async fn port_zero_and_a_client() {
    let chardev = open(SocketOptions::server(address("127.0.0.1", 0))).await.unwrap();
    let local = chardev.local_addr().unwrap();
    assert_ne!(local.port(), 0);
    assert_eq!(chardev.filename(), format!("disconnected:tcp:{local},server=on"));
    let mut front_end = chardev.front_end(2).unwrap();
    let mut client = TcpStream::connect(local).unwrap();
    let peer = client.local_addr().unwrap();
    let connection = front_end.next().await.unwrap();
    assert_eq!(chardev.filename(), format!("tcp:{local},server=on <-> {peer}"));
    assert_eq!(connection.peer().to_string(), format!("tcp:{peer}"));
    assert_eq!(connection.peer().credentials, None);
    assert!(!connection.carries_fds());
    assert!(connection.try_peek(&mut [0; 1]).is_err());
    client.write_all(b"hello").unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"hello");
    drop(connection);
    assert_eq!(chardev.filename(), format!("disconnected:tcp:{local},server=on"));
}

#[tokio::test]
async fn a_range_of_ports() {
    // Whichever port is busy, the range from it upwards finds another.
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = busy.local_addr().unwrap().port().min(65_000);
    let to = Some(port + 200);
    let chardev = open(SocketOptions::server(range("127.0.0.1", port, to))).await.unwrap();
    assert_ne!(chardev.local_addr().unwrap(), busy.local_addr().unwrap());
    let error = open(SocketOptions::server(address("127.0.0.1", chardev.local_addr().unwrap().port()))).await;
    assert!(matches!(error, Err(OpenError::NoPort { .. })));
}

/// What is wrong with the address is wrong with all its ports.
#[tokio::test]
async fn other_ports_are_tried_only_where_one_is_taken() {
    let nowhere = range("192.0.2.1", 1, Some(65535));
    let mut opening = Box::pin(open(SocketOptions::server(nowhere).insecure(true)));
    // Without letting anybody else have a turn.
    let opened = std::future::poll_fn(|cx| Poll::Ready(opening.as_mut().poll(cx))).await;
    assert!(matches!(opened, Poll::Ready(Err(OpenError::BindTcp { .. }))), "{opened:?}");
}

/// Time is paused: it passes only if somebody waits for a timer.
#[tokio::test(start_paused = true)]
async fn who_was_reset_before_it_was_accepted_holds_up_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let given = Address::Fd { fd: listener.into(), name: "7".into() };
    for address in [address("127.0.0.1", 0), given] {
        let options = Backend::Socket(SocketOptions::server(address));
        let chardev = Arc::new(Chardev::open("c", options, 64).await.unwrap());
        let local = chardev.local_addr().unwrap();
        let mut front_end = chardev.front_end(64).unwrap();
        for _ in 0..40 {
            let socket = TcpStream::connect(local).unwrap();
            rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
        }
        let honest = TcpStream::connect(local).unwrap();
        let before = Instant::now();
        let peer = loop {
            let connection = front_end.next().await.unwrap();
            if connection.peer().to_string() == format!("tcp:{}", honest.local_addr().unwrap()) {
                break connection;
            }
        };
        assert_eq!(before.elapsed(), Duration::ZERO);
        drop(peer);
    }
}

#[tokio::test]
async fn everywhere_takes_ipv4() {
    let chardev = open(SocketOptions::server(address("", 0)).insecure(true)).await.unwrap();
    let port = chardev.local_addr().unwrap().port();
    let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert!(chardev.front_end(1).unwrap().next().await.is_some());
}

#[tokio::test]
async fn other_hosts_are_let_in_only_where_that_is_said() {
    for host in ["", "0.0.0.0", "::", "192.0.2.1", "::ffff:192.0.2.1"] {
        let error = open(SocketOptions::server(address(host, 0))).await.unwrap_err();
        assert!(matches!(error, OpenError::NotLoopback { .. }), "{host}: {error}");
        assert!(error.to_string().contains("insecure=on"), "{error}");
    }
    for host in ["127.0.0.1", "127.3.2.1", "localhost", "::1", "::ffff:127.0.0.1"] {
        match open(SocketOptions::server(address(host, 0))).await {
            Ok(chardev) => assert!(chardev.local_addr().unwrap().ip().to_canonical().is_loopback()),
            // A machine without IPv6.
            Err(OpenError::BindTcp { .. }) => assert!(host.contains(':')),
            Err(other) => panic!("{host}: {other}"),
        }
    }
    // Who connects out, or was given a socket, is not asked.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let given = Address::Fd { fd: listener.into(), name: "7".into() };
    let chardev = open(SocketOptions::server(given)).await.unwrap();
    let client = TcpStream::connect(("127.0.0.1", chardev.local_addr().unwrap().port())).unwrap();
    let connection = chardev.front_end(1).unwrap().next().await.unwrap();
    assert_eq!(connection.peer().ip, Some(client.local_addr().unwrap().ip()));
}

/// The kernel would have it listen on all addresses, and nobody has said so.
#[tokio::test]
async fn a_given_socket_that_is_not_bound_is_refused() {
    let new = || rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    let given = |fd| SocketOptions::server(Address::Fd { fd, name: "7".into() });
    let error = open(given(new())).await.unwrap_err();
    assert!(error.to_string().contains("not bound"), "{error}");
    let bound = new();
    let any: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
    rustix::net::bind(&bound, &any).unwrap();
    let chardev = open(given(bound)).await.unwrap();
    let _client = TcpStream::connect(chardev.local_addr().unwrap()).unwrap();
    assert!(chardev.front_end(1).unwrap().next().await.is_some());
}

#[tokio::test]
async fn lists_are_for_unix_listeners() {
    let allowed = || chardev::Allowed::new(Some(vec![0]), None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = listener.local_addr().unwrap();
    for options in [
        SocketOptions::server(address("127.0.0.1", 0)),
        SocketOptions::client(address("127.0.0.1", local.port())),
        SocketOptions::client(Address::unix("/nowhere")),
        SocketOptions::server(Address::Fd { fd: listener.into(), name: "7".into() }),
    ] {
        let error = open(options.allowed(allowed())).await.unwrap_err();
        assert_eq!(error.to_string(), "'allowed-uids' needs a listening unix socket");
    }
}

#[tokio::test]
async fn client_mode() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = server.local_addr().unwrap();
    let chardev = open(SocketOptions::client(address("127.0.0.1", local.port()))).await.unwrap();
    let mut front_end = chardev.front_end(1).unwrap();
    let connection = front_end.next().await.unwrap();
    let (_accepted, peer) = server.accept().unwrap();
    assert_eq!(chardev.filename(), format!("tcp:{peer} <-> {local}"));
    drop(connection);
    assert!(is_pending(front_end.next()).await, "another one can only be handed in");
    drop(server);
    let error = open(SocketOptions::client(address("127.0.0.1", local.port()))).await.unwrap_err();
    assert_eq!(error.to_string(), format!("Failed to connect to '{local}': Connection refused"));
}

#[tokio::test]
async fn inherited() {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let local = server.local_addr().unwrap();
    let ours = TcpStream::connect(local).unwrap();
    let (theirs, _) = server.accept().unwrap();
    let connected =
        open(SocketOptions::client(Address::Fd { fd: ours.into(), name: "7".into() })).await.unwrap();
    assert!(connected.front_end(1).unwrap().next().await.is_some());
    let listening =
        open(SocketOptions::server(Address::Fd { fd: server.into(), name: "7".into() })).await.unwrap();
    assert_eq!(listening.filename(), format!("disconnected:tcp:{local},server=on"));
    assert_eq!(listening.local_addr(), Some(local));
    let _client = TcpStream::connect(local).unwrap();
    assert!(listening.front_end(1).unwrap().next().await.is_some());
    drop(theirs);
}
