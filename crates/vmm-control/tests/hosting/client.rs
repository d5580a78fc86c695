//! A QMP client on a socket, without a runtime; and a look at this process's threads.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use vmm_control::chardev::{Address, Backend, SocketOptions};
use vmm_control::hosting::PlaneThread;
use vmm_control::{ControlPlane, MonitorConfig, RunState, RunStateCell};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Client(BufReader<UnixStream>);

impl Client {
    /// Connected, greeted and negotiated.
    pub(crate) fn new(path: &Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(BufReader::new(stream));
        assert!(client.line().get("QMP").is_some());
        client.ask(r#"{"execute": "qmp_capabilities"}"#);
        client
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// The next line; null at the session's end.
    pub(crate) fn line(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        if line.is_empty() { Value::Null } else { serde_json::from_str(&line).unwrap() }
    }

    pub(crate) fn ask(&mut self, text: &str) -> Value {
        self.send(text);
        self.line()
    }
}

pub(crate) fn socket(path: &Path) -> Backend {
    Backend::Socket(SocketOptions::server(Address::unix(path)))
}

/// A plane on a thread of this name, with a machine that is nothing but a run state.
pub(crate) fn started(name: &str) -> PlaneThread {
    let builder = ControlPlane::builder(RunStateCell::new(RunState::Running));
    builder.thread_name(name).start().unwrap()
}

/// A plane with a monitor on a socket.
pub(crate) fn listening(name: &str, path: &Path) -> PlaneThread {
    let plane = started(name);
    plane.add_monitor(MonitorConfig::new("qmp"), socket(path), 64).unwrap();
    plane
}

/// The names of this process's threads that begin so.
pub(crate) fn threads(prefix: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    // One may end meanwhile.
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.map(|name| name.trim_end().to_owned()).filter(|name| name.starts_with(prefix)).collect()
}

/// Waits until it is so.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}
