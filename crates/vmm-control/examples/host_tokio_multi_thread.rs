//! A VMM on tokio's multi-thread runtime: `cargo run -p vmm-control --example host_tokio_multi_thread`.
//!
//! The plane is built on the runtime that the program has anyway, and its sessions run on any of its workers. The state is the
//! program's, behind an async lock here; vCPUs and devices are threads that know nothing of tokio.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use serde::Serialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, mpsc, oneshot};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::{
    Command, CommandResult, Context, ControlPlane, EventSpec, Machine, MonitorConfig, QapiType, RunState,
    RunStateCell,
};

/// The machine.
struct Vmm {
    state: RunStateCell,
    /// One channel to each vCPU's thread.
    vcpus: Mutex<Vec<mpsc::Sender<oneshot::Sender<()>>>>,
}

impl Vmm {
    /// Has each vCPU look at the state, and returns when all have.
    async fn kick(&self) -> CommandResult<()> {
        for vcpu in &*self.vcpus.lock().await {
            let (seen, has_seen) = oneshot::channel();
            vcpu.send(seen).await?;
            has_seen.await?;
        }
        Ok(())
    }
}

impl Machine for Vmm {
    fn name(&self) -> Option<String> {
        Some("workers".to_owned())
    }

    fn run_state(&self) -> RunState {
        self.state.get()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.state.stop();
        self.kick().await
    }

    async fn cont(&self) -> CommandResult<()> {
        self.state.cont();
        self.kick().await
    }
}

/// How a copy goes.
#[derive(Serialize, QapiType)]
struct Progress {
    /// Per cent.
    done: u8,
}

/// A command that hands its work to a thread, and is completed by it. It is dropped neither half way nor when its client leaves.
fn copy(copier: mpsc::Sender<oneshot::Sender<()>>) -> Command {
    Command::new("__com.example_copy").concurrent().handler(move |_: Context, (): ()| {
        let copier = copier.clone();
        async move {
            let (done, ended) = oneshot::channel();
            copier.send(done).await?;
            Ok(ended.await?)
        }
    })
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut threads = Vec::new();
    let vcpus = (0..2).map(|index| {
        let (sender, mut kicks) = mpsc::channel::<oneshot::Sender<()>>(1);
        threads.push(thread::spawn(move || {
            while let Some(seen) = kicks.blocking_recv() {
                println!("vCPU {index} looks at the state");
                let _ = seen.send(());
            }
        }));
        sender
    });
    let vcpus = Mutex::new(vcpus.collect());
    let vmm = Arc::new(Vmm { state: RunStateCell::new(RunState::Running), vcpus });

    let (copier, mut copies) = mpsc::channel::<oneshot::Sender<()>>(8);
    let plane = ControlPlane::builder(vmm.clone())
        .event(EventSpec::extension::<Progress>("__COM.EXAMPLE_PROGRESS"))
        .command(copy(copier))
        .build()?;
    let events = plane.events();
    threads.push(thread::spawn(move || {
        while let Some(done) = copies.blocking_recv() {
            for part in [50, 100] {
                events.emit("__COM.EXAMPLE_PROGRESS", &Progress { done: part }).expect("it is declared");
            }
            // What was raised before this precedes the reply, on every session.
            let _ = done.send(());
        }
    }));

    let dir = tempfile::tempdir()?;
    let path = dir.path().join("qmp.sock");
    let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = plane.open_chardev("mon0", socket, 128).await?;
    plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 64)?;

    let clients: Vec<_> = (0..4).map(|_| tokio::spawn(client(path.clone(), "__com.example_copy"))).collect();
    for client in clients {
        client.await??;
    }
    client(path.clone(), "stop").await?;
    client(path.clone(), "quit").await?;
    println!("the end: {:?}", plane.shutdown_requested().await);
    plane.close().await;
    vmm.vcpus.lock().await.clear();
    threads.into_iter().for_each(|thread| thread.join().expect("the thread has not panicked"));
    Ok(())
}

/// A manager, as it might be in another process.
async fn client(path: PathBuf, command: &'static str) -> io::Result<()> {
    let mut stream = BufReader::new(UnixStream::connect(path).await?);
    let requests = format!(
        r#"{{"execute": "qmp_capabilities"}}
        {{"execute": "x-events", "arguments": {{"enable": ["__COM.EXAMPLE_PROGRESS"]}}}}
        {{"execute": "{command}", "id": 1}}"#
    );
    stream.write_all(requests.as_bytes()).await?;
    let (mut line, mut events) = (String::new(), 0);
    while !line.contains(r#""id": 1"#) {
        line.clear();
        assert!(stream.read_line(&mut line).await? > 0, "no reply to {command}");
        events += usize::from(line.contains("PROGRESS"));
        print!("client: {line}");
    }
    assert!(line.contains("return") && (command != "__com.example_copy" || events >= 2), "{line}");
    Ok(())
}
