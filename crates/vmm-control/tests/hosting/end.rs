//! How a plane on a thread of its own ends: wherever it is closed or dropped, and whatever goes on.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use serde_json::Value;
use vmm_control::hosting::PlaneThread;
use vmm_control::{Command, Context, ControlPlane, MonitorConfig, RunState, RunStateCell};

use crate::client::{Client, PATIENCE, listening, socket, threads, until};

#[test]
fn dropping_it_ends_everything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let plane = listening("t-drop", &path);
    let mut client = Client::new(&path);
    drop(plane);
    assert_eq!(client.line(), Value::Null);
    until("socket and threads go", || !path.exists() && threads("t-drop").is_empty());
}

/// A plane that a command of its own can get hold of.
fn held(
    name: &str,
    command: impl FnOnce(Arc<Mutex<Option<PlaneThread>>>) -> Command,
) -> Arc<Mutex<Option<PlaneThread>>> {
    let own = Arc::new(Mutex::new(None));
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running));
    let plane = builder.command(command(own.clone())).thread_name(name).start().unwrap();
    *own.lock().unwrap() = Some(plane);
    own
}

fn ends_from_within(name: &str, command: impl FnOnce(Arc<Mutex<Option<PlaneThread>>>) -> Command) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("qmp");
    let own = held(name, command);
    let config = MonitorConfig::new("qmp");
    own.lock().unwrap().as_ref().unwrap().add_monitor(config, socket(&path), 8).unwrap();
    let mut client = Client::new(&path);
    client.send(r#"{"execute": "x-end"}"#);
    assert!(client.line().get("return").is_some(), "its reply is written");
    assert_eq!(client.line(), Value::Null);
    until("socket and threads go", || !path.exists() && threads(name).is_empty());
}

#[test]
fn an_async_handler_may_drop_or_close_it() {
    ends_from_within("t-hdrop", |own| {
        Command::new("x-end").handler(move |_: Context, (): ()| {
            drop(own.lock().unwrap().take());
            std::future::ready(Ok(()))
        })
    });
    ends_from_within("t-hclose", |own| {
        Command::new("x-end").handler(move |_: Context, (): ()| {
            let plane = own.lock().unwrap().take();
            plane.unwrap().close();
            std::future::ready(Ok(()))
        })
    });
}

#[test]
fn a_blocking_handler_may_drop_it() {
    ends_from_within("t-bdrop", |own| {
        Command::new("x-end").blocking(move |_: Context, (): ()| {
            drop(own.lock().unwrap().take());
            Ok(())
        })
    });
}

#[test]
fn a_job_may_drop_it() {
    let own = held("t-jdrop", |_| Command::new("x-nothing").handler(async |_: Context, (): ()| Ok(())));
    let within = own.clone();
    let plane = own.lock().unwrap();
    let (ended, ends) = mpsc::channel();
    plane.as_ref().unwrap().spawn(async move |_| {
        drop(within.lock().unwrap().take());
        ended.send(()).unwrap();
    });
    drop(plane);
    ends.recv_timeout(PATIENCE).unwrap();
    until("the threads go", || threads("t-jdrop").is_empty());
}

#[test]
fn closing_does_not_wait_for_handlers_that_do_not_end() {
    let ((begun, begins), (release, released)) = (mpsc::channel(), mpsc::channel::<()>());
    let (blocks, released) = (begun.clone(), Mutex::new(released));
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running))
        .command(Command::new("x-blocks").concurrent().blocking(move |_: Context, (): ()| {
            blocks.send(()).unwrap();
            // For as long as the test has not ended.
            let _ = released.lock().unwrap().recv();
            Ok(())
        }))
        .command(Command::new("x-never").concurrent().handler(move |_: Context, (): ()| {
            begun.send(()).unwrap();
            std::future::pending::<vmm_control::CommandResult<()>>()
        }))
        .thread_name("t-stuck")
        .start()
        .unwrap();
    let callers = ["x-blocks", "x-never"].map(|command| {
        let session = plane.connect();
        let caller = std::thread::spawn(move || session.call(command, &()).unwrap_err().to_string());
        begins.recv_timeout(PATIENCE).unwrap();
        caller
    });
    let start = Instant::now();
    plane.close();
    assert!(start.elapsed() < Duration::from_secs(9), "{:?}", start.elapsed());
    for caller in callers {
        assert_eq!(caller.join().unwrap(), "the control plane is closed");
    }
    assert_eq!(threads("t-stuck"), ["t-stuck-io"]);
    drop(release);
    until("the handler's thread goes", || threads("t-stuck").is_empty());
}
