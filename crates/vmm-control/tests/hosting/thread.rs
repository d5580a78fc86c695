//! A plane on a thread that it starts.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use vmm_control::chardev::Backend;
use vmm_control::hosting::{HostingError, PlaneThread, StartError};
use vmm_control::{
    Command, Context, ControlPlane, EventSpec, MonitorConfig, RunState, RunStateCell, ShutdownCause,
    ThreadKind,
};

use crate::client::{Client, PATIENCE, listening, socket, started, threads, until};

#[test]
fn clients_and_threads_of_the_program_use_one_plane() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let plane = listening("t-uses", &path);
    let mut client = Client::new(&path);
    let mut session = plane.connect();
    session.watch();
    assert_eq!(session.try_next_event().map(|event| event.name), None);
    client.send(r#"{"execute": "stop"}"#);
    assert_eq!(client.line()["event"], "STOP");
    assert!(client.line().get("return").is_some());
    assert_eq!(session.next_event().unwrap().name, "STOP");
    assert_eq!(session.next_event_timeout(Duration::ZERO).unwrap().map(|event| event.name), None);
    let status: Value = session.execute("query-status", &()).unwrap();
    assert_eq!(status["status"], "paused");
    let error = session.call("no-such", &()).unwrap_err();
    assert!(matches!(error, HostingError::Call(_)));
    assert_eq!(error.to_string(), "The command no-such has not been found");
    plane.close();
    assert_eq!(client.line(), Value::Null);
    assert!(!path.exists());
    assert!(matches!(session.call("stop", &()), Err(HostingError::Closed)));
    assert!(matches!(session.next_event(), Err(HostingError::Closed)));
}

/// Whose socket is at the path goes on serving there.
#[test]
fn a_monitor_that_cannot_be_added_takes_nothing_away() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let plane = listening("t-dup", &path);
    plane
        .run(async |plane| {
            let taken = plane.open_chardev("taken", Backend::Null, 1).await.unwrap();
            plane.chardevs().insert(taken).unwrap();
        })
        .unwrap();
    for (config, text) in [
        (MonitorConfig::new("qmp"), "a monitor 'qmp' exists already"),
        (MonitorConfig::new("taken"), "Chardev with id 'taken' already exists"),
    ] {
        let error = plane.add_monitor(config, socket(&path), 64).unwrap_err();
        assert_eq!(error.to_string(), text);
        Client::new(&path);
    }
    for round in 0..10 {
        let path = path.with_extension(round.to_string());
        let add = || plane.add_monitor(MonitorConfig::new(round.to_string()), socket(&path), 1).is_ok();
        let added = std::thread::scope(|scope| {
            [(); 4].map(|()| scope.spawn(add)).map(|thread| thread.join().unwrap())
        });
        assert_eq!(added.iter().filter(|added| **added).count(), 1, "one of them");
        Client::new(&path);
    }
}

#[test]
fn a_monitor_that_is_removed_leaves_no_listener_and_its_id_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let plane = listening("t-again", &path);
    let mut client = Client::new(&path);
    assert!(plane.remove_monitor("qmp").unwrap());
    assert_eq!(client.line(), Value::Null);
    assert!(!path.exists() && plane.handle().chardevs().get("qmp").is_none());
    assert!(!plane.remove_monitor("qmp").unwrap());
    plane.add_monitor(MonitorConfig::new("qmp"), socket(&path), 64).unwrap();
    Client::new(&path);
    plane.close();
}

/// The descriptor waits for nothing that the plane's thread does.
#[test]
fn a_blocked_thread_of_the_plane_does_not_keep_the_news_of_the_end() {
    let (release, released) = mpsc::channel::<()>();
    let released = Mutex::new(released);
    let blocks = Command::new("x-blocks").handler(move |_: Context, (): ()| {
        let _ = released.lock().unwrap().recv_timeout(PATIENCE);
        std::future::ready(Ok(()))
    });
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running)).command(blocks);
    let plane = builder.thread_name("t-late").start().unwrap();
    let readable = |plane: &PlaneThread| {
        let mut asked = [PollFd::from_borrowed_fd(plane.shutdown_fd(), PollFlags::IN)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    let session = plane.connect();
    std::thread::scope(|scope| {
        let call = scope.spawn(|| session.call("x-blocks", &()));
        assert!(!readable(&plane));
        plane.shut_down(ShutdownCause::HostSignal);
        assert!(readable(&plane));
        release.send(()).unwrap();
        let _ = call.join().unwrap();
    });
    plane.close();
}

#[test]
fn a_session_that_does_not_ask_for_its_events_is_told_how_many_it_has_lost() {
    let plane = started("t-lost");
    let mut session = plane.connect();
    assert_eq!(session.lost_events(), 0);
    session.watch();
    for _ in 0..40_000 {
        plane.events().emit_plain("STOP").unwrap();
    }
    until("it loses them", || session.lost_events() > 0);
    assert!((16_385..=40_000).contains(&session.lost_events()), "{}", session.lost_events());
    assert!(session.try_next_event().is_none());
    plane.events().emit_plain("RESUME").unwrap();
    assert_eq!(session.next_event().unwrap().name, "RESUME");
    plane.close();
}

/// The runtime starts it, from a thread that blocks none.
#[test]
fn a_blocking_thread_of_its_runtime_blocks_signals_whoever_asks_for_it() {
    let plane = started("t-signals");
    let runtime = plane.run(async |_| tokio::runtime::Handle::current()).unwrap();
    let (seen, sees) = mpsc::channel();
    runtime.spawn_blocking(move || seen.send(std::fs::read_to_string("/proc/thread-self/status").unwrap()));
    let status = sees.recv_timeout(PATIENCE).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(line.trim(), 16).unwrap();
    // HUP, INT, USR1, USR2, ALRM, TERM, CHLD.
    let some = [1, 2, 10, 12, 14, 15, 17].into_iter().fold(0, |bits, signal| bits | 1_u64 << (signal - 1));
    assert_eq!(blocked & some, some, "{blocked:x}");
    plane.close();
}

#[test]
fn monitors_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let plane = listening("t-mon", &path);
    let mut client = Client::new(&path);
    let other = dir.path().join("other");
    let twice = plane.add_monitor(MonitorConfig::new("qmp"), socket(&other), 1).unwrap_err();
    assert!(matches!(twice, HostingError::Monitor(_)), "{twice}");
    assert!(!other.exists());
    let nowhere =
        plane.add_monitor(MonitorConfig::new("n"), socket(&dir.path().join("no/n")), 1).unwrap_err();
    assert!(matches!(nowhere, HostingError::Monitor(_)), "{nowhere}");
    assert!(plane.remove_monitor("qmp").unwrap());
    assert_eq!(client.line(), Value::Null);
    assert!(!plane.remove_monitor("qmp").unwrap());
    plane.close();
}

#[test]
fn what_keeps_it_from_starting_is_said() {
    let builder = || ControlPlane::builder(RunStateCell::new(RunState::Running));
    let wrong = builder().event(EventSpec::standard::<()>("STOP")).start().unwrap_err();
    assert!(matches!(wrong, StartError::Build(_)), "{wrong}");
    let nul = builder().thread_name("a\0b").start().unwrap_err();
    assert!(matches!(nul, StartError::Thread(_)), "{nul}");
    let hook = builder().on_thread_start(|_, _| panic!("not today")).start().unwrap_err();
    assert!(matches!(hook, StartError::Hook), "{hook}");
}

/// Within a runtime, too: nothing of a runtime's is waited for there.
#[tokio::test]
async fn it_starts_and_fails_and_ends_inside_a_runtime() {
    started("t-in-rt").close();
    drop(started("t-in-rt"));
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running));
    builder.thread_name("a\0b").start().unwrap_err();
    until("the threads go", || threads("t-in-rt").is_empty());
}

#[test]
fn a_job_that_panics_costs_its_caller_only() {
    let plane = started("t-panic");
    plane.spawn(async |_| panic!("nobody sees this"));
    let run = std::panic::AssertUnwindSafe(|| plane.run(async |_| panic!("this one does")));
    let panic = std::panic::catch_unwind(run).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&"this one does"));
    assert_eq!(plane.run(async |plane| plane.chardevs().list().len()).unwrap(), 0);
    plane.close();
}

#[test]
fn a_job_may_panic_before_it_has_a_future() {
    let plane = started("t-early");
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        plane.run(|_: &ControlPlane| -> std::future::Ready<()> { panic!("early") })
    }));
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"early"));
    plane.spawn(|_: &ControlPlane| -> std::future::Ready<()> { panic!("early") });
    assert_eq!(plane.run(async |_| 1).unwrap(), 1);
    plane.close();
}

/// Panics when it is dropped, which a job's panic should not.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("a panic that panics");
    }
}

#[test]
fn who_waits_for_the_end_is_told_when_the_thread_dies() {
    let plane = started("t-dies");
    let waiter = {
        plane.spawn(async |_| std::panic::panic_any(Bomb));
        plane.shutdown_requested()
    };
    assert_eq!(waiter.unwrap(), ShutdownCause::HostError);
    let fd = plane.shutdown_fd();
    let second = Timespec { tv_sec: 20, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&second)).unwrap(), 1);
    until("its threads go", || threads("t-dies").is_empty());
    plane.close();
}

#[test]
fn its_own_thread_is_not_made_to_wait_for_itself() {
    let plane = Arc::new(started("t-self"));
    let (mut session, again) = (plane.connect(), plane.clone());
    // Another plane might be waiting for this one, and all of this one's clients would for the loop.
    let other = started("t-other");
    let of_other = other.connect();
    let calls = crate::queue::queue::<()>();
    let in_loop = calls.handle();
    let refused = plane.run(async move |_| {
        let error = in_loop.blocking_run(|_| Ok(())).unwrap_err();
        assert!(error.to_string().starts_with("A plane's own thread cannot wait"), "{error}");
        [
            of_other.call("query-name", &()).unwrap_err(),
            session.call("query-name", &()).unwrap_err(),
            session.next_event().unwrap_err(),
            again.run(async |_| ()).unwrap_err(),
            again.shutdown_requested().unwrap_err(),
            again.remove_monitor("qmp").unwrap_err(),
        ]
    });
    for error in refused.unwrap() {
        assert!(matches!(error, HostingError::OnPlaneThread), "{error}");
    }
}

#[test]
fn who_waits_for_the_end_is_told_in_each_way() {
    let plane = Arc::new(started("t-quit"));
    let fd = plane.clone();
    let is_readable = |limit: Option<&Timespec>| {
        let mut fds = [PollFd::from_borrowed_fd(fd.shutdown_fd(), PollFlags::IN)];
        poll(&mut fds, limit).unwrap() == 1
    };
    assert!(!is_readable(Some(&Timespec::default())));
    assert_eq!(plane.shutdown_cause(), None);
    let waits = plane.clone();
    let waits = std::thread::spawn(move || waits.shutdown_requested().unwrap());
    plane.connect().call("quit", &()).unwrap();
    assert!(is_readable(Some(&Timespec { tv_sec: 20, tv_nsec: 0 })));
    assert_eq!(waits.join().unwrap(), ShutdownCause::HostQmpQuit);
    assert_eq!(plane.shutdown_cause(), Some(ShutdownCause::HostQmpQuit));
    assert_eq!(plane.shutdown_requested().unwrap(), ShutdownCause::HostQmpQuit);
}

/// Kind, own name and blocked signals of each thread that has started.
type Seen = Arc<Mutex<Vec<(ThreadKind, String, u64)>>>;

fn blocked() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

#[test]
fn blocking_handlers_run_on_threads_of_their_own_that_go_when_idle() {
    let seen = Seen::default();
    let noted = seen.clone();
    let ((blocks, blocked_now), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let released = Mutex::new(released);
    let slow = Command::new("x-slow").concurrent().blocking(move |_: Context, (): ()| {
        blocks.send(std::thread::current().name().map(str::to_owned)).unwrap();
        released.lock().unwrap().recv_timeout(PATIENCE)?;
        Ok(())
    });
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running))
        .command(slow)
        .thread_name("t-slow")
        .on_thread_start(move |kind, name| noted.lock().unwrap().push((kind, name.to_owned(), blocked())))
        .start()
        .unwrap();
    let (asks, other) = (plane.connect(), plane.connect());
    let asks = std::thread::spawn(move || asks.call("x-slow", &()));
    assert_eq!(blocked_now.recv_timeout(PATIENCE).unwrap().as_deref(), Some("t-slow-io"));
    // Others are answered meanwhile.
    other.call("query-status", &()).unwrap();
    release.send(()).unwrap();
    asks.join().unwrap().unwrap();
    {
        let seen = seen.lock().unwrap();
        let kinds: Vec<_> = seen.iter().map(|(kind, name, _)| (*kind, name.as_str())).collect();
        assert_eq!(kinds[..2], [(ThreadKind::Plane, "t-slow"), (ThreadKind::Blocking, "t-slow-io")]);
        // HUP, INT, USR1, USR2, ALRM, TERM, CHLD.
        let some =
            [1, 2, 10, 12, 14, 15, 17].into_iter().fold(0, |bits, signal| bits | 1_u64 << (signal - 1));
        assert!(seen.iter().all(|(.., blocked)| blocked & some == some), "{seen:x?}");
    }
    until("an idle plane has one thread", || threads("t-slow") == ["t-slow"]);
    plane.close();
    assert_eq!(threads("t-slow"), [""; 0]);
}

/// The CPU time that raising 200 events costs the thread that does, with so many sessions that want them: the least of a few
/// tries, since others may have their caches cold.
fn cost_of_raising(sessions: usize) -> Duration {
    let plane = started("t-cost");
    let sessions: Vec<_> = (0..sessions)
        .map(|_| {
            let mut session = plane.connect();
            session.watch();
            session
        })
        .collect();
    let events = plane.events();
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let try_once = |_| {
        let start = now();
        (0..200).for_each(|_| events.emit_plain("STOP").unwrap());
        now() - start
    };
    let least = (0..5).map(try_once).min().unwrap();
    drop(sessions);
    plane.close();
    least
}

#[test]
fn an_event_costs_its_thread_the_same_for_one_session_or_a_thousand() {
    let (one, thousand) = (cost_of_raising(1), cost_of_raising(1000));
    // If it cost something for each session, it would be some hundred times as much.
    assert!(thousand < 10 * one, "{one:?} for one session, {thousand:?} for a thousand");
}
