//! A monitor on TCP, where each of this host's addresses is a holder of its own (`Holder::of`): 127.0.0.1, 127.0.0.2 and so on.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use chardev::{Address, Backend, Chardev, SocketOptions};
use qmp_command::{Command, Context, Router};
use qmp_protocol::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;

use crate::human::{Answer, Shell};
use crate::{Core, EventHub, EventSpec, Monitor, MonitorConfig, SessionLimits, qmp_capabilities};

/// How far time goes on at once while a client waits, and how long the clock stands still before. Without a pause it would go on
/// for hours in the moment that the kernel takes to deliver something.
const STEP: Duration = Duration::from_millis(10);
const PAUSE: Duration = Duration::from_millis(2);

/// How many such steps a test takes before it gives up.
const PATIENCE: usize = 10_000;

/// Waits for what comes over a connection.
async fn patiently<T>(come: impl Future<Output = T>) -> T {
    let mut come = std::pin::pin!(come);
    // Mostly it is there.
    if let Poll::Ready(come) = poll_fn(|cx| Poll::Ready(come.as_mut().poll(cx))).await {
        return come;
    }
    for _ in 0..PATIENCE {
        // A paused clock stands still while something blocks. This ends with the pause, or when what is waited for has come.
        let (_here, gone) = std::sync::mpsc::channel::<()>();
        let still = tokio::task::spawn_blocking(move || gone.recv_timeout(PAUSE));
        tokio::select! {
            biased;
            come = &mut come => return come,
            _ = still => {}
        }
        tokio::select! {
            biased;
            come = &mut come => return come,
            () = tokio::time::sleep(STEP) => {}
        }
    }
    panic!("it has not come in time");
}

pub(crate) struct Fixture {
    pub(crate) core: Arc<Core>,
    pub(crate) chardev: Arc<Chardev>,
    pub(crate) monitor: Option<Monitor>,
    pub(crate) at: SocketAddr,
    /// How often `touch` was executed.
    pub(crate) touched: Arc<AtomicUsize>,
    /// What `hold` waits for.
    pub(crate) gate: Arc<Semaphore>,
    /// Lines that the human monitor has executed.
    pub(crate) lines: Arc<Lines>,
}

#[derive(Default)]
pub(crate) struct Lines(pub(crate) Mutex<Vec<String>>);

struct Handle(Arc<Lines>);

impl Shell for Handle {
    fn banner(&self) -> String {
        "Lines here".into()
    }

    fn prompt(&self) -> &str {
        "? "
    }

    fn execute(&self, line: String, _: Context) -> Answer {
        self.0.0.lock().unwrap().push(line);
        Box::pin(std::future::ready("done\n".to_owned()))
    }

    fn complete(&self, _: &str, _: &Context) -> Vec<String> {
        Vec::new()
    }
}

pub(crate) async fn fixture(
    max_clients: usize,
    configure: impl FnOnce(MonitorConfig) -> MonitorConfig,
) -> Fixture {
    let touched = Arc::<AtomicUsize>::default();
    let gate = Arc::new(Semaphore::new(0));
    let (count, held) = (touched.clone(), gate.clone());
    let touch = Command::new("touch").handler(move |_: Context, (): ()| {
        count.fetch_add(1, Ordering::AcqRel);
        std::future::ready(Ok(()))
    });
    let hold = Command::new("hold").concurrent().handler(move |_: Context, (): ()| {
        let held = held.clone();
        async move {
            held.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let hub = EventHub::new([EventSpec::standard::<()>("STOP")]).unwrap();
    let router = Router::builder().command(qmp_capabilities()).commands(vec![touch, hold]).build().unwrap();
    let version = Version { major: 7, minor: 2, micro: 0, package: "test".into() };
    let core = Core::new(Arc::new(router), hub.clone(), &version, SessionLimits::default());
    tokio::spawn(async move { hub.run().await });
    let lines = Arc::<Lines>::default();
    assert!(core.set_shell(Arc::new(Handle(lines.clone()))));

    let address = Address::Tcp {
        host: "127.0.0.1".into(),
        port: 0,
        to: None,
        ipv4: None,
        ipv6: None,
        numeric: true,
        keep_alive: false,
    };
    let chardev = Chardev::open("c", Backend::Socket(SocketOptions::server(address)), 128).await;
    let chardev = Arc::new(chardev.unwrap());
    let at = chardev.local_addr().unwrap();
    let front_end = chardev.front_end(max_clients).unwrap();
    let monitor = Some(Monitor::start(core.clone(), &configure(MonitorConfig::new("m")), front_end));
    Fixture { core, chardev, monitor, at, touched, gate, lines }
}

/// A client.
pub(crate) struct Client(pub(crate) TcpStream);

impl Client {
    /// Connected from `127.0.0.N`.
    pub(crate) async fn from(host: u8, fixture: &Fixture) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::new(127, 0, 0, host), 0).into()).unwrap();
        Self(socket.connect(fixture.at).await.unwrap())
    }

    /// Likewise, and negotiated.
    pub(crate) async fn negotiated(host: u8, fixture: &Fixture) -> Self {
        let mut client = Self::from(host, fixture).await;
        client.until("\r\n").await;
        client.send("{\"execute\":\"qmp_capabilities\"}").await;
        assert_eq!(client.until("\r\n").await, "{\"return\": {}}\r\n");
        client
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until this has come.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let read = async {
            while !text.ends_with(end) {
                text.push(char::from(self.0.read_u8().await.expect("the session goes on")));
            }
        };
        patiently(read).await;
        text
    }

    /// Ends its side; it can still hear.
    pub(crate) async fn ends_its_side(&mut self) {
        self.0.shutdown().await.unwrap();
    }

    /// Everything until the end; what a reset loses is lost.
    pub(crate) async fn rest(mut self) -> String {
        let mut rest = Vec::new();
        let _ = patiently(self.0.read_to_end(&mut rest)).await;
        String::from_utf8_lossy(&rest).into_owned()
    }

    /// Whether it has been sent nothing.
    pub(crate) fn is_unheard(&self) -> bool {
        self.0.try_read(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
    }

    /// Whether its session answers.
    pub(crate) async fn is_served(&mut self) -> bool {
        self.send("{\"execute\":\"touch\"}").await;
        self.until("\r\n").await == "{\"return\": {}}\r\n"
    }
}

/// Lets everything happen that can without time going by.
pub(crate) async fn quiet() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}
