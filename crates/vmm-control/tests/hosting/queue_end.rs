//! Calls that are not answered, loops that end, planes that end while calls are open, and loops that would wait for themselves.

use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::unix::AsyncFd;
use vmm_control::hosting::{BlockingSession, Call, HostingError, MachineQueue, PlaneThread};
use vmm_control::{Command, Context, ControlPlane, MonitorConfig};

use crate::client::{Client, socket, until};
use crate::queue::{add, next, queue};

fn plane(calls: &MachineQueue<()>) -> PlaneThread {
    let task = calls.handle();
    let task = Command::new("x-task").concurrent().handler(move |_: Context, (): ()| task.run(|()| Ok(())));
    ControlPlane::builder(calls.handle()).command(task).start().unwrap()
}

/// The error of a command that somebody calls meanwhile.
fn failing(session: BlockingSession, command: &'static str) -> thread::JoinHandle<String> {
    thread::spawn(move || session.call(command, &()).unwrap_err().to_string())
}

#[test]
fn a_call_that_is_dropped_is_answered_with_an_error() {
    let mut calls = queue();
    let plane = plane(&calls);
    for command in ["stop", "x-task"] {
        let client = failing(plane.connect(), command);
        drop(next(&mut calls));
        assert_eq!(client.join().unwrap(), "The machine gave no answer", "{command}");
    }
    drop(calls);
    plane.close();
}

#[test]
fn when_the_loop_ends_its_calls_fail_and_so_do_later_ones() {
    let mut calls = queue();
    let plane = plane(&calls);
    let open = failing(plane.connect(), "stop");
    let Call::Machine(_, completion) = next(&mut calls) else { panic!("the plane asks something") };
    let waits = failing(plane.connect(), "x-task");
    until("it waits", || format!("{calls:?}").contains("waiting: 1"));
    drop(calls);
    assert_eq!(waits.join().unwrap(), "The machine's loop has ended");
    // What was taken can still be answered.
    drop(completion);
    assert_eq!(open.join().unwrap(), "The machine's loop has ended");
    for command in ["stop", "x-task"] {
        let error = failing(plane.connect(), command).join().unwrap();
        assert_eq!(error, "The machine's loop has ended", "{command}");
    }
    // What it was is still known.
    plane.connect().call("query-status", &()).unwrap();
    plane.close();
}

#[test]
fn a_queue_that_is_dropped_wakes_no_loop_any_more() {
    let calls = queue();
    let plane = plane(&calls);
    let client = failing(plane.connect(), "stop");
    // It stays in the epoll set of the loop by this.
    let fd = std::os::fd::AsFd::as_fd(&calls).try_clone_to_owned().unwrap();
    let ready = |wait| {
        let wait = Timespec { tv_sec: wait, tv_nsec: 0 };
        poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&wait)).unwrap() > 0
    };
    assert!(ready(20));
    drop(calls);
    assert!(!ready(0));
    client.join().unwrap();
    plane.close();
}

#[test]
fn a_plane_ends_while_a_call_is_open() {
    let mut calls = queue::<()>();
    let plane = plane(&calls);
    let client = failing(plane.connect(), "stop");
    let Call::Machine(_, completion) = next(&mut calls) else { panic!("the plane asks something") };
    let start = Instant::now();
    // This thread is the loop's, so nothing that waits for the loop will go on meanwhile.
    plane.close();
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    assert_eq!(client.join().unwrap(), "the control plane is closed");
    completion.complete(Ok(()));
    assert!(calls.try_next().is_none());
}

/// As a loop ends: its queue goes, with the call that it has not completed. The client on a socket is told before the end.
#[test]
fn a_call_that_goes_with_its_loop_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let mut calls = queue::<()>();
    let plane = plane(&calls);
    plane.add_monitor(MonitorConfig::new("qmp"), socket(&path), 64).unwrap();
    let mut client = Client::new(&path);
    client.send(r#"{"execute": "stop"}"#);
    let Call::Machine(_, completion) = next(&mut calls) else { panic!("the plane asks something") };
    drop((calls, completion));
    plane.close();
    assert_eq!(client.line()["error"]["desc"], "The machine's loop has ended");
    assert!(client.line().is_null());
}

#[test]
fn the_loop_is_not_made_to_wait_for_itself() {
    let mut calls = queue::<()>();
    let (plane, machine) = (plane(&calls), calls.handle());
    let mut session = plane.connect();
    session.call("query-name", &()).unwrap();
    assert!(calls.try_next().is_none());
    for error in [
        session.call("query-name", &()).unwrap_err(),
        session.next_event().unwrap_err(),
        plane.run(async |_| ()).unwrap_err(),
        plane.shutdown_requested().unwrap_err(),
    ] {
        assert!(matches!(error, HostingError::InLoop), "{error}");
    }
    let error = machine.blocking_run(|()| Ok(())).unwrap_err();
    assert_eq!(error.to_string(), "The machine's loop cannot wait for itself");
    // Another thread takes the calls from now on: that one must not wait, and this one may.
    let calls = thread::spawn(move || {
        assert!(calls.try_next().is_none());
        calls
    });
    let calls = calls.join().unwrap();
    session.call("query-name", &()).unwrap();
    drop(calls);
    plane.close();
}

/// Whenever the loop ends, each call is answered: none is left in a queue that nobody looks at.
#[test]
fn no_call_is_lost_when_the_loop_ends_among_them() {
    for lives in 0..50 {
        let mut calls = queue::<u64>();
        let callers: Vec<_> = (0..3)
            .map(|_| {
                let machine = calls.handle();
                thread::spawn(move || {
                    let mut answered = 0;
                    loop {
                        match machine.blocking_run(|ran| add(ran, 1)) {
                            Ok(()) => answered += 1,
                            Err(error) => break (answered, error.to_string()),
                        }
                    }
                })
            })
            .collect();
        let mut ran = 0;
        while ran < lives {
            if let Some(Call::Task(task)) = calls.try_next() {
                task.run(&mut ran);
            }
        }
        drop(calls);
        let mut answered = 0;
        for caller in callers {
            let (count, error) = caller.join().unwrap();
            assert_eq!(error, "The machine's loop has ended");
            answered += count;
        }
        assert_eq!(answered, ran);
    }
}

/// A loop that is a task of the very runtime that the plane is on.
#[tokio::test(flavor = "current_thread")]
async fn a_loop_may_share_its_one_thread_with_the_plane() {
    let calls = queue::<u64>();
    let task = calls.handle();
    let count = Command::new("x-count").handler(move |_: Context, (): ()| {
        task.run(|count| {
            *count += 1;
            Ok(*count)
        })
    });
    let plane = ControlPlane::builder(calls.handle()).command(count).build().unwrap();
    let machine = async move {
        #[expect(
            deprecated,
            reason = "its successor is unsafe; a queue keeps its descriptor for as long as it lives"
        )]
        let (mut calls, mut count) = (AsyncFd::new(calls).unwrap(), 0);
        while count < 3 {
            let mut ready = calls.readable_mut().await.unwrap();
            match ready.get_inner_mut().try_next() {
                Some(Call::Task(task)) => task.run(&mut count),
                Some(Call::Machine(_, completion)) => completion.complete(Ok(())),
                None => ready.clear_ready(),
            }
        }
    };
    let session = plane.connect();
    let client = async {
        for n in 1..=3 {
            session.call("stop", &()).await.unwrap();
            assert_eq!(session.execute::<_, u64>("x-count", &()).await.unwrap(), n);
        }
    };
    tokio::join!(machine, client);
    let gone = session.call("stop", &()).await.unwrap_err();
    assert_eq!(gone.to_string(), "The machine's loop has ended");
    plane.close().await;
}
