//! A monitor on a socket of its own, and a client that sees lines.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::{Command, Router};
use qmp_monitor::{
    Budgets, Core, EventHub, EventSpec, Monitor, MonitorConfig, SessionLimits, qmp_capabilities,
};
use qmp_protocol::Version;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fixture {
    pub(crate) core: Arc<Core>,
    pub(crate) monitor: Monitor,
    pub(crate) path: PathBuf,
    _dir: tempfile::TempDir,
}

pub(crate) async fn fixture(commands: Vec<Command>) -> Fixture {
    fixture_with(commands, SessionLimits::default(), 64).await
}

pub(crate) async fn fixture_with(
    commands: Vec<Command>,
    limits: SessionLimits,
    max_clients: usize,
) -> Fixture {
    made(commands, limits, Budgets::default(), max_clients).await
}

/// With these budgets.
pub(crate) async fn fixture_within(commands: Vec<Command>, budgets: Budgets, max_clients: usize) -> Fixture {
    made(commands, SessionLimits::default(), budgets, max_clients).await
}

/// With these limits and budgets.
pub(crate) async fn fixture_limited(
    commands: Vec<Command>,
    limits: SessionLimits,
    budgets: Budgets,
) -> Fixture {
    made(commands, limits, budgets, 64).await
}

async fn made(
    commands: Vec<Command>,
    limits: SessionLimits,
    budgets: Budgets,
    max_clients: usize,
) -> Fixture {
    let hub =
        EventHub::new([EventSpec::standard::<()>("STOP"), EventSpec::extension::<()>("X_OURS")]).unwrap();
    let router = Router::builder().command(qmp_capabilities()).commands(commands).build().unwrap();
    let version = Version { major: 7, minor: 2, micro: 0, package: "test".into() };
    let core = Core::with_budgets(Arc::new(router), hub.clone(), &version, limits, &budgets);
    tokio::spawn(async move { hub.run().await });

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("q.sock");
    let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("c", backend, 128).await.unwrap());
    let front_end = chardev.front_end(max_clients).unwrap();
    let monitor = Monitor::start(core.clone(), &MonitorConfig::new("m"), front_end);
    Fixture { core, monitor, path, _dir: dir }
}

pub(crate) struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connected, and greeted.
    pub(crate) async fn greeted(fixture: &Fixture) -> Self {
        let stream = UnixStream::connect(&fixture.path).await.unwrap();
        let mut client = Self { stream: BufReader::new(stream) };
        assert!(client.line().await.starts_with("{\"QMP\": "));
        client
    }

    /// Negotiated without capabilities.
    pub(crate) async fn negotiated(fixture: &Fixture) -> Self {
        let mut client = Self::greeted(fixture).await;
        assert_eq!(client.ask("{\"execute\":\"qmp_capabilities\"}").await, "{\"return\": {}}");
        client
    }

    /// Negotiated with out-of-band.
    pub(crate) async fn out_of_band(fixture: &Fixture) -> Self {
        let mut client = Self::greeted(fixture).await;
        let request = "{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}";
        assert_eq!(client.ask(request).await, "{\"return\": {}}");
        client
    }

    /// Negotiated on a monitor that indents.
    pub(crate) async fn pretty(fixture: &Fixture) -> Self {
        fixture.monitor.set_pretty(true);
        let stream = UnixStream::connect(&fixture.path).await.unwrap();
        let mut client = Self { stream: BufReader::new(stream) };
        while client.line().await != "}" {}
        client.send("{\"execute\":\"qmp_capabilities\"}").await;
        while client.line().await != "}" {}
        client
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    /// Writes `text` in one `sendmsg`, with these fds.
    pub(crate) fn send_fds(&self, text: &str, fds: &[OwnedFd]) {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        assert_eq!(send_fds(self.stream.get_ref(), text.as_bytes(), &borrowed).unwrap(), text.len());
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        assert!(read.expect("a line in time").unwrap() > 0, "the session ended");
        line.strip_suffix("\r\n").expect("a line ends with CR LF").to_owned()
    }

    pub(crate) async fn ask(&mut self, text: &str) -> String {
        self.send(text).await;
        self.line().await
    }

    /// Waits until there is something to read.
    pub(crate) async fn readable(&mut self) {
        self.stream.get_ref().readable().await.unwrap();
    }

    /// Reads at most so many bytes; says how many.
    pub(crate) async fn some(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; most];
        let read = self.stream.get_mut().read(&mut bytes).await.unwrap();
        assert!(read > 0, "the session ended");
        read
    }

    /// At most so many bytes, or `None` when the session has ended.
    pub(crate) async fn some_or_end(&mut self, most: usize) -> Option<usize> {
        let mut bytes = vec![0; most];
        self.stream.get_mut().read(&mut bytes).await.ok().filter(|read| *read > 0)
    }

    pub(crate) async fn shutdown_write(&mut self) {
        self.stream.get_mut().shutdown().await.unwrap();
    }

    /// Whether what is to be read comes to a whole line, and not to the session's end.
    pub(crate) async fn has_line(mut self) -> bool {
        let mut line = String::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        read.expect("a line or the end in time").is_ok() && line.ends_with("\r\n")
    }

    /// Everything until the session's end.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        match read.expect("the end in time") {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
        }
        String::from_utf8(rest).unwrap()
    }
}

/// Writes bytes in one `sendmsg`, with these fds.
pub(crate) fn send_fds(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    Ok(sendmsg(socket, &[io::IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
}
