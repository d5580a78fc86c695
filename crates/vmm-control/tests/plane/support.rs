//! A machine that does as it is told, and clients of both kinds.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::Serialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use vmm_control::chardev::{Address, Backend, Chardev, SocketOptions};
use vmm_control::{
    Builder, CommandError, CommandResult, ControlPlane, LocalError, LocalSession, Machine, MonitorConfig,
    RunState, RunStateCell,
};

/// How long anything may take before a test gives up on it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A machine whose state the test sets, and which notes what it was asked to do. Clones are the same machine.
#[derive(Clone, Debug)]
pub(crate) struct Toy {
    pub(crate) state: Arc<RunStateCell>,
    asked: Arc<Mutex<Vec<&'static str>>>,
    name: Option<String>,
    broken: bool,
}

impl Toy {
    pub(crate) fn new(state: RunState) -> Self {
        Self { state: Arc::new(RunStateCell::new(state)), asked: Arc::default(), name: None, broken: false }
    }

    pub(crate) fn named(name: &str) -> Self {
        Self { name: Some(name.to_owned()), ..Self::new(RunState::Running) }
    }

    /// Does nothing but to fail.
    pub(crate) fn broken(state: RunState) -> Self {
        Self { broken: true, ..Self::new(state) }
    }

    /// What it was asked to do since the last time.
    pub(crate) fn asked(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }

    fn act(&self, what: &'static str, act: impl FnOnce(&RunStateCell)) -> CommandResult<()> {
        self.asked.lock().unwrap().push(what);
        if self.broken {
            return Err(CommandError::generic(format!("{what} is broken")));
        }
        act(&self.state);
        Ok(())
    }
}

impl Machine for Toy {
    fn name(&self) -> Option<String> {
        self.name.clone()
    }

    fn run_state(&self) -> RunState {
        self.state.get()
    }

    async fn initialize(&self) -> CommandResult<()> {
        self.act("initialize", |_| {})
    }

    async fn stop(&self) -> CommandResult<()> {
        self.act("stop", |state| {
            state.stop();
        })
    }

    async fn cont(&self) -> CommandResult<()> {
        self.act("cont", RunStateCell::cont)
    }

    async fn reset(&self) -> CommandResult<()> {
        self.act("reset", RunStateCell::reset)
    }

    async fn shut_down(&self) -> CommandResult<()> {
        self.act("shut_down", RunStateCell::shut_down)
    }

    async fn powerdown(&self) -> CommandResult<()> {
        self.act("powerdown", |_| {})
    }
}

/// A plane with built-in commands only.
pub(crate) fn plain(machine: &Toy) -> ControlPlane {
    built(ControlPlane::builder(machine.clone()))
}

pub(crate) fn built(builder: Builder) -> ControlPlane {
    builder.build().unwrap()
}

/// A session of the process's own that gets events.
pub(crate) fn watching(plane: &ControlPlane) -> LocalSession {
    let mut session = plane.connect();
    session.watch();
    session
}

/// The JSON of a reply to `session`, or its error's class and text.
pub(crate) async fn ask(session: &LocalSession, command: &str, arguments: impl Serialize) -> Value {
    shown(session.execute(command, &arguments).await)
}

/// Likewise, for a command that takes fds.
pub(crate) async fn ask_with(
    session: &LocalSession,
    command: &str,
    arguments: impl Serialize,
    fds: Vec<OwnedFd>,
) -> Value {
    shown(session.execute_with_fds(command, &arguments, fds).await)
}

fn shown(result: Result<Value, LocalError>) -> Value {
    match result {
        Ok(value) => value,
        Err(LocalError::Command(error)) => format!("{:?}: {}", error.class, error.desc).into(),
        Err(other) => panic!("{other}"),
    }
}

/// The names of the events that are there, in order.
pub(crate) fn events(session: &mut LocalSession) -> Vec<String> {
    std::iter::from_fn(|| session.try_next_event()).map(|event| event.name.into_owned()).collect()
}

/// A directory for sockets.
pub(crate) fn directory() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Adds a monitor on a socket, and gives its path.
pub(crate) async fn listen(plane: &ControlPlane, directory: &Path, id: &str) -> PathBuf {
    listen_as(plane, directory, MonitorConfig::new(id)).await
}

/// The same with more to say of the monitor.
pub(crate) async fn listen_as(plane: &ControlPlane, directory: &Path, config: MonitorConfig) -> PathBuf {
    let path = directory.join(&config.id);
    let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open(&config.id, backend, 128).await.unwrap());
    plane.add_monitor(config, &chardev, 64).unwrap();
    path
}

/// A client on a socket, which sees lines.
pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connected, greeted and negotiated.
    pub(crate) async fn new(path: &Path) -> Self {
        Self::negotiated(UnixStream::connect(path).await.unwrap()).await
    }

    /// Greeted and negotiated.
    pub(crate) async fn negotiated(stream: UnixStream) -> Self {
        Self::with_capabilities(stream, "{\"execute\": \"qmp_capabilities\"}").await
    }

    /// Connected, greeted and negotiated, with out-of-band on.
    pub(crate) async fn new_oob(path: &Path) -> Self {
        let negotiate = "{\"execute\": \"qmp_capabilities\", \"arguments\": {\"enable\": [\"oob\"]}}";
        Self::with_capabilities(UnixStream::connect(path).await.unwrap(), negotiate).await
    }

    async fn with_capabilities(stream: UnixStream, negotiate: &str) -> Self {
        let mut client = Self { stream: BufReader::new(stream) };
        assert!(client.line().await.starts_with("{\"QMP\": "));
        assert_eq!(client.ask(negotiate).await, "{\"return\": {}}");
        client
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Writes `text` and this fd at once.
    pub(crate) fn send_fd(&self, text: &str, fd: &OwnedFd) {
        let fds = [fd.as_fd()];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [IoSlice::new(text.as_bytes())];
        let sent = sendmsg(self.stream.get_ref(), &bytes, &mut control, SendFlags::NOSIGNAL);
        assert_eq!(sent.unwrap(), text.len());
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        assert!(read.expect("a line in time").unwrap() > 0, "the session ended");
        line.trim_end().to_owned()
    }

    pub(crate) async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.line().await
    }

    /// Everything until the session's end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_string(&mut rest)).await;
        read.expect("the end in time").unwrap();
        rest
    }
}
