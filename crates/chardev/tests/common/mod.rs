//! What several tests need.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test uses some of it; a failing helper fails the test"
)]

use std::future::{Future, poll_fn};
use std::io;
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;

use chardev::{Address, Backend, Chardev, Connection, FrontEnd, SocketOptions};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// A chardev that listens at this path, and its front end.
pub(crate) async fn listener(path: &Path, max_clients: usize, backlog: u32) -> (Arc<Chardev>, FrontEnd) {
    let options = SocketOptions::server(Address::unix(path));
    let chardev = Arc::new(Chardev::open("c", Backend::Socket(options), backlog).await.unwrap());
    let front_end = chardev.front_end(max_clients).unwrap();
    (chardev, front_end)
}

/// Whether a future is not ready, after the runtime has had a look at the sockets.
pub(crate) async fn is_pending<F: Future>(future: F) -> bool {
    let mut future = std::pin::pin!(future);
    for _ in 0..3 {
        if poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_ready())).await {
            return false;
        }
        // Time is real here: a timer makes the runtime poll the sockets before it fires.
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
    true
}

/// The next read, however long it takes.
pub(crate) async fn read(connection: &Connection) -> io::Result<Vec<u8>> {
    let mut buf = [0; 64];
    loop {
        poll_fn(|cx| connection.poll_read_ready(cx)).await?;
        match connection.try_recv_plain(&mut buf) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            read => return read.map(|len| buf[..len].to_vec()),
        }
    }
}

/// One write with copies of these descriptors.
pub(crate) fn send_fds(to: &UnixStream, bytes: &[u8], fds: &[OwnedFd]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    Ok(sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::empty())?)
}

/// Sends bytes that fit.
pub(crate) async fn send(connection: &Connection, bytes: &[u8]) {
    poll_fn(|cx| connection.poll_write_ready(cx)).await.unwrap();
    assert_eq!(connection.try_send(bytes).unwrap(), bytes.len());
}
