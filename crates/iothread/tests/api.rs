//! Timers, closures, fairness, panics, properties, the registry.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use iothread::{Error, Interest, IoThread, IoThreads, Properties};

fn start() -> IoThread {
    IoThread::builder("t").start().unwrap()
}

/// A handler that is called again and again.
fn keep_busy(iothread: &IoThread) -> UnixStream {
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    iothread.handle().add_handler(reader, Interest::READ, |_, _| {}).unwrap();
    writer
}

#[test]
fn the_thread_is_real_and_its_hook_runs_first() {
    let (sender, receiver) = mpsc::channel();
    let iothread = IoThread::builder("IO a-name-longer-than-linux-takes")
        .on_start(move || sender.send(rustix::thread::gettid()).unwrap())
        .start()
        .unwrap();
    assert_eq!(receiver.try_recv().unwrap().as_raw_nonzero().get(), iothread.thread_id());
    let comm = fs::read_to_string(format!("/proc/self/task/{}/comm", iothread.thread_id())).unwrap();
    assert_eq!(comm.trim_end(), "IO a-name-longe");
    assert!(matches!(IoThread::builder("t").on_start(|| panic!("hook")).start(), Err(Error::Hook)));
    assert!(matches!(IoThread::builder("a\0b").start(), Err(Error::Name)));
}

#[test]
fn timers_fire_in_order_and_not_early() {
    let iothread = start();
    let (sender, receiver) = mpsc::channel();
    let now = Instant::now();
    let due = move |ms| now + Duration::from_millis(ms);
    let cancelled = sender.clone();
    // All at once, so that none is due before the others are there.
    let add = move |scope: &mut iothread::Scope<'_>| {
        for ms in [6, 2, 4, 2] {
            let sender = sender.clone();
            scope.add_timer(due(ms), move |_| sender.send((ms, Instant::now() >= due(ms))).unwrap());
        }
    };
    iothread.handle().run(add).unwrap();
    let later = now + Duration::from_secs(3600);
    let id = iothread.handle().add_timer(later, move |_| cancelled.send((0, false)).unwrap()).unwrap();
    iothread.handle().cancel_timer(id);
    // Ends when the last of them, the cancelled one too, is dropped.
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [(2, true), (2, true), (4, true), (6, true)]);
}

#[test]
fn a_periodic_timer_cancels_itself() {
    let iothread = start();
    let (sender, receiver) = mpsc::channel();
    let mut left = 3;
    let interval = Duration::from_micros(100);
    let beat = move |scope: &mut iothread::Scope<'_>| {
        left -= 1;
        sender.send(left).unwrap();
        if left == 0 {
            let id = scope.current_timer().unwrap();
            scope.cancel_timer(id);
        }
    };
    iothread.handle().add_periodic_timer(Instant::now(), interval, beat).unwrap();
    // Ends when the timer, and the sender with it, is dropped.
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 1, 0]);
}

#[test]
fn a_busy_descriptor_starves_nobody_nor_do_endless_closures() {
    fn again(scope: &mut iothread::Scope<'_>) {
        scope.run(again);
    }
    let iothread = start();
    let _busy = keep_busy(&iothread);
    iothread.handle().run(again).unwrap();
    iothread.handle().add_periodic_timer(Instant::now(), Duration::ZERO, |_| {}).unwrap();

    let (sender, receiver) = mpsc::channel();
    let (closure, timer, handler) = (sender.clone(), sender.clone(), sender);
    iothread.handle().run(move |_| closure.send("closure").unwrap()).unwrap();
    iothread.handle().add_timer(Instant::now(), move |_| timer.send("timer").unwrap()).unwrap();
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    iothread
        .handle()
        .add_handler(reader, Interest::READ, move |_, scope| {
            handler.send("handler").unwrap();
            let id = scope.current_handler().unwrap();
            scope.remove_handler(id);
        })
        .unwrap();
    let mut got: Vec<_> = receiver.iter().collect();
    got.sort_unstable();
    assert_eq!(got, ["closure", "handler", "timer"]);
}

#[test]
fn interest_can_be_changed() {
    let iothread = start();
    let (sender, receiver) = mpsc::channel();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let handler = move |events: iothread::Events, scope: &mut iothread::Scope<'_>| {
        let id = scope.current_handler().unwrap();
        if events.hangup() {
            scope.remove_handler(id);
        } else {
            scope.modify_handler(id, Interest::NONE);
        }
        // Last, for the test changes the interest once it has this.
        sender.send((events.readable(), events.writable(), events.hangup())).unwrap();
    };
    let id = iothread.handle().add_handler(theirs, Interest::NONE, handler).unwrap();
    iothread.handle().modify_handler(id, Interest::WRITE).unwrap();
    assert_eq!(receiver.recv().unwrap(), (false, true, false));
    (&ours).write_all(b"x").unwrap();
    iothread.handle().modify_handler(id, Interest::READ).unwrap();
    assert_eq!(receiver.recv().unwrap(), (true, false, false));
    drop(ours);
    assert_eq!(receiver.recv().unwrap(), (false, false, true));
}

#[test]
fn panics_harm_nobody_else() {
    let iothread = start();
    let handle = iothread.handle();
    let _busy = keep_busy(&iothread);
    let (mut writer, reader) = UnixStream::pair().unwrap();
    writer.write_all(b"x").unwrap();
    let (sender, receiver) = mpsc::channel::<()>();
    let panics = move |_: iothread::Events, _: &mut iothread::Scope<'_>| {
        let _ = &sender;
        panic!("a handler");
    };
    handle.add_handler(reader, Interest::READ, panics).unwrap();
    // Ends when the handler is dropped.
    assert!(receiver.recv().is_err());
    handle.add_timer(Instant::now(), |_| panic!("a timer")).unwrap();
    handle.run(|_| panic!("a closure")).unwrap();
    let (sender, receiver) = mpsc::channel();
    let last = Instant::now();
    handle.add_timer(last, move |scope| scope.run(move |_| sender.send(()).unwrap())).unwrap();
    receiver.recv().unwrap();
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.panics), (1, 3));
}

#[test]
fn an_iothread_may_be_dropped_by_its_own_handler() {
    let iothread = start();
    let handle = iothread.handle();
    let (mut writer, reader) = UnixStream::pair().unwrap();
    let (sender, receiver) = mpsc::channel();
    let mut owned = Some(iothread);
    let handler = move |_: iothread::Events, _: &mut iothread::Scope<'_>| {
        drop(owned.take());
        sender.send(thread::current().id()).unwrap();
    };
    handle.add_handler(reader, Interest::READ, handler).unwrap();
    writer.write_all(b"x").unwrap();
    // One call, then the handler is dropped with the thread.
    assert_eq!(receiver.iter().count(), 1);
    while handle.run(|_| {}).is_ok() {
        thread::yield_now();
    }
    assert!(matches!(handle.add_timer(Instant::now(), |_| {}), Err(Error::Stopped)));
}

#[test]
fn what_is_left_is_dropped_on_the_thread_and_the_thread_joined() {
    let iothread = start();
    let handle = iothread.handle();
    let _busy = keep_busy(&iothread);
    let (sender, receiver) = mpsc::channel::<()>();
    let later = Instant::now() + Duration::from_secs(3600);
    handle.add_timer(later, move |_| drop(sender)).unwrap();
    drop(iothread);
    assert_eq!(receiver.try_recv(), Err(mpsc::TryRecvError::Disconnected));
    let (reader, _writer) = UnixStream::pair().unwrap();
    assert!(matches!(handle.add_handler(reader, Interest::READ, |_, _| {}), Err(Error::Stopped)));
}

#[test]
fn a_regular_file_cannot_be_watched() {
    let iothread = start();
    let file: OwnedFd = fs::File::open("/proc/self/exe").unwrap().into();
    assert!(matches!(iothread.handle().add_handler(file, Interest::READ, |_, _| {}), Err(Error::Watch(_))));
}

#[test]
fn the_registry_counts_users() {
    let iothreads = IoThreads::new();
    iothreads.add("b", IoThread::builder("IO b")).unwrap();
    iothreads.add("a", IoThread::builder("IO a")).unwrap();
    let error = iothreads.add("a", IoThread::builder("IO a")).unwrap_err();
    assert_eq!(error.to_string(), "attempt to add duplicate property 'a' to object (type 'container')");
    let first = iothreads.get("a").unwrap();
    let second = first.clone();
    let users: Vec<_> = iothreads.list().into_iter().map(|info| (info.id, info.users)).collect();
    assert_eq!(users, [("a".to_owned(), 2), ("b".to_owned(), 0)]);
    drop(first);
    let error = iothreads.remove("a").unwrap_err();
    assert_eq!(error.to_string(), "object 'a' is in use, can not be deleted");
    assert_eq!(second.get("thread-pool-max").unwrap(), 64);
    drop(second);
    drop(iothreads.remove("a").unwrap());
    assert_eq!(iothreads.remove("a").unwrap_err().to_string(), "object 'a' not found");
}

#[test]
fn a_reference_and_a_removal_exclude_each_other() {
    let iothreads = IoThreads::new();
    iothreads.add("a", IoThread::builder("IO a")).unwrap();
    thread::scope(|threads| {
        let users: Vec<_> = (0..4)
            .map(|_| {
                threads.spawn(|| {
                    // Until it has been removed, or long enough; what a reference leads to runs.
                    for user in (0..1000).map_while(|_| iothreads.get("a")) {
                        user.handle().run(|_| {}).unwrap();
                    }
                })
            })
            .collect();
        while let Err(error) = iothreads.remove("a") {
            assert!(matches!(error, Error::InUse { .. }));
            thread::yield_now();
        }
        for user in users {
            user.join().unwrap();
        }
    });
    assert!(iothreads.list().is_empty());
}

#[test]
fn properties_are_checked_at_the_start_and_while_it_runs() {
    let mut properties = Properties::default();
    properties.set("thread-pool-min", 70).unwrap();
    let refused = IoThread::builder("t").properties(properties).start();
    assert!(matches!(refused, Err(Error::ThreadPool)));
    properties.set("thread-pool-max", 80).unwrap();
    let iothread = IoThread::builder("t").properties(properties).start().unwrap();
    assert!(matches!(iothread.set("thread-pool-min", 81), Err(Error::ThreadPool)));
    assert_eq!(iothread.get("thread-pool-min").unwrap(), 81);
}

/// Counts the bytes of both its sockets; takes the second one up when it is told to on the first.
struct Both {
    first: Arc<UnixStream>,
    second: Arc<UnixStream>,
    tell: mpsc::Sender<(usize, usize)>,
}

impl iothread::Handler for Both {
    fn ready(&mut self, _: iothread::Events, scope: &mut iothread::Scope<'_>) {
        let mut count = |stream: &UnixStream| {
            let mut bytes = [0; 16];
            let count = (&mut &*stream).read(&mut bytes).unwrap_or(0);
            match bytes[0] {
                b'+' if count > 0 => scope.watch_second(Arc::clone(&self.second), Interest::READ).unwrap(),
                b'-' if count > 0 => scope.unwatch_second(),
                b'0' if count > 0 => scope.modify_second(Interest::NONE),
                _ => {}
            }
            count
        };
        let counts = (count(&self.first), count(&self.second));
        self.tell.send(counts).unwrap();
    }
}

#[test]
fn a_handler_may_have_a_second_descriptor() {
    let (mut first, ours) = UnixStream::pair().unwrap();
    let (mut second, theirs) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let (tell, told) = mpsc::channel();
    let iothread = IoThread::builder("IO second").start().unwrap();
    let (ours, theirs) = (Arc::new(ours), Arc::new(theirs));
    let both = Both { first: Arc::clone(&ours), second: Arc::clone(&theirs), tell };
    let id = iothread.handle().add_polled(ours, Interest::READ, both).unwrap();
    let next = || told.recv_timeout(Duration::from_secs(10)).unwrap();

    first.write_all(b"+").unwrap();
    assert_eq!(next(), (1, 0));
    second.write_all(b"ab").unwrap();
    assert_eq!(next(), (0, 2));
    first.write_all(b"0").unwrap();
    assert_eq!(next(), (1, 0));
    second.write_all(b"abc").unwrap();
    first.write_all(b"-").unwrap();
    assert_eq!(next(), (1, 3), "not called for the second, which it reads all the same");
    second.write_all(b"x").unwrap();
    first.write_all(b"+").unwrap();
    assert_eq!(next(), (1, 1));
    iothread.handle().remove_handler(id);
    assert_eq!(Arc::strong_count(&theirs), 1, "the iothread has let go of it");
}
