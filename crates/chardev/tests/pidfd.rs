//! A socket whose sender keeps a copy of our end, and has the kernel install a descriptor with each message: none stays.
//! In a process of its own, whose descriptors it counts.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![expect(unsafe_code, reason = "SO_PASSPIDFD has no safe wrapper")]

mod common;

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;

use chardev::{Address, Backend, Chardev, SocketOptions};
use common::read;

/// `false` if the kernel is too old for it.
fn pass_pidfd(socket: BorrowedFd<'_>) -> bool {
    let on: libc::c_int = 1;
    let size = libc::socklen_t::try_from(size_of_val(&on)).unwrap();
    // SAFETY: the option is an integer, of that size, and lives through the call. The socket is borrowed, so open.
    let said = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PASSPIDFD,
            (&raw const on).cast(),
            size,
        )
    };
    if said != 0 {
        eprintln!("SKIPPED: this kernel has no SO_PASSPIDFD");
    }
    said == 0
}

/// Descriptors of processes that this process has.
fn pidfds() -> usize {
    let all = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = all.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
}

async fn reads_all_ways(chardev: Chardev, peer: &mut UnixStream) {
    let mut front_end = Arc::new(chardev).front_end(1).unwrap();
    let connection = front_end.next().await.unwrap();
    for _ in 0..10 {
        peer.write_all(b"bytes").unwrap();
        assert_eq!(read(&connection).await.unwrap(), b"bytes");
        peer.write_all(b"more").unwrap();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        std::future::poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
        assert_eq!(connection.try_recv(&mut buf, &mut fds).unwrap().len, 4);
        assert!(fds.is_empty());
    }
    assert_eq!(pidfds(), 0);
}

#[tokio::test]
async fn none_stays() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let copy: OwnedFd = ours.as_fd().try_clone_to_owned().unwrap();
    let address = |fd: OwnedFd| Address::Fd { fd, name: "n".to_owned() };
    let client = Backend::Socket(SocketOptions::client(address(ours.into())));
    let chardev = Chardev::open("c", client, 1).await.unwrap();
    if !pass_pidfd(copy.as_fd()) {
        return;
    }
    reads_all_ways(chardev, &mut theirs).await;

    // What is accepted inherits it of its listener.
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("s")).unwrap();
    assert!(pass_pidfd(listener.as_fd()));
    let server = Backend::Socket(SocketOptions::server(address(listener.into())));
    let chardev = Chardev::open("s", server, 1).await.unwrap();
    let mut client = UnixStream::connect(dir.path().join("s")).unwrap();
    reads_all_ways(chardev, &mut client).await;
}
