//! A VMM without tokio, whose threads share its state: `cargo run -p vmm-control --example host_own_thread`.
//!
//! The plane starts a thread for itself and the VMM never sees a runtime. Device and vCPU threads are the VMM's own; what they
//! share with the plane is behind locks, as among themselves.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use serde::{Deserialize, Serialize};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::{
    Command, CommandResult, Context, ControlPlane, EventSpec, Machine, MonitorConfig, QapiType, RunState,
    RunStateCell,
};

/// What the VMM's threads share.
struct Vmm {
    state: RunStateCell,
    disks: Mutex<Vec<String>>,
}

impl Machine for Vmm {
    fn name(&self) -> Option<String> {
        Some("threads".to_owned())
    }

    fn run_state(&self) -> RunState {
        self.state.get()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.state.stop(); // and tell the vCPU threads
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        self.state.cont();
        Ok(())
    }
}

/// A disk.
#[derive(Clone, Deserialize, Serialize, QapiType)]
struct Disk {
    /// The file that it is.
    path: String,
}

/// A command that may take its time: opening a disk can block, so it is declared `blocking` and runs on a thread for that. The
/// work itself is done by a device thread, which raises an event and answers.
fn add_disk(vmm: Arc<Vmm>, device: mpsc::Sender<(Disk, mpsc::Sender<()>)>) -> Command {
    Command::new("__com.example_add-disk").doc("Adds a disk.").blocking(move |_: Context, disk: Disk| {
        vmm.disks.lock().expect("nobody has panicked under it").push(disk.path.clone());
        let (done, ready) = mpsc::channel();
        device.send((disk, done))?;
        Ok(ready.recv()?)
    })
}

fn main() -> Result<(), Box<dyn Error>> {
    let vmm = Arc::new(Vmm { state: RunStateCell::new(RunState::Running), disks: Mutex::default() });
    let (jobs, queue) = mpsc::channel::<(Disk, mpsc::Sender<()>)>();

    let plane = ControlPlane::builder(vmm.clone())
        .event(EventSpec::extension::<Disk>("__COM.EXAMPLE_DISK_READY"))
        .command(add_disk(vmm.clone(), jobs))
        .on_thread_start(|kind, name| println!("a thread of the plane's: {kind} {name:?}"))
        .start()?;

    // The device's thread. Raising an event needs no runtime and never waits; what is raised before the request is completed
    // precedes its reply.
    let events = plane.events();
    let device = thread::spawn(move || {
        for (disk, done) in queue {
            events.emit("__COM.EXAMPLE_DISK_READY", &disk).expect("it is declared");
            let _ = done.send(());
        }
    });

    let dir = tempfile::tempdir()?;
    let path = dir.path().join("qmp.sock");
    let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    plane.add_monitor(MonitorConfig::new("qmp"), socket, 64)?;
    let client = thread::spawn(move || client(&path).expect("the client is served"));

    // The program's own sessions wait for their replies.
    let session = plane.connect();
    session.call("query-status", &())?;

    // `quit` on a monitor, or `plane.shut_down(..)` from anywhere. Who has a loop polls `plane.shutdown_fd()`.
    let cause = plane.shutdown_requested()?;
    println!(
        "the end: {cause:?}, with the disks {:?}",
        vmm.disks.lock().expect("nobody has panicked under it")
    );
    plane.close();
    // Plane and sessions had the command, which had the queue's other end.
    drop(session);
    device.join().expect("the device has not panicked");
    client.join().expect("the client has not panicked");
    Ok(())
}

/// A manager, as it might be in another process.
fn client(path: &Path) -> Result<(), Box<dyn Error>> {
    let mut stream = UnixStream::connect(path)?;
    for request in [
        r#"{"execute": "qmp_capabilities"}"#,
        r#"{"execute": "x-events", "arguments": {"enable": ["__COM.EXAMPLE_DISK_READY"]}}"#,
        r#"{"execute": "__com.example_add-disk", "arguments": {"path": "root.img"}}"#,
        r#"{"execute": "stop"}"#,
        r#"{"execute": "quit"}"#,
    ] {
        stream.write_all(request.as_bytes())?;
    }
    let lines = BufReader::new(stream).lines().collect::<Result<Vec<_>, _>>()?;
    for line in &lines {
        println!("client: {line}");
    }
    let place = |what: &str| lines.iter().position(|line| line.contains(what)).ok_or(what.to_owned());
    assert!(place("DISK_READY")? < place("STOP")? && place("STOP")? < place("SHUTDOWN")?);
    Ok(())
}
