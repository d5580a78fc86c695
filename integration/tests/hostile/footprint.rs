//! What a process has: descriptors, threads, memory of its own. Before an attack and after it that must be the same.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use vmm_integration::poll_until;

/// Memory that may have come to stay, in KiB: what the allocator keeps of what was freed, in a build without optimisation.
/// A leak that matters is one that an attacker can repeat, so it is the second half of an attack that tells, not this.
const SLACK: u64 = 12 << 10;

/// How long things may take to go: a thread that closes descriptors is put off by whoever else wants the processor.
const PATIENCE: Duration = Duration::from_secs(10);

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Thread {
    id: String,
    name: String,
}

/// What a process has at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Footprint {
    pid: u32,
    fds: Vec<String>,
    threads: Vec<Thread>,
    /// In KiB; what is mapped from files is not counted, such as the program itself.
    memory: u64,
}

impl Footprint {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid, fds: fds(pid), threads: threads(pid), memory: memory(pid) }
    }

    /// How many descriptors there are.
    pub(crate) fn fds(&self) -> usize {
        self.fds.len()
    }

    /// Waits until the process has what it had then, and no thread more that does anything.
    #[track_caller]
    pub(crate) fn comes_back(&self, slack: u64) {
        let fds_came = poll_until(PATIENCE, || fds(self.pid).len() == self.fds.len());
        assert!(fds_came, "descriptors: {:#?}\nwere {:#?}", fds(self.pid), self.fds);
        let threads_came = poll_until(PATIENCE, || self.new_threads().is_empty());
        assert!(threads_came, "threads that were not there: {:#?}", self.new_threads());
        let most = self.memory + SLACK + slack;
        let memory_came = poll_until(Duration::from_secs(1), || memory(self.pid) <= most);
        if std::env::var_os("HOSTILE_TIMES").is_some() {
            eprintln!("memory: {} KiB -> {} KiB", self.memory, memory(self.pid));
        }
        assert!(memory_came, "{} KiB of memory, {} KiB before", memory(self.pid), self.memory);
    }

    /// Threads that have come since, and are not just closers that wait for work, and go by themselves when none comes for two
    /// seconds.
    fn new_threads(&self) -> Vec<Thread> {
        let mut new = threads(self.pid);
        new.retain(|thread| {
            let pooled = thread.name == "fd-closer";
            !(self.threads.contains(thread) || pooled && is_waiting(self.pid, &thread.id))
        });
        new
    }

    /// Waits until the process has no thread more than it had then, not even an idle one.
    #[track_caller]
    pub(crate) fn threads_go(&self) {
        let gone = poll_until(2 * PATIENCE, || threads(self.pid).len() <= self.threads.len());
        assert!(gone, "{:#?}\nwere {:#?}", threads(self.pid), self.threads);
    }
}

fn fds(pid: u32) -> Vec<String> {
    let dir = fs::read_dir(format!("/proc/{pid}/fd"));
    let links = dir.into_iter().flatten().flatten().map(|entry| fs::read_link(entry.path()));
    // One that was closed since it was listed is not there.
    let mut links: Vec<String> = links.flatten().map(|link: PathBuf| link.display().to_string()).collect();
    links.sort_unstable();
    links
}

fn threads(pid: u32) -> Vec<Thread> {
    let dir = fs::read_dir(format!("/proc/{pid}/task"));
    let thread = |entry: fs::DirEntry| {
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some(Thread {
            id: entry.file_name().to_string_lossy().into_owned(),
            name: name.trim_end().to_owned(),
        })
    };
    dir.into_iter().flatten().flatten().filter_map(thread).collect()
}

/// Whether a thread waits for another of its process, as one of a pool does that has nothing to do. One that is stuck in a
/// close, or in an open, waits in another system call.
fn is_waiting(pid: u32, thread: &str) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{thread}/syscall")).unwrap_or_default();
    let futex = if cfg!(target_arch = "x86_64") { "202" } else { "98" };
    call.split(' ').next() == Some(futex)
}

fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse().ok()).unwrap_or_default()
}
