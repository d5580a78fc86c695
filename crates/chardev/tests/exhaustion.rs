//! Out of descriptors: a listener waits and goes on, descriptors that do not fit stay where they are. Alone in its process,
//! whose limit it changes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use common::{listener, send_fds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

fn null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// Allows this many more descriptors than are open. They are numbered without gaps, or nearly.
fn allow(more: u64) {
    let free = rustix::io::dup(null()).unwrap(); // the lowest free number, or the next
    let next = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&free)).unwrap() - 1;
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(next + more), maximum }).unwrap();
}

fn open_fds() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[tokio::test(start_paused = true)]
async fn a_listener_waits_and_descriptors_are_all_or_none() {
    let before_limit = getrlimit(Resource::Nofile);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let (_chardev, mut front_end) = listener(&path, 64, 128).await;

    let client = UnixStream::connect(&path).unwrap();
    allow(0);
    assert!(tokio::time::timeout(Duration::from_secs(60), front_end.next()).await.is_err());
    setrlimit(Resource::Nofile, before_limit).unwrap();
    let connection = front_end.next().await.unwrap();

    let sent: Vec<_> = (0..10).map(|_| null()).collect();
    send_fds(&client, b"ten", &sent).unwrap();
    let before = open_fds();
    allow(4);
    poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
    let mut fds = vec![];
    let refused = connection.try_recv(&mut [0; 8], &mut fds).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::MFILE.raw_os_error()));
    setrlimit(Resource::Nofile, before_limit).unwrap();
    assert!(fds.is_empty());
    // None was lost. Their copies are closed aside; each turn of the runtime gives that a chance.
    while open_fds() > before {
        tokio::task::yield_now().await;
    }
    let received = connection.try_recv(&mut [0; 8], &mut fds).unwrap();
    assert_eq!((received.len, received.fds, received.truncated, fds.len()), (3, true, false, 10));
    fds.clear();

    // There is room for exactly those that come.
    send_fds(&client, b"ten", &sent).unwrap();
    allow(10);
    poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
    let received = connection.try_recv(&mut [0; 8], &mut fds).unwrap();
    assert_eq!((received.len, received.fds, received.truncated, fds.len()), (3, true, false, 10));
    setrlimit(Resource::Nofile, before_limit).unwrap();
    fds.clear();

    // A listener that was given waits likewise, though another thread accepts.
    let given = std::os::unix::net::UnixListener::bind(dir.path().join("given")).unwrap();
    let address = chardev::Address::Fd { fd: given.into(), name: "7".into() };
    let options = chardev::SocketOptions::server(address);
    let given = chardev::Chardev::open("g", chardev::Backend::Socket(options), 8).await.unwrap();
    let mut given = std::sync::Arc::new(given).front_end(1).unwrap();
    let _client = UnixStream::connect(dir.path().join("given")).unwrap();
    allow(0);
    assert!(tokio::time::timeout(Duration::from_secs(60), given.next()).await.is_err());
    setrlimit(Resource::Nofile, before_limit).unwrap();
    assert!(given.next().await.is_some());

    // The connection goes on.
    send_fds(&client, b"one", &sent[..1]).unwrap();
    poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
    assert!(connection.try_recv(&mut [0; 8], &mut fds).unwrap().fds);
    assert_eq!(fds.len(), 1);
}
