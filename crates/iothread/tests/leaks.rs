//! Descriptors and threads return to where they were. One test, so that its process has no others of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use iothread::{Interest, IoThread, IoThreads};

fn entries(path: &str) -> usize {
    fs::read_dir(path).unwrap().count()
}

#[test]
fn descriptors_and_threads_return_to_where_they_were() {
    let count = || (entries("/proc/self/fd"), entries("/proc/self/task"));
    let before = count();
    let iothreads = IoThreads::new();
    for round in 0..50 {
        let id = format!("io{round}");
        iothreads.add(&id, IoThread::builder("t")).unwrap();
        if round == 0 {
            assert_eq!(count(), (before.0 + 2, before.1 + 1), "what one iothread costs");
        }
        let user = iothreads.get(&id).unwrap();
        let handle = user.handle();
        let (ours, theirs) = UnixStream::pair().unwrap();
        let removed = handle.add_handler(ours, Interest::READ_WRITE, |_, _| {}).unwrap();
        handle.add_handler(theirs, Interest::READ, |_, _| {}).unwrap();
        handle.add_timer(Instant::now() + Duration::from_secs(3600), |_| {}).unwrap();
        // A handle that is kept by what the thread keeps must not keep the descriptors alive.
        let own = handle.clone();
        handle.add_timer(Instant::now() + Duration::from_secs(3600), move |_| own.wake()).unwrap();
        handle.remove_handler(removed);
        drop((user, handle));
        drop(iothreads.remove(&id).unwrap());
    }
    // The kernel lists a thread for a moment after it was joined.
    let deadline = Instant::now() + Duration::from_secs(10);
    while count() != before && Instant::now() < deadline {
        thread::yield_now();
    }
    assert_eq!(count(), before);
}
