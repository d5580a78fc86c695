//! What several cases attack with.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::wire::{self, dev_null};

use crate::frame::done;

/// A TCP socket whose close waits until its peer goes, for twenty seconds, and that peer. A received descriptor stays its
/// sender's; who closes it last is the one who waits.
#[derive(Debug)]
pub(crate) struct Lingering {
    /// Never reads. Dropped first, so that nobody waits for it any more.
    _peer: TcpStream,
    socket: Option<OwnedFd>,
}

impl Lingering {
    pub(crate) fn new() -> Self {
        let (mut socket, peer) = tcp_pair();
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(20))).unwrap();
        fill(&mut socket);
        Self { socket: Some(socket.into()), _peer: peer }
    }

    pub(crate) fn fd(&self) -> &OwnedFd {
        self.socket.as_ref().unwrap()
    }

    /// Wraps it into a socket that carries it, unread, and that one into another, `depth` times. Setting the outermost not
    /// to linger does nothing to what is inside.
    pub(crate) fn inside(depth: usize) -> (OwnedFd, Self) {
        let mut bomb = Self::new();
        let mut outer = OwnedFd::from(UnixStream::from(bomb.socket.take().unwrap()));
        for _ in 0..depth {
            let (carrier, keeps) = UnixStream::pair().unwrap();
            wire::send(&carrier, b"x", &[outer.as_fd()]).unwrap();
            outer = keeps.into();
        }
        (outer, bomb)
    }

    /// Gives up our own: whoever was sent it has the last one.
    pub(crate) fn leave(&mut self) {
        if let Some(own) = self.socket.take() {
            let_go(own);
        }
    }
}

/// Closes our own of a descriptor elsewhere: `vmmd` may have closed its already, and then it is this one that waits.
pub(crate) fn let_go(fd: OwnedFd) {
    std::thread::spawn(move || drop(fd));
}

/// Writes until nothing more fits. The socket does not block from then on.
pub(crate) fn fill<S: Write + AsFd>(socket: &mut S) {
    rustix::io::ioctl_fionbio(&*socket, true).unwrap();
    while !matches!(socket.write(&[0; 65536]), Err(e) if e.kind() == ErrorKind::WouldBlock) {}
}

pub(crate) fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    (socket, peer)
}

pub(crate) fn nulls(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| dev_null().unwrap()).collect()
}

pub(crate) fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// A thread that does something again and again until it is told to stop.
#[derive(Debug)]
pub(crate) struct Again {
    over: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Again {
    pub(crate) fn and_again(mut act: impl FnMut() + Send + 'static) -> Self {
        let over = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let told = std::sync::Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            while !told.load(std::sync::atomic::Ordering::Relaxed) {
                act();
            }
        });
        Self { over, thread: Some(thread) }
    }
}

impl Drop for Again {
    fn drop(&mut self) {
        self.over.store(true, std::sync::atomic::Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Reads and throws away what comes, on a thread of its own, until the end.
pub(crate) fn drain(mut socket: impl Read + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = vec![0; 1 << 16];
        while matches!(socket.read(&mut chunk), Ok(1..)) {}
    })
}

/// `chardev-add`'s arguments for a socket that `getfd` named.
pub(crate) fn socket_of_fd(id: &str, name: &str, server: bool) -> Value {
    let addr = json!({"type": "fd", "data": {"str": name}});
    let mut data = json!({"addr": addr, "server": server});
    if server {
        data["wait"] = json!(false);
    }
    json!({"id": id, "backend": {"type": "socket", "data": data}})
}

/// `chardev-add`'s arguments for a listener on this path.
pub(crate) fn listener_on(id: &str, path: &str) -> Value {
    let addr = json!({"type": "unix", "data": {"path": path}});
    json!({"id": id, "backend": {"type": "socket", "data": {"addr": addr, "server": true, "wait": false}}})
}

/// `chardev-add`'s arguments for a client of the socket at this path.
pub(crate) fn client_of(id: &str, path: &str) -> Value {
    let addr = json!({"type": "unix", "data": {"path": path}});
    json!({"id": id, "backend": {"type": "socket", "data": {"addr": addr, "server": false}}})
}

/// Somebody who listens at this path, never accepts, and whose backlog is full: who connects now waits.
pub(crate) fn full_listener(path: &str) -> (OwnedFd, UnixStream) {
    use rustix::net::{AddressFamily, SocketType};
    let listener = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &rustix::net::SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let in_the_queue = UnixStream::connect(path).unwrap();
    (listener, in_the_queue)
}

/// `chardev-add`'s arguments for a pipe.
pub(crate) fn pipe_on(id: &str, path: &str) -> Value {
    json!({"id": id, "backend": {"type": "pipe", "data": {"device": path}}})
}

/// `chardev-add`'s arguments for a file.
pub(crate) fn file_on(id: &str, path: &str) -> Value {
    json!({"id": id, "backend": {"type": "file", "data": {"out": path}}})
}

/// `object-add`'s arguments for a QMP monitor.
pub(crate) fn monitor_on(id: &str, chardev: &str) -> Value {
    json!({"qom-type": "monitor-qmp", "id": id, "chardev": chardev})
}

/// Removes a monitor and its chardev.
#[track_caller]
pub(crate) fn without_monitor(client: &mut Client, monitor: &str, chardev: &str) {
    done(client, "object-del", json!({"id": monitor}));
    done(client, "chardev-remove", json!({"id": chardev}));
}

/// A client over an end of a pair whose other end is a descriptor to give away.
pub(crate) fn unix_pair() -> (Client, UnixStream) {
    let (here, there) = UnixStream::pair().unwrap();
    (Client::over(here).unwrap(), there)
}

/// Hands an end of a connection to a chardev as a client.
#[track_caller]
pub(crate) fn hand_in(client: &mut Client, chardev: &str, socket: &OwnedFd) {
    client.getfd("handed", socket).unwrap();
    client.call("add_client", json!({"protocol": chardev, "fdname": "handed"})).unwrap();
}
