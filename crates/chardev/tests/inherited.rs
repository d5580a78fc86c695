//! Sockets that the process is given.

mod common;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::sync::Arc;

use chardev::{Address, Backend, Chardev, OpenError, SocketOptions};
use common::{is_pending, read, send_fds};

async fn open(fd: impl Into<OwnedFd>) -> Result<Arc<Chardev>, OpenError> {
    open_as(fd, false).await
}

async fn open_as(fd: impl Into<OwnedFd>, server: bool) -> Result<Arc<Chardev>, OpenError> {
    let address = Address::Fd { fd: fd.into(), name: "seven".into() };
    let options = SocketOptions { server, ..SocketOptions::client(address) };
    Chardev::open("c", Backend::Socket(options), 1).await.map(Arc::new)
}

#[tokio::test]
async fn connected() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
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
    assert!(is_pending(front_end.next()).await, "another one can only be handed in");
    assert_eq!(chardev.filename(), "disconnected:fd:seven");
}

#[tokio::test]
async fn listening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let chardev = open(listener).await.unwrap();
    assert_eq!(chardev.filename(), format!("disconnected:unix:{},server=on", path.display()));
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

/// Its giver makes it blocking and takes each client away before we can. A `accept` of ours that waits then holds up nobody,
/// and ends with the listener.
#[tokio::test]
async fn a_giver_that_makes_accept_wait() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let givers = listener.try_clone().unwrap();
    let chardev = open(listener).await.unwrap();
    let mut front_end = chardev.front_end(4).unwrap();
    let mut stolen = 0;
    for _ in 0..50 {
        givers.set_nonblocking(false).unwrap();
        let client = UnixStream::connect(&path).unwrap();
        let thief = givers.try_clone().unwrap();
        let thief = std::thread::spawn(move || thief.accept().map(drop));
        // This thread is the runtime's only one: whatever happens, it does not wait.
        stolen += u32::from(is_pending(front_end.next()).await);
        drop(client);
        // One of both accepts has this one.
        let _second = UnixStream::connect(&path).unwrap();
        is_pending(front_end.next()).await;
        let _third = UnixStream::connect(&path).unwrap();
        thief.join().unwrap().unwrap();
    }
    eprintln!("clients taken away: {stolen}");
    drop(front_end);
    drop(chardev);
}

#[tokio::test(start_paused = true)]
async fn a_giver_that_shuts_it_down() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    let givers = listener.try_clone().unwrap();
    let chardev = open(listener).await.unwrap();
    let mut front_end = chardev.front_end(4).unwrap();
    rustix::net::shutdown(&givers, rustix::net::Shutdown::Both).unwrap();
    // Other tests of this process have some that accept, one for each of their listeners.
    let accepting = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
        names.filter(|name| name.trim() == "accept").count()
    };
    // It is tried again and again, after pauses of a second: time is the runtime's own, which jumps over them.
    let wait = std::time::Duration::from_secs(30);
    assert!(tokio::time::timeout(wait, front_end.next()).await.is_err());
    assert!(accepting() <= 5);
    // What is handed in comes all the same.
    let (ours, _theirs) = UnixStream::pair().unwrap();
    chardev.attach(OwnedFd::from(ours), None).unwrap();
    assert!(front_end.next().await.is_some());
}

#[tokio::test]
async fn what_cannot_be_a_monitor() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let text = open(file).await.unwrap_err().to_string();
    assert_eq!(text, "File descriptor 'seven' is not a socket");
    let (connected, _other) = UnixStream::pair().unwrap();
    let text = open_as(connected, true).await.unwrap_err().to_string();
    assert_eq!(text, "Failed to listen on fd socket: Invalid argument");
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
