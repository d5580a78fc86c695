//! What a plane needs threads for: without any it says so, and its end waits for nobody's.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::objects::{Creation, Object, ObjectType};
use vmm_control::{Command, CommandError, CommandResult, Context, ControlPlane, MonitorConfig, RunState};

use crate::support::{PATIENCE, Toy};

#[tokio::test]
async fn without_a_thread_a_command_fails_with_its_reason() {
    let blocks = Command::new("x-block").blocking(|_: Context, (): ()| Ok::<_, CommandError>(1_u8));
    // No system starts a thread whose name holds this.
    let builder = ControlPlane::builder(Toy::new(RunState::Running)).thread_name("\0");
    let plane = builder.command(blocks).build().unwrap();
    let session = plane.connect();
    for (command, arguments) in [
        ("x-block", json!({})),
        ("object-add", json!({"qom-type": "iothread", "id": "x"})),
        ("object-add", json!({"qom-type": "memory-backend-ram", "id": "x", "size": 65536})),
        ("qom-set", json!({"path": "/machine", "property": "type", "value": 1})),
    ] {
        let error = session.call(command, &arguments).await.unwrap_err().to_string();
        assert!(error.contains("No thread could be started: "), "{command}: {error}");
    }
    // The next ones do not find anything of it.
    let listed: serde_json::Value = session.execute("qom-list", &json!({"path": "/objects"})).await.unwrap();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    plane.close().await;
}

#[test]
fn closing_needs_none_of_the_runtimes_blocking_threads() {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let start = Instant::now();
    runtime.block_on(async {
        drop(tokio::task::spawn_blocking(move || released.recv_timeout(PATIENCE)));
        let plane = ControlPlane::builder(Toy::new(RunState::Running)).build().unwrap();
        plane.connect().call("object-add", &json!({"qom-type": "iothread", "id": "x"})).await.unwrap();
        plane.close().await;
    });
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    drop(release);
}

/// A plane with an iothread that is busy until the channel hangs up.
async fn busy() -> (ControlPlane, mpsc::Sender<()>, mpsc::Receiver<()>) {
    let plane = ControlPlane::builder(Toy::new(RunState::Running)).build().unwrap();
    plane.connect().call("object-add", &json!({"qom-type": "iothread", "id": "x"})).await.unwrap();
    let ((release, released), (ended, ends)) = (mpsc::channel::<()>(), mpsc::channel());
    let work = move |_: &mut iothread::Scope<'_>| {
        let _ = released.recv_timeout(PATIENCE);
        drop(ended);
    };
    plane.iothreads().with("x", |thread| thread.handle()).unwrap().run(work).unwrap();
    (plane, release, ends)
}

#[tokio::test]
async fn dropping_waits_for_no_iothread() {
    let (plane, release, ends) = busy().await;
    let start = Instant::now();
    drop(plane);
    assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
    drop(release);
    assert_eq!(ends.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Disconnected));
}

#[tokio::test]
async fn closing_waits_for_iothreads_whoever_keeps_a_handle() {
    let (plane, release, _) = busy().await;
    let (handle, session) = (plane.handle(), plane.connect());
    let tid = handle.iothreads().list()[0].thread_id;
    let releaser = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(20));
        drop(release);
    });
    plane.close().await;
    assert!(!std::path::Path::new(&format!("/proc/self/task/{tid}")).exists());
    assert!(handle.iothreads().list().is_empty());
    drop((handle, session));
    releaser.join().unwrap();
}

#[tokio::test]
async fn a_plane_that_is_closed_gets_no_more_objects() {
    let plane = ControlPlane::builder(Toy::new(RunState::Running)).build().unwrap();
    let (session, handle) = (plane.connect(), plane.handle());
    plane.close().await;
    for arguments in [
        json!({"qom-type": "iothread", "id": "late"}),
        json!({"qom-type": "memory-backend-ram", "id": "late", "size": 65536}),
    ] {
        let error = session.call("object-add", &arguments).await.unwrap_err().to_string();
        assert!(error.contains("the control plane is closed"), "{error}");
    }
    assert!(!handle.objects().contains("/objects"));
    // An author's own, too.
    let late = handle.iothreads().add("late", iothread::IoThread::builder("late"));
    assert!(matches!(late, Err(iothread::Error::Closed)), "{late:?}");
    assert!(handle.iothreads().list().is_empty());
}

/// An object that takes its time.
struct Slow([Arc<Notify>; 2]);

impl Object for Slow {
    type Properties = ();

    fn properties(&self) {}

    async fn complete(&self, _: &Creation) -> CommandResult<()> {
        let [begun, may_end] = &self.0;
        begun.notify_one();
        may_end.notified().await;
        Ok(())
    }
}

#[tokio::test]
async fn an_object_that_is_made_while_the_plane_closes_has_not_come_to_be() {
    let notes: [Arc<Notify>; 2] = Default::default();
    let own = notes.clone();
    let slow = ObjectType::new("x-slow", move |_: &Creation, ()| Ok(Slow(own.clone())));
    let builder = ControlPlane::builder(Toy::new(RunState::Running)).object_type(slow);
    let plane = builder.build().unwrap();
    let session = plane.connect();
    let add = async move { session.call("object-add", &json!({"qom-type": "x-slow", "id": "x"})).await };
    let adding = tokio::spawn(add);
    let [begun, may_end] = &notes;
    begun.notified().await;
    plane.close().await;
    may_end.notify_one();
    let error = adding.await.unwrap().unwrap_err().to_string();
    assert!(error.contains("the control plane is closed"), "{error}");
}

/// Its client does not wait for it, nor does its connection stay; it is what stays.
#[tokio::test(start_paused = true)]
async fn a_command_that_goes_on_keeps_no_client_of_a_plane_that_has_ended() {
    for end in ["closed", "dropped", "closed after its monitor was removed"] {
        let may_end = Arc::new(Notify::new());
        let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let waits = may_end.clone();
        let goes_on = Command::new("x-goes-on").handler(move |_: Context, (): ()| {
            let (waits, ended) = (waits.clone(), ended.clone());
            async move {
                waits.notified().await;
                let _ = ended.send(());
                Ok(())
            }
        });
        let plane = ControlPlane::builder(Toy::new(RunState::Running)).command(goes_on).build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m");
        let listening = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        let chardev = plane.open_chardev("m", listening, 8).await.unwrap();
        plane.add_monitor(MonitorConfig::new("m"), &chardev, 8).unwrap();
        drop(chardev);
        let mut client = tokio::net::UnixStream::connect(&path).await.unwrap();
        client.write_all(b"{'execute': 'qmp_capabilities'}{'execute': 'x-goes-on'}").await.unwrap();
        let mut said = Vec::new();
        while !said.ends_with(b"{\"return\": {}}\r\n") {
            said.push(client.read_u8().await.unwrap());
        }
        if end == "closed after its monitor was removed" {
            assert!(plane.remove_monitor("m").await);
            let silence = tokio::time::timeout(Duration::from_secs(60), client.read_u8()).await;
            assert!(silence.is_err(), "it waits for its answer");
        }
        match end {
            "dropped" => drop(plane),
            _ => plane.close().await,
        }
        said.clear();
        let _ = client.read_to_end(&mut said).await;
        assert_eq!(said, b"", "{end}: it hears the end");
        assert!(ends.try_recv().is_err(), "the command goes on");
        may_end.notify_one();
        assert_eq!(ends.recv().await, Some(()));
    }
}
