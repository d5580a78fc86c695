//! Handlers with a hook, and a thread that is busy polling them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use iothread::{Events, Handle, Handler, HandlerId, Interest, IoThread, Properties, Scope};

/// As good as for ever: a test that waits for the end of this has failed.
const LONG: Duration = Duration::from_secs(3600);

/// A thread that, once it has begun to poll, polls for [`LONG`]: it grows to that in one step.
fn start() -> IoThread {
    let mut properties = Properties::default();
    properties.set("poll-max-ns", i64::try_from(LONG.as_nanos()).unwrap()).unwrap();
    properties.set("poll-grow", i64::MAX).unwrap();
    IoThread::builder("t").properties(properties).start().unwrap()
}

/// Sends back each byte. Counts how often it is asked for work.
struct Echo {
    stream: Arc<UnixStream>,
    polls: Arc<AtomicU64>,
}

impl Handler for Echo {
    fn ready(&mut self, _: Events, _: &mut Scope<'_>) {
        self.serve();
    }

    fn poll(&mut self, _: &mut Scope<'_>) -> bool {
        self.polls.fetch_add(1, Ordering::Relaxed);
        self.serve()
    }
}

impl Echo {
    fn serve(&self) -> bool {
        let mut byte = [0];
        (&*self.stream).read(&mut byte).is_ok_and(|count| count == 1 && (&*self.stream).write(&byte).is_ok())
    }
}

struct Client {
    stream: UnixStream,
    polls: Arc<AtomicU64>,
    id: HandlerId,
}

impl Client {
    fn add(handle: &Handle) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        let (stream, polls) = (Arc::new(theirs), Arc::new(AtomicU64::new(0)));
        let echo = Echo { stream: Arc::clone(&stream), polls: Arc::clone(&polls) };
        let id = handle.add_polled(stream, Interest::READ, echo).unwrap();
        Self { stream: ours, polls, id }
    }

    fn exchange(&mut self) {
        self.stream.write_all(b"x").unwrap();
        self.stream.read_exact(&mut [0]).unwrap();
    }

    fn polls(&self) -> u64 {
        self.polls.load(Ordering::Relaxed)
    }
}

/// A thread that is busy polling, and will be for [`LONG`].
fn polling() -> (IoThread, Client) {
    let iothread = start();
    let mut client = Client::add(&iothread.handle());
    loop {
        // Nobody tells when the thread is asleep, and only a wait that ends makes polling grow.
        while iothread.stats().poll_time < LONG {
            client.exchange();
        }
        // It polls, unless it is just having a look at what it is like without.
        let (polls, seen) = (client.polls(), Instant::now());
        while seen.elapsed() < Duration::from_millis(100) {
            if client.polls() > polls {
                return (iothread, client);
            }
            thread::yield_now();
        }
        client.exchange();
    }
}

/// Waits until the thread has done all that was asked of it so far.
fn settle(iothread: &IoThread) {
    let (sender, receiver) = mpsc::channel();
    iothread.handle().run(move |_| sender.send(()).unwrap()).unwrap();
    receiver.recv().unwrap();
}

#[test]
fn polling_finds_work_without_a_wakeup() {
    let (iothread, mut client) = polling();
    // Once in many turns it has a look at what it is like without polling; not in one round after another.
    let (before, after) = (0..10)
        .map(|_| {
            settle(&iothread);
            let before = iothread.stats();
            for _ in 0..10 {
                client.exchange();
            }
            settle(&iothread);
            (before, iothread.stats())
        })
        .find(|(before, after)| before.wakeups == after.wakeups)
        .unwrap();
    assert_eq!(after.handler_calls, before.handler_calls);
    assert_eq!(after.poll_hits, before.poll_hits + 10);
    assert_eq!((after.handlers, after.polled_handlers), (1, 1));
    assert!(after.poll_time > Duration::ZERO && after.polling > Duration::ZERO);
}

#[test]
fn without_poll_max_ns_no_hook_is_called() {
    let mut properties = Properties::default();
    properties.set("poll-max-ns", 0).unwrap();
    let iothread = IoThread::builder("t").properties(properties).start().unwrap();
    let mut client = Client::add(&iothread.handle());
    for _ in 0..1000 {
        client.exchange();
    }
    let stats = iothread.stats();
    assert_eq!((client.polls(), stats.poll_hits, stats.poll_misses), (0, 0, 0));
    assert_eq!((stats.poll_time, stats.polling), (Duration::ZERO, Duration::ZERO));
}

#[test]
fn what_is_asked_of_a_polling_thread_is_done_meanwhile() {
    let (iothread, _client) = polling();
    let handle = iothread.handle();
    let wakeups = iothread.stats().wakeups;
    let (sender, receiver) = mpsc::channel();
    let (closure, timer, beat, handler) = (sender.clone(), sender.clone(), sender.clone(), sender);
    handle.run(move |_| closure.send("closure").unwrap()).unwrap();
    handle
        .add_timer(Instant::now() + Duration::from_millis(1), move |_| timer.send("timer").unwrap())
        .unwrap();
    let mut beats = 0;
    let beat = move |scope: &mut Scope<'_>| {
        beats += 1;
        if beats == 3 {
            beat.send("third beat").unwrap();
            let id = scope.current_timer().unwrap();
            scope.cancel_timer(id);
        }
    };
    handle.add_periodic_timer(Instant::now(), Duration::from_millis(1), beat).unwrap();
    // One that has no hook and is found by epoll all the same.
    let (mut writer, reader) = UnixStream::pair().unwrap();
    let plain = move |_: Events, scope: &mut Scope<'_>| {
        handler.send("handler").unwrap();
        scope.remove_current();
    };
    handle.add_handler(reader, Interest::READ, plain).unwrap();
    writer.write_all(b"x").unwrap();
    let mut got: Vec<_> = receiver.iter().collect();
    got.sort_unstable();
    assert_eq!(got, ["closure", "handler", "third beat", "timer"]);
    handle.wake();
    settle(&iothread);
    assert_eq!(iothread.stats().wakeups, wakeups, "it went to sleep");
}

#[test]
fn removal_is_prompt_and_final_while_the_thread_polls() {
    let (iothread, keeps_it_polling) = polling();
    let handle = iothread.handle();
    for _ in 0..200 {
        let client = Client::add(&handle);
        while client.polls() == 0 {
            thread::yield_now();
        }
        handle.remove_handler(client.id);
        let polls = client.polls();
        // The other one is polled on.
        let others = keeps_it_polling.polls();
        while keeps_it_polling.polls() == others {
            thread::yield_now();
        }
        assert_eq!(client.polls(), polls, "polled after its removal");
        assert_eq!(Arc::strong_count(&client.polls), 1, "not dropped");
    }
    handle.remove_handler(keeps_it_polling.id);
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.polled_handlers, stats.panics), (0, 0, 0));
}

#[test]
fn a_polling_thread_stops_at_once() {
    let (iothread, client) = polling();
    drop(iothread);
    assert_eq!(Arc::strong_count(&client.polls), 1);
}

#[test]
fn a_property_that_is_set_takes_effect_at_once() {
    let (iothread, mut client) = polling();
    iothread.set("poll-max-ns", 0).unwrap();
    client.exchange();
    settle(&iothread);
    let polls = client.polls();
    client.exchange();
    settle(&iothread);
    assert_eq!(client.polls(), polls);
    assert_eq!(iothread.stats().poll_time, Duration::ZERO);
    // And polling starts from nothing when it is allowed again.
    iothread.set("poll-max-ns", i64::MAX).unwrap();
    assert_eq!(iothread.stats().poll_time, Duration::ZERO);
    while iothread.stats().poll_time < LONG {
        client.exchange();
    }
    iothread.set("poll-shrink", 5).unwrap();
    while iothread.stats().poll_time > Duration::ZERO {
        settle(&iothread);
    }
}

/// What [`Own`] does to itself when it is asked for work the third time.
#[derive(Clone, Copy)]
enum Act {
    Remove,
    RemoveThroughHandle,
    Disarm,
    Panic,
}

/// A hook that looks at itself.
struct Own {
    act: Act,
    calls: u32,
    called: mpsc::Sender<u32>,
}

impl Handler for Own {
    fn ready(&mut self, _: Events, _: &mut Scope<'_>) {
        self.called.send(0).unwrap();
    }

    fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
        let id = scope.current_handler().unwrap();
        self.calls += 1;
        self.called.send(self.calls).unwrap();
        if self.calls == 3 {
            match self.act {
                Act::Remove => scope.remove_current(),
                Act::RemoveThroughHandle => scope.handle().remove_handler(id),
                Act::Disarm => scope.modify_current(Interest::NONE),
                Act::Panic => panic!("a hook"),
            }
        }
        false
    }
}

#[test]
fn a_hook_may_remove_its_handler_or_panic() {
    let (iothread, _client) = polling();
    for act in [Act::Remove, Act::RemoveThroughHandle, Act::Panic] {
        let (called, calls) = mpsc::channel();
        let (_ours, theirs) = UnixStream::pair().unwrap();
        iothread.handle().add_polled(theirs, Interest::READ, Own { act, calls: 0, called }).unwrap();
        // Ends when the handler is dropped.
        assert_eq!(calls.iter().collect::<Vec<_>>(), [1, 2, 3]);
    }
    settle(&iothread);
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.polled_handlers, stats.panics), (1, 1, 1));
}

#[test]
fn a_handler_that_does_not_want_to_read_is_not_polled() {
    let (iothread, client) = polling();
    let handle = iothread.handle();
    let (called, calls) = mpsc::channel();
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let id = handle.add_polled(theirs, Interest::READ, Own { act: Act::Disarm, calls: 0, called }).unwrap();
    for call in 1..=3 {
        assert_eq!(calls.recv().unwrap(), call);
    }
    settle(&iothread);
    let polls = client.polls();
    while client.polls() < polls + 10 {
        thread::yield_now();
    }
    assert_eq!(calls.try_recv(), Err(mpsc::TryRecvError::Empty));
    assert_eq!((iothread.stats().handlers, iothread.stats().polled_handlers), (2, 1));
    // Room to write is found by epoll while it is polled for what it reads.
    handle.modify_handler(id, Interest::READ_WRITE).unwrap();
    let mut got = [false; 2];
    while got != [true; 2] {
        got[usize::from(calls.recv().unwrap() > 0)] = true;
    }
    handle.remove_handler(id);
}

/// Always has work, and a descriptor that says so.
struct Endless(mpsc::Sender<()>);

impl Handler for Endless {
    fn ready(&mut self, _: Events, _: &mut Scope<'_>) {
        let _ = self.0.send(());
    }

    fn poll(&mut self, _: &mut Scope<'_>) -> bool {
        let _ = self.0.send(());
        true
    }
}

#[test]
fn a_hook_that_always_finds_work_starves_nobody() {
    let (iothread, mut client) = polling();
    let handle = iothread.handle();
    let mut peers = Vec::new();
    for _ in 0..2 {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"x").unwrap();
        let (sender, receiver) = mpsc::channel();
        handle.add_polled(theirs, Interest::READ, Endless(sender)).unwrap();
        receiver.recv().unwrap();
        peers.push(ours);
    }
    let (sender, receiver) = mpsc::channel();
    let (closure, timer, handler) = (sender.clone(), sender.clone(), sender);
    handle.run(move |_| closure.send("closure").unwrap()).unwrap();
    handle
        .add_timer(Instant::now() + Duration::from_millis(1), move |_| timer.send("timer").unwrap())
        .unwrap();
    let (mut writer, reader) = UnixStream::pair().unwrap();
    let plain = move |_: Events, scope: &mut Scope<'_>| {
        handler.send("handler").unwrap();
        scope.remove_current();
    };
    handle.add_handler(reader, Interest::READ, plain).unwrap();
    writer.write_all(b"x").unwrap();
    let mut got: Vec<_> = receiver.iter().collect();
    got.sort_unstable();
    assert_eq!(got, ["closure", "handler", "timer"]);
    // Another one that is polled has its turn too.
    client.exchange();
}

#[test]
fn many_threads_add_use_and_remove_hooks() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 100;
    // The usual properties: it polls, sleeps and wakes.
    let iothread = IoThread::builder("t").start().unwrap();
    thread::scope(|threads| {
        for _ in 0..THREADS {
            threads.spawn(|| {
                let handle = iothread.handle();
                for round in 0..ROUNDS {
                    let mut client = Client::add(&handle);
                    for _ in 0..round % 5 {
                        client.exchange();
                    }
                    handle.modify_handler(client.id, Interest::READ_WRITE).unwrap();
                    handle.remove_handler(client.id);
                    assert_eq!(Arc::strong_count(&client.polls), 1);
                }
            });
        }
    });
    let stats = iothread.stats();
    assert_eq!((stats.handlers, stats.polled_handlers, stats.panics), (0, 0, 0));
}

#[test]
fn a_thread_is_kept_to_the_cpus_that_exist() {
    let allowed = |thread: &IoThread| {
        let thread = rustix::thread::Pid::from_raw(thread.thread_id());
        let set = rustix::thread::sched_getaffinity(thread).unwrap();
        (0..1024_u16).filter(|cpu| set.is_set(usize::from(*cpu))).collect::<Vec<_>>()
    };
    let free = IoThread::builder("t").start().unwrap();
    let host = allowed(&free);
    assert!(free.cpu_affinity().is_empty());
    let last = *host.last().unwrap();
    let kept = IoThread::builder("t").cpu_affinity([last, last]).start().unwrap();
    assert_eq!((kept.cpu_affinity(), allowed(&kept)), (vec![last], vec![last]));
    for bad in [[1023, last], [u16::MAX, last]] {
        let error = kept.set_cpu_affinity(&bad).unwrap_err();
        let said = format!("Setting CPU affinity failed: not possible on CPU {}", bad[0]);
        assert_eq!(error.to_string(), said);
        assert_eq!((kept.cpu_affinity(), allowed(&kept)), (vec![last], vec![last]));
        assert!(IoThread::builder("t").cpu_affinity(bad).start().is_err());
    }
    kept.set_cpu_affinity(&host).unwrap();
    assert_eq!(allowed(&kept), host);
    kept.set_cpu_affinity(&[host[0]]).unwrap();
    kept.set_cpu_affinity(&[]).unwrap();
    assert_eq!((kept.cpu_affinity(), allowed(&kept)), (Vec::new(), host));
}
