//! What removal promises, from other threads and from inside.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;

use iothread::{Interest, IoThread};

/// A socket that is readable for good.
fn always_readable() -> (UnixStream, UnixStream) {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    (writer, reader)
}

/// Says on a channel that it was dropped, and on which thread.
struct Dropped(mpsc::Sender<thread::ThreadId>);

impl Drop for Dropped {
    fn drop(&mut self) {
        let _ = self.0.send(thread::current().id());
    }
}

/// Waits until the thread has done all that was asked of it so far.
fn settle(iothread: &IoThread) {
    let (sender, receiver) = mpsc::channel();
    iothread.handle().run(move |_| sender.send(()).unwrap()).unwrap();
    receiver.recv().unwrap();
}

#[test]
fn removal_waits_for_the_call_that_is_going_on() {
    let iothread = IoThread::builder("t").start().unwrap();
    let handle = iothread.handle();
    for _ in 0..200 {
        let (_writer, reader) = always_readable();
        let (dropped, was_dropped) = mpsc::channel();
        let dropped = Dropped(dropped);
        let removed = Arc::new(AtomicBool::new(false));
        let (called, was_called) = mpsc::channel();
        let flag = Arc::clone(&removed);
        let id = handle
            .add_handler(reader, Interest::READ, move |_, _| {
                let _ = (&dropped, called.send(()));
                thread::yield_now();
                assert!(!flag.load(Ordering::SeqCst), "removal returned during a call, or before one");
            })
            .unwrap();
        was_called.recv().unwrap();
        handle.remove_handler(id);
        removed.store(true, Ordering::SeqCst);
        // Dropped by then, on the thread.
        assert_ne!(was_dropped.try_recv().unwrap(), thread::current().id());
    }
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.panics), (0, 0));
}

#[test]
fn removal_of_itself_returns_at_once_and_drops_after_the_call() {
    for through_handle in [false, true] {
        let iothread = IoThread::builder("t").start().unwrap();
        let handle = iothread.handle();
        let (_writer, reader) = always_readable();
        let (dropped, was_dropped) = mpsc::channel();
        let dropped = Dropped(dropped);
        let (called, calls) = mpsc::channel();
        // The handler looks at the drops so far; a drop reports to both.
        let (early_dropped, early) = mpsc::channel();
        let dropped = (dropped, Dropped(early_dropped));
        handle
            .add_handler(Arc::new(reader), Interest::READ, move |_, scope| {
                let _ = &dropped;
                let id = scope.current_handler().unwrap();
                if through_handle {
                    scope.handle().remove_handler(id);
                } else {
                    scope.remove_handler(id);
                }
                assert!(early.try_recv().is_err(), "dropped while it is being called");
                called.send(()).unwrap();
            })
            .unwrap();
        was_dropped.recv().unwrap();
        settle(&iothread);
        assert_eq!(calls.iter().count(), 1);
        assert_eq!((iothread.stats().handlers, iothread.stats().panics), (0, 0));
    }
}

#[test]
fn a_handler_that_removes_another_of_the_same_batch_is_obeyed() {
    let iothread = IoThread::builder("t").start().unwrap();
    let handle = iothread.handle();
    let calls = Arc::new(AtomicU64::new(0));
    let (done, finished) = mpsc::channel();
    // Both are added, and so ready, before either is called: the first call removes the other.
    let adding = handle.clone();
    let counted = Arc::clone(&calls);
    handle
        .run(move |scope| {
            let ids = Arc::new(std::sync::Mutex::new(Vec::new()));
            for _ in 0..2 {
                let (writer, reader) = always_readable();
                let (ids_of_all, counted) = (Arc::clone(&ids), Arc::clone(&counted));
                let (done, handle) = (done.clone(), adding.clone());
                let id = scope
                    .add_handler(reader, Interest::READ, move |_, scope| {
                        let _ = &writer;
                        counted.fetch_add(1, Ordering::SeqCst);
                        for &id in &*ids_of_all.lock().unwrap() {
                            if Some(id) == scope.current_handler() {
                                scope.remove_handler(id);
                            } else {
                                handle.remove_handler(id);
                            }
                        }
                        let _ = done.send(());
                    })
                    .unwrap();
                ids.lock().unwrap().push(id);
            }
        })
        .unwrap();
    finished.recv().unwrap();
    settle(&iothread);
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    assert_eq!(iothread.stats().handlers, 0);
}

#[test]
fn a_file_that_others_hold_open_is_no_longer_reported() {
    let iothread = IoThread::builder("t").start().unwrap();
    let handle = iothread.handle();
    let (_writer, reader) = always_readable();
    let (called, calls) = mpsc::channel();
    let add = |fd: UnixStream| {
        let called = called.clone();
        handle.add_handler(fd, Interest::READ, move |_, _| called.send(()).unwrap()).unwrap()
    };
    let id = add(reader.try_clone().unwrap());
    calls.recv().unwrap();
    handle.remove_handler(id);
    while calls.try_recv().is_ok() {}
    settle(&iothread);
    let served = iothread.stats().handler_calls;
    settle(&iothread);
    assert_eq!(iothread.stats().handler_calls, served);
    // The same file again, most likely under the same number.
    let id = add(reader.try_clone().unwrap());
    calls.recv().unwrap();
    handle.remove_handler(id);
}

#[test]
fn many_threads_add_wake_and_remove() {
    const THREADS: usize = 8;
    const ROUNDS: usize = 100;
    let iothread = IoThread::builder("t").start().unwrap();
    let start = Barrier::new(THREADS);
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                let handle = iothread.handle();
                start.wait();
                for round in 0..ROUNDS {
                    let (mut writer, reader) = UnixStream::pair().unwrap();
                    let removed = Arc::new(AtomicBool::new(false));
                    let flag = Arc::clone(&removed);
                    let (called, calls) = mpsc::channel();
                    let id = handle
                        .add_handler(reader, Interest::READ, move |_, _| {
                            assert!(!flag.load(Ordering::SeqCst));
                            let _ = called.send(());
                        })
                        .unwrap();
                    writer.write_all(b"x").unwrap();
                    handle.wake();
                    if round % 2 == 0 {
                        calls.recv().unwrap();
                    }
                    handle.remove_handler(id);
                    removed.store(true, Ordering::SeqCst);
                }
            });
        }
    });
    settle(&iothread);
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.panics), (0, 0));
}
