//! What a thread emits before it completes a request precedes that request's reply, on every session, wherever the plane runs and
//! however the request got to the thread.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use crate::support::{Client, Toy, built, directory, listen};
use qmp_protocol::Event;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::hosting::{BlockingSession, Call, Completion, MachineFacts, MachineQueue};
use vmm_control::{
    Builder, Command, CommandResult, Context, ControlPlane, EventSender, EventSpec, LocalSession,
    MonitorConfig, QapiType, RunState,
};

/// Device threads.
const THREADS: usize = 4;
/// Clients that ask, each with a second session that only looks; and as many sessions of the process's own likewise.
const CLIENTS: u64 = 4;
/// Requests of each.
const REQUESTS: u64 = 100;
/// How many requests of a client are under way at once.
const DEPTH: u64 = 5;
/// All of them.
const TOTAL: u64 = 2 * CLIENTS * REQUESTS;

#[derive(Clone, Copy, Deserialize, Serialize, QapiType)]
struct Work {
    n: u64,
}

type Job = (Work, oneshot::Sender<CommandResult<()>>);

/// Threads that know nothing of tokio: they raise an event for each job, then complete it.
fn devices(events: &EventSender) -> mpsc::Sender<Job> {
    let (queue, jobs) = mpsc::channel::<Job>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..THREADS {
        let (jobs, events) = (jobs.clone(), events.clone());
        thread::spawn(move || {
            loop {
                let Ok((work, done)) = jobs.lock().unwrap().recv() else { return };
                events.emit_plain("NOISE").unwrap();
                events.emit("DONE", &work).unwrap();
                let _ = done.send(Ok(()));
            }
        });
    }
    queue
}

fn with_events(builder: Builder) -> Builder {
    builder.event(EventSpec::standard::<Work>("DONE")).event(EventSpec::standard::<()>("NOISE"))
}

fn plane() -> ControlPlane {
    let builder = with_events(ControlPlane::builder(Toy::new(RunState::Running))).command_with(|plane| {
        let queue = devices(&plane.events());
        Command::new("x-work").concurrent().handler(move |_: Context, work: Work| {
            let (done, ended) = oneshot::channel();
            let sent = queue.send((work, done));
            async move {
                sent?;
                ended.await?
            }
        })
    });
    built(builder)
}

/// The events that a session has seen.
#[derive(Default)]
struct Seen {
    order: Vec<u64>,
    seen: HashSet<u64>,
}

impl Seen {
    fn add(&mut self, name: &str, data: &Value) {
        if name == "DONE" {
            let n = data["n"].as_u64().unwrap();
            assert!(self.seen.insert(n), "no event comes twice");
            self.order.push(n);
        }
    }

    fn event(&mut self, event: &Event) {
        self.add(&event.name, &serde_json::to_value(&event.data).unwrap());
    }

    fn has(&self, n: u64) -> bool {
        self.seen.contains(&n)
    }

    fn is_complete(&self) -> bool {
        self.order.len() as u64 == TOTAL
    }
}

/// A session of a client's, and the events it has seen.
struct Watcher {
    client: Client,
    seen: Seen,
}

impl Watcher {
    async fn new(path: &Path) -> Self {
        Self { client: Client::new(path).await, seen: Seen::default() }
    }

    /// Reads until a reply, and gives its id.
    async fn reply(&mut self) -> u64 {
        loop {
            let line: Value = serde_json::from_str(&self.client.line().await).unwrap();
            if line.get("event").is_none() {
                assert!(line.get("return").is_some(), "{line}");
                return line["id"].as_u64().unwrap();
            }
            self.event(&line);
        }
    }

    fn event(&mut self, line: &Value) {
        self.seen.add(line["event"].as_str().unwrap(), &line["data"]);
    }

    /// Reads until all events have come.
    async fn all(mut self) -> Vec<u64> {
        while !self.seen.is_complete() {
            let line = serde_json::from_str(&self.client.line().await).unwrap();
            self.event(&line);
        }
        self.seen.order
    }
}

/// One client's load; `looks` is another session, on which a request is made as soon as a reply is there.
async fn load(first: u64, asks: &mut Watcher, looks: &mut Watcher) {
    for batch in 0..REQUESTS / DEPTH {
        let numbers: Vec<_> = (0..DEPTH).map(|i| first + batch * DEPTH + i).collect();
        for n in &numbers {
            let request = format!("{{\"execute\": \"x-work\", \"arguments\": {{\"n\": {n}}}, \"id\": {n}}}");
            asks.client.send(&request).await;
        }
        for n in numbers {
            assert_eq!(asks.reply().await, n);
            assert!(asks.seen.has(n), "the event of {n} precedes its reply");
            looks.client.send("{\"execute\": \"query-name\", \"id\": 0}").await;
            looks.reply().await;
            assert!(looks.seen.has(n), "and all that comes after the reply, on other sessions");
        }
    }
}

/// The same load by a session of the process's own.
async fn local_load(first: u64, mut asks: LocalSession, mut looks: LocalSession) -> [Vec<u64>; 2] {
    let [mut asked, mut looked] = [Seen::default(), Seen::default()];
    for n in first..first + REQUESTS {
        asks.call("x-work", &Work { n }).await.unwrap();
        std::iter::from_fn(|| asks.try_next_event()).for_each(|event| asked.event(&event));
        assert!(asked.has(n), "the event of {n} precedes its reply");
        looks.call("query-name", &()).await.unwrap();
        std::iter::from_fn(|| looks.try_next_event()).for_each(|event| looked.event(&event));
        assert!(looked.has(n), "and all that comes after the reply, on other sessions");
    }
    for (session, seen) in [(&mut asks, &mut asked), (&mut looks, &mut looked)] {
        while !seen.is_complete() {
            seen.event(&session.next_event().await.unwrap());
        }
    }
    [asked.order, looked.order]
}

/// The same by one whose calls wait.
fn blocking_load(first: u64, mut asks: BlockingSession, mut looks: BlockingSession) -> [Vec<u64>; 2] {
    let [mut asked, mut looked] = [Seen::default(), Seen::default()];
    for n in first..first + REQUESTS {
        asks.call("x-work", &Work { n }).unwrap();
        std::iter::from_fn(|| asks.try_next_event()).for_each(|event| asked.event(&event));
        assert!(asked.has(n), "the event of {n} precedes its reply");
        looks.call("query-name", &()).unwrap();
        std::iter::from_fn(|| looks.try_next_event()).for_each(|event| looked.event(&event));
        assert!(looked.has(n), "and all that comes after the reply, on other sessions");
    }
    for (session, seen) in [(&mut asks, &mut asked), (&mut looks, &mut looked)] {
        while !seen.is_complete() {
            seen.event(&session.next_event().unwrap());
        }
    }
    [asked.order, looked.order]
}

/// The load of all clients, on these two monitors, and of the process's own sessions, whose events wait
/// already.
async fn loads<S>(
    paths: [&Path; 2],
    own: Vec<[S; 2]>,
    load_own: impl Fn(u64, [S; 2]) -> JoinHandle<[Vec<u64>; 2]>,
) {
    let mut pairs = Vec::new();
    for client in 0..CLIENTS {
        pairs.push((client * REQUESTS, Watcher::new(paths[0]).await, Watcher::new(paths[1]).await));
    }
    // Everybody is there before the first event.
    let clients = pairs.into_iter().map(|(first, mut asks, mut looks)| {
        tokio::spawn(async move {
            load(first, &mut asks, &mut looks).await;
            [asks.all().await, looks.all().await]
        })
    });
    let own = (CLIENTS..).zip(own).map(|(number, pair)| load_own(number * REQUESTS, pair));
    let tasks: Vec<_> = clients.chain(own).collect();
    let mut orders = Vec::new();
    for task in tasks {
        orders.extend(task.await.unwrap());
    }
    assert_eq!(orders.len(), 16);
    assert!(orders.iter().all(|order| *order == orders[0]), "all sessions see one order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_precede_the_replies_of_requests_that_threads_complete() {
    let (plane, dir) = (plane(), directory());
    let paths = [listen(&plane, dir.path(), "a").await, listen(&plane, dir.path(), "b").await];
    let own = (0..CLIENTS).map(|_| [plane.connect(), plane.connect()]).map(|mut pair| {
        pair.iter_mut().for_each(LocalSession::watch);
        pair
    });
    let load = |first, [asks, looks]: [_; 2]| tokio::spawn(local_load(first, asks, looks));
    loads(paths.each_ref().map(PathBuf::as_path), own.collect(), load).await;
    plane.close().await;
}

/// What the loop owns: the way to the device threads.
struct Vmm(mpsc::Sender<(Work, Completion<()>)>);

/// The loop, which hands each request on, and the device threads, which complete them.
fn looped(
    mut calls: MachineQueue<Vmm>,
    events: &EventSender,
    end: mpsc::Receiver<()>,
) -> thread::JoinHandle<()> {
    let (queue, jobs) = mpsc::channel::<(Work, Completion<()>)>();
    let jobs = Arc::new(Mutex::new(jobs));
    for _ in 0..THREADS {
        let (jobs, events) = (jobs.clone(), events.clone());
        thread::spawn(move || {
            loop {
                let Ok((work, completion)) = jobs.lock().unwrap().recv() else { return };
                events.emit_plain("NOISE").unwrap();
                events.emit("DONE", &work).unwrap();
                completion.complete(Ok(()));
            }
        });
    }
    thread::spawn(move || {
        let mut vmm = Vmm(queue);
        while end.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            match calls.try_next() {
                Some(Call::Task(task)) => task.run(&mut vmm),
                Some(Call::Machine(..)) => {}
                None => thread::yield_now(),
            }
        }
    })
}

/// The same on a plane that has a thread for itself, through a loop that owns the machine's state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_precede_the_replies_of_requests_that_go_through_a_loop() {
    let (calls, dir) = (MachineQueue::new(MachineFacts::new(RunState::Running)).unwrap(), directory());
    let vmm = calls.handle();
    let work = Command::new("x-work").concurrent().handler(move |_: Context, work: Work| {
        vmm.call(move |Vmm(queue), completion| queue.send((work, completion)).unwrap())
    });
    let plane = with_events(ControlPlane::builder(calls.handle())).command(work).start().unwrap();
    let (end, ended) = mpsc::channel();
    let looped = looped(calls, &plane.events(), ended);
    let paths = ["a", "b"].map(|id| {
        let path = dir.path().join(id);
        let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        plane.add_monitor(MonitorConfig::new(id), socket, 64).unwrap();
        path
    });
    let own = (0..CLIENTS).map(|_| [plane.connect(), plane.connect()]).map(|mut pair| {
        pair.iter_mut().for_each(BlockingSession::watch);
        pair
    });
    let load =
        |first, [asks, looks]: [_; 2]| tokio::task::spawn_blocking(move || blocking_load(first, asks, looks));
    loads(paths.each_ref().map(PathBuf::as_path), own.collect(), load).await;
    drop(end);
    looped.join().unwrap();
    plane.close();
}
