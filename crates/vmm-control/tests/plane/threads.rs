//! The threads that a plane starts.

use std::sync::{Arc, Mutex, mpsc};

use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use vmm_control::chardev::{Address, Backend, FileOptions, SocketOptions};
use vmm_control::{Command, Context, ControlPlane, MonitorConfig, RunState, ThreadKind};

use crate::support::{Client, PATIENCE, Toy, directory};

/// Kind, name and blocked signals of each thread that has started.
type Seen = Arc<Mutex<Vec<(ThreadKind, String, u64)>>>;

fn blocked() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    u64::from_str_radix(line.trim(), 16).unwrap()
}

fn watched() -> (ControlPlane, Seen) {
    let seen = Seen::default();
    let noted = seen.clone();
    let plane = ControlPlane::builder(Toy::new(RunState::Running))
        .on_thread_start(move |kind, name| noted.lock().unwrap().push((kind, name.to_owned(), blocked())))
        .build()
        .unwrap();
    (plane, seen)
}

#[tokio::test]
async fn each_thread_is_announced_with_its_signals_blocked() {
    let (plane, seen) = watched();
    let session = plane.connect();
    for object in [
        json!({"qom-type": "iothread", "id": "io0"}),
        json!({"qom-type": "memory-backend-ram", "id": "m0", "size": 65536, "prealloc": true}),
    ] {
        session.call("object-add", &object).await.unwrap();
    }
    let listed: Value = session.execute("query-iothreads", &()).await.unwrap();
    plane.close().await;
    // Other planes of this process have descriptors closed.
    let mut seen = seen.lock().unwrap().clone();
    seen.retain(|(kind, ..)| *kind != ThreadKind::FdCloser);
    let kinds: Vec<_> = seen.iter().map(|(kind, name, _)| (*kind, name.as_str())).collect();
    let (blocking, name) = (ThreadKind::Blocking, "vmm-control-io");
    let iothread = [(blocking, name), (ThreadKind::IoThread, "IO io0")];
    let memory = [(blocking, name), (ThreadKind::Helper, "prealloc")];
    assert_eq!(kinds, [&iothread[..], &memory, &[(ThreadKind::Helper, "plane-end")]].concat());
    // HUP, INT, USR1, USR2, ALRM, TERM, CHLD.
    let some = [1, 2, 10, 12, 14, 15, 17].into_iter().fold(0, |bits, signal| bits | 1_u64 << (signal - 1));
    assert!(seen.iter().all(|(.., blocked)| blocked & some == some), "{seen:x?}");
    assert_eq!(listed[0]["id"], "io0");
}

#[tokio::test]
async fn chardevs_that_the_plane_opens_have_threads_that_are_announced() {
    let (plane, seen) = watched();
    let dir = directory();
    let file = FileOptions { path: dir.path().join("file"), input: None, append: false };
    plane.open_chardev("f", Backend::File(file), 1).await.unwrap();
    // One that was passed, as by a service manager.
    let path = dir.path().join("passed");
    let fd = std::os::unix::net::UnixListener::bind(&path).unwrap().into();
    let socket = SocketOptions::server(Address::Fd { fd, name: "3".to_owned() });
    let chardev = plane.open_chardev("m", Backend::Socket(socket), 8).await.unwrap();
    plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 8).unwrap();
    drop(chardev);
    Client::new(&path).await;
    let mut kinds: Vec<_> = seen.lock().unwrap().iter().map(|(kind, ..)| *kind).collect();
    kinds.retain(|kind| *kind != ThreadKind::FdCloser);
    // One that has accepted ends when nobody asks for more, and another begins.
    kinds.dedup();
    assert_eq!(kinds, [ThreadKind::Blocking, ThreadKind::Acceptor]);
    plane.close().await;
}

#[tokio::test]
async fn chardevs_that_the_plane_opens_may_be_files_of_its_sets() {
    let (plane, _) = watched();
    let (_reader, writer) = std::io::pipe().unwrap();
    plane.fd_sets().add(Some(3), None, std::os::fd::OwnedFd::from(writer)).unwrap();
    let file = FileOptions { path: "/dev/fdset/3".into(), input: None, append: false };
    plane.open_chardev("f", Backend::File(file), 1).await.unwrap();
    plane.close().await;
}

#[tokio::test]
async fn a_hook_that_panics_makes_object_add_fail_and_no_more() {
    let plane = ControlPlane::builder(Toy::new(RunState::Running))
        .on_thread_start(|kind, _| assert!(kind != ThreadKind::IoThread, "not today"))
        .build()
        .unwrap();
    let session = plane.connect();
    let add = json!({"qom-type": "iothread", "id": "io0"});
    let error = session.call("object-add", &add).await.unwrap_err();
    assert_eq!(error.to_string(), "the iothread's start hook panicked");
    assert_eq!(session.execute::<_, Value>("query-iothreads", &()).await.unwrap(), json!([]));
    plane.close().await;
}

/// Where a blocking handler runs, and whether another session is answered meanwhile.
async fn blocking_handlers_leave_the_workers_alone() {
    let ((begun, mut begins), (release, released)) = (unbounded_channel(), mpsc::channel::<()>());
    let released = Mutex::new(released);
    let blocks = Command::new("x-block").concurrent().blocking(move |_: Context, (): ()| {
        begun.send(std::thread::current().id())?;
        Ok(released.lock().unwrap().recv_timeout(PATIENCE)?)
    });
    let tells = Command::new("x-tell")
        .concurrent()
        .handler(async |_: Context, (): ()| Ok(format!("{:?}", std::thread::current().id())));
    let plane =
        ControlPlane::builder(Toy::new(RunState::Running)).command(blocks).command(tells).build().unwrap();
    let (asks, other) = (plane.connect(), plane.connect());
    let asks = tokio::spawn(async move { asks.call("x-block", &()).await });
    let blocked = format!("{:?}", begins.recv().await.unwrap());
    // More than there are workers: if it were on one of them, some of these would not be answered.
    for _ in 0..20 {
        let there: String = other.execute("x-tell", &()).await.unwrap();
        assert_ne!(there, blocked);
    }
    release.send(()).unwrap();
    asks.await.unwrap().unwrap();
    plane.close().await;
}

#[tokio::test(flavor = "current_thread")]
async fn blocking_handlers_leave_the_one_thread_of_a_runtime_alone() {
    blocking_handlers_leave_the_workers_alone().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocking_handlers_leave_the_workers_of_a_runtime_alone() {
    blocking_handlers_leave_the_workers_alone().await;
}
