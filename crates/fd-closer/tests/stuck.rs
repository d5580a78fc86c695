//! A thousand closes that do not end. A process of its own: the threads are the process's.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;
use std::time::{Duration, Instant};

use budget::{Budget, Holder};
use fd_closer::Received;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketType, bind,
    connect, getsockname, listen, sendmsg, socket, sockopt,
};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
use thread_start::Starter;

const SOON: Duration = Duration::from_secs(20);

/// A socket that would linger for a minute, and its peer. Small ones: there are many.
fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    sockopt::set_socket_recv_buffer_size(&listener, 4096).unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    sockopt::set_socket_send_buffer_size(&socket, 4096).unwrap();
    sockopt::set_socket_linger(&socket, Some(Duration::from_secs(60))).unwrap();
    socket.set_nonblocking(true).unwrap();
    while !matches!(socket.write(&[7; 65536]), Err(e) if e.kind() == ErrorKind::WouldBlock) {}
    socket.set_nonblocking(false).unwrap();
    (socket, peer)
}

fn send(socket: &UnixStream, fd: BorrowedFd<'_>) {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [fd];
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    sendmsg(socket, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
}

/// A unix socket with a lingering one in its queue, unread, and who keeps that one from ending.
fn stuck() -> (OwnedFd, TcpStream) {
    let (lingering, peer) = lingering();
    let (theirs, ours) = UnixStream::pair().unwrap();
    send(&theirs, lingering.as_fd());
    (ours.into(), peer)
}

/// The same, but in a connection that a listening socket was to accept.
fn stuck_for_good() -> (OwnedFd, TcpStream) {
    let (lingering, peer) = lingering();
    let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    // The kernel chooses a name.
    bind(&listener, &SocketAddrUnix::new_unnamed()).unwrap();
    listen(&listener, 1).unwrap();
    let client = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    connect(&client, &getsockname(&listener).unwrap()).unwrap();
    send(&client.into(), lingering.as_fd());
    (listener, peer)
}

/// The threads of this process that close.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "fd-closer").count()
}

/// Waits until a socket's other end is closed.
fn ends(mut theirs: &UnixStream) {
    theirs.set_read_timeout(Some(SOON)).unwrap();
    match theirs.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("not closed: {other:?}"),
    }
}

/// The filters of the calling thread.
fn filters() -> usize {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("Seccomp_filters:"));
    line.map_or(0, |number| number.trim().parse().unwrap())
}

/// A filter that allows everything.
fn confine() {
    let arch = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(BTreeMap::new(), SeccompAction::Allow, SeccompAction::Log, arch).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[test]
fn a_thousand_stuck_closes_hold_up_nobody_else_and_pile_up_no_filters() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();

    let most = Arc::new(AtomicUsize::new(0));
    let seen = most.clone();
    let _announced = fd_closer::announce_to(Starter::new(move |_, _| {
        confine();
        seen.fetch_max(filters(), Ordering::Relaxed);
    }));

    let budget = Budget::new(10);
    let holder = |user| budget.holder_for(Some(user), Waker::noop().clone());
    let (attacker, mut honest) = (holder(1), holder(2));
    honest.set(10, 0);
    let many: Vec<_> = (3..13).map(holder).collect();

    // More than a user's threads, of one whom nobody has charged. Nothing can be taken out of them.
    let listening: Vec<_> = (0..70).map(|_| stuck_for_good()).collect();
    let (listening, mut peers): (Vec<_>, Vec<_>) = listening.into_iter().unzip();
    listening.into_iter().for_each(|fd| drop(Received::of(fd, Some(14))));

    let mut leave = |holder: &Holder| {
        let (stuck, peer) = stuck();
        drop(Received::charged(stuck, holder.account().charge(1)));
        peers.push(peer);
    };
    (0..500).for_each(|_| leave(&attacker));
    many.iter().for_each(|holder| (0..50).for_each(|_| leave(holder)));

    // Another session's, what nobody is charged for, and what the process has accepted: these even with such a thing inside.
    for _ in 0..20 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(Received::charged(ours.into(), honest.account().charge(1)));
        ends(&theirs);
        for user in [None, Some(15)] {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(Received::of(writer.into(), user));
            let mut end = [PollFd::new(&reader, PollFlags::IN)];
            assert_eq!(poll(&mut end, Some(&SOON.try_into().unwrap())).unwrap(), 1, "not closed");
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        fd_closer::close(ours.into());
        ends(&theirs);
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (lingering, peer) = lingering();
        send(&theirs, lingering.as_fd());
        drop(lingering);
        fd_closer::close_connection(ours.into());
        ends(&theirs);
        drop(peer);
    }
    // One session's 16 at most, ten others', one user's, the supervisor, and what has closed the rest.
    let threads = threads();
    assert!(threads < 11 * 16 + 64 + 40, "{threads}");
    // What is beyond half of a session's threads is taken out of what holds it up.
    let start = Instant::now();
    while attacker.account().leaving() > 16 {
        assert!(start.elapsed() < SOON, "{}", attacker.account().leaving());
        std::thread::yield_now();
    }
    assert!(attacker.account().leaving() > 1, "they are not stuck at all");
    assert_eq!(most.load(Ordering::Relaxed), filters() + 2, "the supervisor's and a closer's own");
    honest.enforce();
    assert!(!honest.is_told(), "it could not help it");

    drop(peers);
    while attacker.account().leaving() > 0 {
        assert!(start.elapsed() < SOON);
        std::thread::yield_now();
    }
}
