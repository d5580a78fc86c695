//! What runs on a closing thread as it starts. A process of its own: the threads are the process's.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::time::Duration;

use thread_start::{Starter, ThreadKind};

const SOON: Duration = Duration::from_secs(20);

/// Has a descriptor closed by a thread, and waits until it is.
fn close_one() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(SOON)).unwrap();
    fd_closer::close(OwnedFd::from(ours));
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
}

/// The threads of this process that close.
fn threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.trim() == "fd-closer").count()
}

#[test]
fn hooks_run_on_the_threads_and_one_that_panics_keeps_nothing_open() {
    // A hook that panics: what waits is closed all the same, again and again.
    let panics = fd_closer::announce_to(Starter::new(|_, _| panic!("not this one")));
    std::panic::set_hook(Box::new(|_| {}));
    for _ in 0..3 {
        close_one();
    }
    drop(panics);
    let _ = std::panic::take_hook();

    let (sender, started) = mpsc::channel();
    let hook = move |kind, name: &str| {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap().trim().to_owned();
        let _ = sender.send((kind, name.to_owned(), blocked));
    };
    let announced = fd_closer::announce_to(Starter::new(hook));
    close_one();
    let (kind, name, blocked) = started.recv_timeout(SOON).unwrap();
    assert_eq!((kind, name.as_str()), (ThreadKind::FdCloser, "fd-closer"));
    // SIGHUP, SIGINT, SIGTERM: signals 1, 2, 15.
    assert_eq!(u64::from_str_radix(&blocked, 16).unwrap() & 0x4003, 0x4003);
    assert!(threads() > 0);

    drop(announced);
    // Nobody is told any more: the hook goes with the last thread that it ran on.
    close_one();
    let end = loop {
        if let Err(end) = started.recv_timeout(SOON) {
            break end;
        }
    };
    assert_eq!(end, mpsc::RecvTimeoutError::Disconnected);
}
