//! A human monitor on a socket of its own, a shell, and a client that sees bytes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::{Context, Router};
use qmp_monitor::human::{Answer, Shell};
use qmp_monitor::{
    Core, EventHub, EventSpec, Monitor, MonitorConfig, QmpSession, SessionLimits, qmp_capabilities,
};
use qmp_protocol::Version;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

/// How long anything may take before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A shell for tests. It knows the words in [`WORDS`].
pub(crate) struct Words {
    /// What `wait` waits for.
    pub(crate) gate: Semaphore,
    /// Lines that were executed to the end.
    pub(crate) executed: AtomicUsize,
    pub(crate) lines: Mutex<Vec<String>>,
}

impl Words {
    fn new() -> Arc<Self> {
        Arc::new(Self { gate: Semaphore::new(0), executed: AtomicUsize::new(0), lines: Mutex::default() })
    }
}

const WORDS: [&str; 9] =
    ["burst", "echo", "getfd", "inode", "names", "panic-call", "panic-later", "wait", "who"];

/// The shell as the plane has it.
struct Handle(Arc<Words>);

impl Shell for Handle {
    fn banner(&self) -> String {
        "Words here".into()
    }

    fn prompt(&self) -> &str {
        "? "
    }

    fn execute(&self, line: String, context: Context) -> Answer {
        let words = self.0.clone();
        words.lines.lock().unwrap().push(line.clone());
        let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
        assert!(word != "panic-call", "as told");
        let (word, rest) = (word.to_owned(), rest.to_owned());
        Box::pin(async move {
            let session = context.session::<QmpSession>().unwrap();
            let answer = match word.as_str() {
                "" => String::new(),
                "burst" => "x".repeat(rest.parse().unwrap()) + "\n",
                "echo" => rest.replace('/', "\n") + "\n",
                "getfd" => match context.take_fd() {
                    Some(fd) => {
                        drop(session.named_fds().insert(rest, fd).unwrap());
                        String::new()
                    }
                    None => "no fd\n".into(),
                },
                "inode" => match context.take_fd() {
                    Some(fd) => format!("{}\n", rustix::fs::fstat(fd).unwrap().st_ino),
                    None => "no fd\n".into(),
                },
                "names" => session.named_fds().names().join(" ") + "\n",
                "panic-later" => panic!("as told"),
                "wait" => {
                    words.gate.acquire().await.unwrap().forget();
                    "waited\n".into()
                }
                "who" => format!("{} on {}\n", context.peer().unwrap().uid, context.monitor()),
                _ => format!("what is '{word}'?\n"),
            };
            words.executed.fetch_add(1, Ordering::AcqRel);
            answer
        })
    }

    fn complete(&self, line: &str, _: &Context) -> Vec<String> {
        assert!(!line.starts_with("panic-t"), "as told");
        WORDS.iter().map(|word| (*word).to_owned()).collect()
    }
}

pub(crate) struct Fixture {
    pub(crate) core: Arc<Core>,
    pub(crate) monitor: Monitor,
    pub(crate) words: Arc<Words>,
    pub(crate) chardev: Arc<Chardev>,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

pub(crate) async fn fixture() -> Fixture {
    fixture_with(SessionLimits::default(), |config| config.readline(true)).await
}

pub(crate) async fn fixture_with(
    limits: SessionLimits,
    configure: impl FnOnce(MonitorConfig) -> MonitorConfig,
) -> Fixture {
    let core = core(limits);
    let words = Words::new();
    assert!(core.set_shell(Arc::new(Handle(words.clone()))));
    serve(core, words, &configure(MonitorConfig::new("h"))).await
}

/// A human monitor on a core without a shell.
pub(crate) async fn without_shell() -> Fixture {
    let words = Words::new();
    serve(core(SessionLimits::default()), words, &MonitorConfig::new("h").readline(true)).await
}

fn core(limits: SessionLimits) -> Arc<Core> {
    let hub = EventHub::new([EventSpec::standard::<()>("STOP")]).unwrap();
    let router = Router::builder().command(qmp_capabilities()).build().unwrap();
    let version = Version { major: 7, minor: 2, micro: 0, package: "test".into() };
    let core = Core::new(Arc::new(router), hub.clone(), &version, limits);
    tokio::spawn(async move { hub.run().await });
    core
}

async fn serve(core: Arc<Core>, words: Arc<Words>, config: &MonitorConfig) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("h.sock");
    let backend = Backend::Socket(SocketOptions::server(Address::unix(&path)));
    let chardev = Arc::new(Chardev::open("c", backend, 128).await.unwrap());
    let monitor = Monitor::start(core.clone(), config, chardev.front_end(64).unwrap());
    Fixture { core, monitor, words, chardev, path, _dir: dir }
}

impl Fixture {
    /// Waits until so many lines have been executed to their end.
    pub(crate) async fn executed(&self, lines: usize) {
        let all = async {
            while self.words.executed.load(Ordering::Acquire) < lines {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.unwrap();
    }
}

pub(crate) struct Client(UnixStream);

impl Client {
    pub(crate) async fn connect(fixture: &Fixture) -> Self {
        Self(UnixStream::connect(&fixture.path).await.unwrap())
    }

    /// Connected, and prompted.
    pub(crate) async fn greeted(fixture: &Fixture) -> Self {
        let mut client = Self::connect(fixture).await;
        client.expect("Words here\r\n? ").await;
        client
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Writes in one `sendmsg`, with these fds.
    pub(crate) fn send_fds(&self, text: &str, fds: &[OwnedFd]) {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        let mut space = vec![std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        let slices = [std::io::IoSlice::new(text.as_bytes())];
        assert_eq!(sendmsg(&self.0, &slices, &mut control, SendFlags::NOSIGNAL).unwrap(), text.len());
    }

    /// Reads exactly this text.
    #[track_caller]
    pub(crate) fn expect(&mut self, text: &str) -> impl Future<Output = ()> {
        let (at, text) = (std::panic::Location::caller(), text.to_owned());
        async move {
            let mut bytes = vec![0; text.len()];
            let mut len = 0;
            while len < bytes.len() && text.as_bytes().starts_with(&bytes[..len]) {
                let read = tokio::time::timeout(PATIENCE, self.0.read(&mut bytes[len..])).await;
                match read {
                    Ok(Ok(read)) if read > 0 => len += read,
                    other => panic!("{at}: {other:?} after {:?}", String::from_utf8_lossy(&bytes[..len])),
                }
            }
            assert_eq!(String::from_utf8_lossy(&bytes[..len]), text, "{at}");
        }
    }

    /// Reads exactly these bytes.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) {
        let mut read = vec![0; bytes.len()];
        tokio::time::timeout(PATIENCE, self.0.read_exact(&mut read)).await.expect("bytes in time").unwrap();
        assert_eq!(read.escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    /// Types a line, and reads its echo. What comes then is the answer.
    #[track_caller]
    pub(crate) fn enter(&mut self, line: &str) -> impl Future<Output = ()> {
        let (line, echo) = (format!("{line}\r"), echo_of(line));
        let at = std::panic::Location::caller();
        async move {
            self.send(line).await;
            let mut bytes = vec![0; echo.len()];
            let read = tokio::time::timeout(PATIENCE, self.0.read_exact(&mut bytes)).await;
            read.expect("an echo in time").unwrap();
            assert_eq!(String::from_utf8_lossy(&bytes), echo, "{at}");
        }
    }

    pub(crate) async fn shutdown_write(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Everything until the session's end.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.0.read_to_end(&mut rest)).await;
        if let Err(error) = read.expect("the end in time") {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Reads at most so many bytes; says how many.
    pub(crate) async fn some(&mut self, most: usize) -> usize {
        let mut bytes = vec![0; most];
        tokio::time::timeout(PATIENCE, self.0.read(&mut bytes)).await.expect("bytes in time").unwrap()
    }
}

/// What comes back for a line that is typed byte by byte behind the prompt, Enter included.
pub(crate) fn echo_of(line: &str) -> String {
    let drawn = (1..=line.len()).map(|len| "\x1b[D".repeat(len - 1) + &line[..len] + "\x1b[K");
    drawn.collect::<String>() + "\r\n"
}
