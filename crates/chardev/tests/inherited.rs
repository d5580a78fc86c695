//! Sockets that the process is given.

mod common;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;

use chardev::{Address, Backend, Chardev, OpenError, SocketOptions};
use common::{is_pending, read, send_fds};

async fn open(fd: impl Into<OwnedFd>) -> Result<Arc<Chardev>, OpenError> {
    let options = SocketOptions::server(Address::Fd(fd.into()));
    Chardev::open("c", Backend::Socket(options), 1).await.map(Arc::new)
}

#[tokio::test]
async fn connected() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let chardev = open(ours).await.unwrap();
    assert_eq!(chardev.filename(), "unix:");
    let mut front_end = chardev.front_end(64).unwrap();
    let connection = front_end.next().await.unwrap();
    theirs.write_all(b"hello").unwrap();
    assert_eq!(read(&connection).await.unwrap(), b"hello");
    send_fds(&theirs, b"x", &[theirs.try_clone().unwrap().into()]).unwrap();
    std::future::poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
    let mut fds = Vec::new();
    assert!(connection.try_recv(&mut [0; 8], &mut fds).unwrap().fds);
    drop(connection);
    assert!(front_end.next().await.is_none());
    assert_eq!(chardev.filename(), format!("disconnected:fd:{number}"));
}

#[tokio::test]
async fn listening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let number = listener.as_raw_fd();
    let chardev = open(listener).await.unwrap();
    assert_eq!(chardev.filename(), format!("disconnected:fd:{number},server=on"));
    let mut front_end = chardev.front_end(1).unwrap();
    for _ in 0..2 {
        let _client = UnixStream::connect(&path).unwrap();
        let connection = front_end.next().await.unwrap();
        assert!(connection.carries_fds());
        assert_eq!(chardev.filename(), format!("unix:{},server=on", path.display()));
        assert!(is_pending(front_end.next()).await);
    }
    drop(front_end);
    drop(chardev);
    assert!(path.exists(), "who has made the file removes it");
}

#[tokio::test]
async fn what_cannot_be_a_monitor() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let number = file.as_raw_fd();
    let text = open(file).await.unwrap_err().to_string();
    assert_eq!(text, format!("fd {number} cannot be used: Socket operation on non-socket"));
    let (datagram, _other) = UnixDatagram::pair().unwrap();
    assert!(open(datagram).await.unwrap_err().to_string().ends_with("not a stream socket"));
    let flags = rustix::net::SocketFlags::CLOEXEC;
    let loose = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        flags,
        None,
    );
    assert!(matches!(open(loose.unwrap()).await, Err(OpenError::Fd { .. })));
}
