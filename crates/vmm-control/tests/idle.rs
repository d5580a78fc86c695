//! An idle plane wakes nobody: with a hundred monitors on unix sockets and a client on each, the process makes no context
//! switch and has one thread; with a thread for the plane, it has that one more.
//!
//! Each plane is in a process of its own, which this one watches through `/proc` for `VMM_IDLE_SECONDS` (2 when not set;
//! `make idle` says 60). A wake-up is a voluntary context switch: there is one each time a thread that was woken waits
//! again.

#![expect(clippy::unwrap_used, reason = "it is how a test fails")]

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader as AsyncBufReader};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{ControlPlane, MonitorConfig, RunState, RunStateCell};

const MONITORS: usize = 100;

/// What tells a process to be the one with the plane, and where that runs.
const BUILT: &str = "--built";
const STARTED: &str = "--started";

/// How long the plane may take to get idle.
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let mut arguments = std::env::args().skip(1);
    match arguments.next().as_deref() {
        Some(BUILT) => return built(Path::new(&arguments.next().unwrap())),
        Some(STARTED) => return started(PathBuf::from(arguments.next().unwrap())),
        _ => {}
    }
    let seconds = std::env::var("VMM_IDLE_SECONDS").map_or(2, |text| text.parse().unwrap());
    let time = Duration::from_secs(seconds);
    // Both at once: they do nothing.
    std::thread::scope(|scope| {
        for (way, threads) in [(BUILT, 1), (STARTED, 2)] {
            scope.spawn(move || {
                let dir = tempfile::tempdir().unwrap();
                let mut command = Command::new(std::env::current_exe().unwrap());
                let child = command.arg(way).arg(dir.path()).stdout(Stdio::piped()).spawn().unwrap();
                watch(Host(child), threads, time);
                println!(
                    "an idle plane with {MONITORS} monitors: {threads} thread(s), no wake-up in {seconds} s"
                );
            });
        }
    });
}

/// Waits until the host is idle with so many threads, and then for so long.
fn watch(mut host: Host, threads: usize, time: Duration) {
    let mut ready = String::new();
    BufReader::new(host.0.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let deadline = Instant::now() + PATIENCE;
    let mut before = host.threads();
    loop {
        // Nothing tells when threads have gone and the last wait has begun.
        std::thread::sleep(Duration::from_millis(100));
        let now = host.threads();
        if now == before && now.len() == threads {
            break;
        }
        assert!(Instant::now() < deadline, "it does not get idle: {now:?}");
        before = now;
    }
    // What is tested is that nothing happens as time goes by.
    std::thread::sleep(time);
    let after = host.threads();
    assert_eq!(after, before, "threads and their wake-ups, after {time:?}");
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

/// A plane on a runtime of the program's.
fn built(dir: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build().unwrap();
        let _clients = clients(&plane, dir).await;
        println!("ready");
        std::future::pending().await
    })
}

/// A plane on a thread of its own, whose end the program's waits for.
fn started(dir: PathBuf) {
    let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).start().unwrap();
    let _clients = plane.run(async move |plane| clients(plane, &dir).await).unwrap();
    println!("ready");
    plane.shutdown_requested().unwrap();
}

/// Gives a plane monitors and their clients, which all do nothing.
async fn clients(plane: &ControlPlane, dir: &Path) -> Vec<AsyncBufReader<UnixStream>> {
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
    clients
}
