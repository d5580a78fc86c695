//! A VMM on tokio's current-thread runtime: `cargo run -p vmm-control --example host_tokio_current_thread`.
//!
//! VMM and plane share one thread. The machine is a task that owns its state; the plane's calls reach it as messages, and no state
//! has a lock. Handlers that block run on threads of their own, never on that one.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::{Command, CommandResult, Context, ControlPlane, Machine, MonitorConfig, RunState};

/// What the plane has of the machine: the way to its task, and the state that it last said.
struct Remote {
    requests: mpsc::Sender<(RunState, oneshot::Sender<()>)>,
    state: watch::Receiver<RunState>,
}

impl Remote {
    async fn bring_to(&self, state: RunState) -> CommandResult<()> {
        let (done, ended) = oneshot::channel();
        self.requests.send((state, done)).await?;
        Ok(ended.await?)
    }
}

impl Machine for Remote {
    fn run_state(&self) -> RunState {
        *self.state.borrow()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.bring_to(RunState::Paused).await
    }

    async fn cont(&self) -> CommandResult<()> {
        self.bring_to(RunState::Running).await
    }
}

/// The machine: its state, and what drives it.
async fn machine(
    mut requests: mpsc::Receiver<(RunState, oneshot::Sender<()>)>,
    state: watch::Sender<RunState>,
) -> u64 {
    let (mut ticks, mut clock) = (0, tokio::time::interval(Duration::from_millis(1)));
    loop {
        tokio::select! {
            request = requests.recv() => match request {
                // A real one pauses its vCPUs here.
                Some((to, done)) => {
                    state.send_replace(to);
                    let _ = done.send(());
                }
                None => return ticks,
            },
            _ = clock.tick(), if state.borrow().is_running() => ticks += 1,
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let ((requests, queue), (says, state)) = (mpsc::channel(1), watch::channel(RunState::Running));
    let machine = tokio::spawn(machine(queue, says));

    let main_thread = std::thread::current().id();
    let hash = Command::new("__com.example_hash").blocking(move |_: Context, (): ()| {
        // It may block here: the runtime's one thread is another.
        assert_ne!(std::thread::current().id(), main_thread);
        Ok(std::fs::read("/proc/self/exe")?
            .iter()
            .fold(0_u64, |hash, byte| hash.rotate_left(5) ^ u64::from(*byte)))
    });
    let plane = ControlPlane::builder(Remote { requests, state }).command(hash).build()?;

    let dir = tempfile::tempdir()?;
    let path = dir.path().join("qmp.sock");
    let socket = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = plane.open_chardev("mon0", socket, 128).await?;
    plane.add_monitor(MonitorConfig::new("qmp"), &chardev, 64)?;

    // Clients of two connections, in turn on the same thread as all else.
    tokio::try_join!(client(&path, "__com.example_hash"), client(&path, "stop"))?;
    client(&path, "quit").await?;
    println!("the end: {:?}", plane.shutdown_requested().await);
    plane.close().await;
    println!("the machine ran for {} ms", machine.await?);
    Ok(())
}

/// A manager, as it might be in another process.
async fn client(path: &Path, command: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = BufReader::new(UnixStream::connect(path).await?);
    let requests = format!(r#"{{"execute": "qmp_capabilities"}}{{"execute": "{command}", "id": 1}}"#);
    stream.write_all(requests.as_bytes()).await?;
    let mut line = String::new();
    while !line.contains(r#""id": 1"#) {
        line.clear();
        if stream.read_line(&mut line).await? == 0 {
            return Err(format!("no reply to {command}").into());
        }
        print!("client: {line}");
    }
    assert!(line.contains("return"), "{line}");
    Ok(())
}
