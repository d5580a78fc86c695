//! An idle plane wakes nobody: with a hundred monitors on unix sockets and a client on each, the process makes no context
//! switch and has one thread.
//!
//! The plane is in a process of its own, which this one watches through `/proc` for `VMM_IDLE_SECONDS` (2 when not set;
//! `make idle` says 60). A wake-up is a voluntary context switch: there is one each time a thread that was woken waits
//! again.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{ControlPlane, MonitorConfig, RunState, RunStateCell};

const MONITORS: usize = 100;

/// How long the plane may take to get idle.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("--host") {
        let dir = arguments.next().unwrap();
        // Threads that opened something go soon, as they would after ten seconds.
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_all().thread_keep_alive(Duration::from_millis(10)).build().unwrap();
        return runtime.block_on(host(Path::new(&dir)));
    }
    let seconds = std::env::var("VMM_IDLE_SECONDS").map_or(2, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut command = Command::new(program);
    let child = command.arg("--host").arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
    watch(Host(child), Duration::from_secs(seconds));
}

/// Waits until the host is idle, and then for so long.
fn watch(mut host: Host, time: Duration) {
    let mut ready = String::new();
    BufReader::new(host.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let deadline = Instant::now() + PATIENCE;
    let mut before = host.threads();
    loop {
        // Nothing tells when threads have gone and the last wait has begun.
        std::thread::sleep(Duration::from_millis(100));
        let now = host.threads();
        if now == before && now.len() == 1 {
            break;
        }
        assert!(Instant::now() < deadline, "it does not get idle: {now:?}");
        before = now;
    }
    // What is tested is that nothing happens as time goes by.
    std::thread::sleep(time);
    let after = host.threads();
    assert_eq!(after, before, "threads and their wake-ups, after {time:?}");
    println!("an idle plane with {MONITORS} monitors: 1 thread, no wake-up in {} s", time.as_secs());
}

/// The process with the plane; gone when dropped.
struct Host(Child);

impl Host {
    /// Its threads, by id, with how often each has begun to wait.
    fn threads(&self) -> Vec<(u32, u64)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.0.id())).unwrap();
        let ids = tasks.map(|task| task.unwrap().file_name().to_str().unwrap().parse().unwrap());
        let mut threads: Vec<(u32, u64)> = ids.filter_map(|id| Some((id, self.waits(id)?))).collect();
        threads.sort_unstable();
        threads
    }

    /// `None` when the thread has gone meanwhile.
    fn waits(&self, thread: u32) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/task/{thread}/status", self.0.id())).ok()?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        Some(count.unwrap().trim().parse().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A plane with its monitors and their clients, which all do nothing.
async fn host(dir: &Path) {
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap();
    let mut clients = Vec::new();
    for number in 0..MONITORS {
        let path = dir.join(number.to_string());
        let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
        let chardev = Arc::new(Chardev::open(&format!("c{number}"), backend, 128).await.unwrap());
        let config = MonitorConfig::new(format!("m{number}"));
        #[cfg(feature = "hmp")]
        let config = if number % 10 == 9 { config.readline(true) } else { config };
        let human = config.is_human();
        plane.add_monitor(config, &chardev, 64).unwrap();
        let mut client = AsyncBufReader::new(UnixStream::connect(&path).await.unwrap());
        let mut line = String::new();
        client.read_line(&mut line).await.unwrap();
        if !human {
            client.get_mut().write_all(b"{\"execute\": \"qmp_capabilities\"}").await.unwrap();
            client.read_line(&mut line).await.unwrap();
            assert!(line.ends_with("{\"return\": {}}\r\n"), "{line}");
        }
        clients.push(client);
    }
    println!("ready");
    std::future::pending().await
}
