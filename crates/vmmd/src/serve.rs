//! From a [`Config`] to a running control plane, and to its end.
//!
//! [`start`] opens everything, in the order of the configuration; [`Running::serve`] waits for the end, which `quit`,
//! a signal or a reset with `-no-reboot` brings, and closes in order: SHUTDOWN has gone out, replies are written,
//! sockets removed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use vmm_control::chardev::{
    Address, Allowed, Backend, Chardev, FileOptions, LogOptions, OpenError, SocketOptions, inherited,
};
use vmm_control::{
    Budgets, BuildError, Builder, ControlPlane, MonitorConfig, MonitorError, NamedFdsScope, PatternError,
    Rules, ShutdownCause, fd_registry,
};

use crate::board::{Board, CreateError, serial};
use crate::cli;
use crate::config::{
    self, BudgetConfig, ChardevBackend, ChardevConfig, Config, LogFile, MonitorMode, SocketAddress,
    SocketConfig,
};
use crate::devices;
use crate::errno;
use crate::metrics;
use crate::qtest;
use crate::sandbox::{self, Role};
use crate::testing;
use crate::texts::{self, Stage};

/// Clients that a monitor takes at once when nobody says.
pub const MAX_CLIENTS: usize = 64;

/// Clients that may wait for a monitor that takes several at once.
const BACKLOG: u32 = 128;

/// Why `vmmd` did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The plane cannot be built.
    #[error(transparent)]
    Plane(#[from] BuildError),
    /// The machine cannot be made.
    #[error(transparent)]
    Machine(#[from] CreateError),
    /// A chardev cannot be opened.
    #[error("{origin}: {source}")]
    Chardev {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        source: OpenError,
    },
    /// A monitor cannot be added.
    #[error("{origin}: {source}")]
    Monitor {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        source: MonitorError,
    },
    /// The qtest server's log cannot be made, or its chardev has another user.
    #[error("{origin}: {reason}")]
    Qtest {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A serial port's chardev has another user.
    #[error("{origin}: {reason}")]
    Serial {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        reason: String,
    },
    /// A monitor's rules are none.
    #[error("{origin}: {source}")]
    Policy {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        source: PatternError,
    },
    /// An object or a device cannot be made.
    #[error("{origin}: {reason}")]
    Made {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        reason: String,
    },
    /// An inherited fd cannot be taken.
    #[error("{origin}: {reason}")]
    Fd {
        /// Where the configuration says so.
        origin: String,
        /// Why.
        reason: String,
    },
    /// Signals cannot be waited for.
    #[error("signals cannot be handled: {0}")]
    Signals(io::Error),
    /// A signal came before everything was open.
    #[error("terminated by a signal")]
    Interrupted,
}

/// A control plane whose monitors all listen.
#[derive(Debug)]
pub struct Running {
    plane: ControlPlane,
    board: Board,
    serial: Vec<serial::server::Server>,
    qtest: Option<qtest::Server>,
    metrics: Option<metrics::Server>,
    signals: Signals,
}

/// Opens everything that `config` names.
///
/// A socket with `wait` holds up all that comes after it, and all monitors, until a client has connected, as in QEMU.
/// A signal meanwhile undoes what was opened.
///
/// # Errors
/// The first thing that cannot be had, and where the configuration asked for it.
pub async fn start(config: &Config) -> Result<Running, StartError> {
    let mut signals = Signals::new().map_err(StartError::Signals)?;
    let board = Board::new(config);
    let recorder = config.metrics.as_ref().map(|_| metrics::Recorder::new());
    let plane = match &recorder {
        Some(recorder) => recorder.seen(|| plane(board.clone(), config))?,
        None => plane(board.clone(), config)?,
    };
    board.connect(plane.events(), plane.objects().clone());
    if !config.preconfig {
        board.create().await?;
    }
    add_fds(config, &plane)?;
    // What serves no chardev and no device is there before anybody can ask for it.
    texts::add_objects(&plane, &config.objects, Stage::First).await?;
    let rest = async {
        let opened = open_all(config, &plane).await?;
        let metrics = metrics::open(config, &plane).await?;
        // Before a monitor's client could take their chardevs away.
        let serial = serve_serial(config, &plane, &board)?;
        texts::add_devices(&plane, &config.devices).await?;
        texts::add_objects(&plane, &config.objects, Stage::WithDevices).await?;
        serve_monitors(config, &plane, opened)?;
        texts::add_objects(&plane, &config.objects, Stage::WithChardevs).await?;
        Ok::<_, StartError>((serial, metrics))
    };
    let opened = tokio::select! {
        opened = rest => Some(opened),
        () = signals.terminated() => None,
    };
    match opened {
        Some(Err(error)) => {
            // Monitors may be serving already, one of them on the terminal.
            plane.close().await;
            board.end();
            Err(error)
        }
        Some(Ok((serial, metrics))) => {
            if config.monitors.is_empty() {
                tracing::warn!("there is no monitor, so only a signal ends this process; see vmmd -help");
            }
            let qtest = config.qtest.as_ref().map(|it| serve_tests(it, &plane, &board)).transpose()?;
            let figures = recorder.map(|recorder| metrics::Figures::new(&recorder, plane.handle()));
            let metrics =
                metrics.zip(figures).map(|(socket, figures)| metrics::Server::start(socket, figures));
            Ok(Running { plane, board, serial, qtest, metrics, signals })
        }
        None => {
            plane.close().await;
            board.end();
            Err(StartError::Interrupted)
        }
    }
}

/// What is to be printed instead of running, if an object or a device asks for help.
///
/// # Errors
/// When there is no plane to ask.
pub async fn help(config: &Config) -> Result<Option<String>, StartError> {
    if config.objects.is_empty() && config.devices.is_empty() {
        return Ok(None);
    }
    let plane = plane(Board::new(&Config::default()), &Config::default())?;
    let said = texts::help(&plane, config).await;
    plane.close().await;
    said.map_err(|error| StartError::Made { origin: "help".to_owned(), reason: error.to_string() })
}

/// The plane that `config` asks for around `board`, without monitors and fds.
///
/// # Errors
/// When its commands and events do not go together, or there is no runtime.
pub(crate) fn plane(board: Board, config: &Config) -> Result<ControlPlane, BuildError> {
    let builder = devices::types().into_iter().fold(ControlPlane::builder(board), Builder::device_type);
    let builder =
        if config.test_commands { builder.command_with(testing::x_test_system_call) } else { builder };
    builder
        .no_reboot(config.no_reboot)
        .no_shutdown(config.no_shutdown)
        .auto_shutdown(config.machine.auto_shutdown)
        .preconfig(config.preconfig)
        .test_commands(config.test_commands)
        .start_paused(config.start_paused)
        .command_line_options(cli::command_line_options())
        .budgets(budgets(config.budget))
        .on_thread_start(|kind, _| sandbox::enter(Role::Library(kind)))
        .build()
}

fn budgets(config: BudgetConfig) -> Budgets {
    // More than there can be is no limit.
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let budgets = Budgets::default();
    let budgets = config.memory.map_or(budgets.clone(), |bytes| budgets.memory(count(bytes)));
    config.fds.map_or(budgets.clone(), |fds| budgets.fds(count(fds)))
}

impl Running {
    /// Serves until the end, and closes. Gives what brought it.
    pub async fn serve(mut self) -> ShutdownCause {
        let cause = tokio::select! {
            cause = self.plane.shutdown_requested() => cause,
            () = self.signals.terminated() => {
                self.plane.shut_down(ShutdownCause::HostSignal);
                self.plane.shutdown_requested().await
            }
        };
        tracing::info!(?cause, "shutting down");
        self.plane.close().await;
        drop(self.qtest);
        if let Some(metrics) = self.metrics {
            metrics.end().await;
        }
        for server in self.serial {
            server.end().await;
        }
        self.board.end();
        cause
    }
}

/// Connects the serial ports of `board` to their chardevs. On a machine without ports the chardevs have no user.
fn serve_serial(
    config: &Config,
    plane: &ControlPlane,
    board: &Board,
) -> Result<Vec<serial::server::Server>, StartError> {
    let serve = |(config, port): (&config::SerialConfig, &Arc<serial::port::SerialPort>)| {
        let fail = |reason: String| StartError::Serial { origin: config.origin.clone(), reason };
        let chardev = plane.chardevs().get(&config.chardev);
        let chardev = chardev.ok_or_else(|| fail(format!("chardev \"{}\" not found", config.chardev)))?;
        let front_end = chardev.front_end(1).map_err(|error| fail(error.to_string()))?;
        Ok(serial::server::Server::start(front_end, port.clone()))
    };
    config.serials.iter().zip(board.serial_ports()).map(serve).collect()
}

/// Lets a test program drive `board` over its chardev.
fn serve_tests(
    config: &config::QtestConfig,
    plane: &ControlPlane,
    board: &Board,
) -> Result<qtest::Server, StartError> {
    let fail = |reason: String| StartError::Qtest { origin: config.origin.clone(), reason };
    let chardev = plane.chardevs().get(&config.chardev);
    let front_end =
        chardev.ok_or_else(|| fail(format!("chardev \"{}\" not found", config.chardev)))?.front_end(1);
    let front_end = front_end.map_err(|error| fail(error.to_string()))?;
    let log = qtest::Log::open(&config.log)
        .map_err(|error| fail(format!("the log cannot be written: {}", errno::text(&error))))?;
    Ok(qtest::Server::start(front_end, board.clone(), log))
}

/// Fills fd sets with inherited fds. One that is named several times goes into each set as a duplicate.
fn add_fds(config: &Config, plane: &ControlPlane) -> Result<(), StartError> {
    let mut taken: BTreeMap<i32, OwnedFd> = BTreeMap::new();
    for add in &config.add_fds {
        let fail = |reason: String| StartError::Fd { origin: add.origin.clone(), reason };
        let number = add.fd;
        let duplicate = match taken.get(&number) {
            Some(fd) => fd.try_clone(),
            None => inherited::take(number).and_then(|fd| {
                let duplicate = fd.try_clone();
                taken.insert(number, fd);
                duplicate
            }),
        };
        let duplicate =
            duplicate.map_err(|e| fail(format!("fd {number} cannot be used: {}", errno::text(&e))))?;
        let added: Result<_, fd_registry::Error> =
            plane.fd_sets().add(Some(add.set), add.opaque.clone(), duplicate);
        added.map_err(|e| fail(e.to_string()))?;
    }
    Ok(())
}

/// A chardev that is open, and its monitor.
struct Opened<'a> {
    monitor: &'a config::MonitorConfig,
    chardev: Arc<Chardev>,
    max_clients: usize,
}

/// Opens all chardevs, and gives those that have monitors.
async fn open_all<'a>(config: &'a Config, plane: &ControlPlane) -> Result<Vec<Opened<'a>>, StartError> {
    let mut all = Vec::with_capacity(config.monitors.len());
    for chardev in &config.chardevs {
        let monitor = config.monitors.iter().find(|monitor| monitor.chardev == chardev.id);
        let serial = config.serials.iter().any(|serial| serial.chardev == chardev.id);
        let said = monitor.map_or(chardev.max_clients, |m| config.max_clients(m));
        let max_clients = said.unwrap_or(if serial { 1 } else { MAX_CLIENTS });
        let opened = open(chardev, max_clients, plane).await?;
        plane
            .chardevs()
            .insert(opened.clone())
            .map_err(|error| StartError::Monitor { origin: chardev.origin.clone(), source: error.into() })?;
        all.extend(monitor.map(|monitor| Opened { monitor, chardev: opened, max_clients }));
    }
    Ok(all)
}

/// Serves monitors once everything else is there: as in QEMU, no client finds less than it will ever find.
fn serve_monitors(config: &Config, plane: &ControlPlane, opened: Vec<Opened<'_>>) -> Result<(), StartError> {
    for Opened { monitor, chardev, max_clients } in opened {
        let filename = chardev.filename();
        let place = filename.strip_prefix("disconnected:").unwrap_or(&filename);
        let what = match monitor.mode {
            MonitorMode::Control => "QMP",
            MonitorMode::Readline => "a monitor for people",
        };
        tracing::info!(monitor = monitor.id, "serving {what} on {place}");
        plane
            .add_monitor(monitor_config(config, monitor)?, &chardev, max_clients)
            .map_err(|source| StartError::Monitor { origin: monitor.origin.clone(), source })?;
    }
    Ok(())
}

fn monitor_config(config: &Config, monitor: &config::MonitorConfig) -> Result<MonitorConfig, StartError> {
    let scope = match config.named_fds(monitor) {
        Some(config::NamedFdsScope::Monitor) => NamedFdsScope::Monitor,
        Some(config::NamedFdsScope::Session) | None => NamedFdsScope::Session,
    };
    let limits = &monitor.limits;
    // Patterns were checked when they were read.
    let allow = |rules: Rules| match &limits.allow {
        Some(allow) => rules.allow(allow),
        None => Ok(rules),
    };
    let rules = Rules::new()
        .read_only(limits.read_only)
        .own_fd_sets(limits.fdsets == config::FdSetsScope::Own)
        .deny(&limits.deny)
        .and_then(allow)
        .map_err(|error| StartError::Policy { origin: monitor.origin.clone(), source: error })?;
    let made = MonitorConfig::new(&monitor.id)
        .pretty(monitor.pretty)
        .named_fds(scope)
        .allowed_uids(limits.allowed_uids.clone())
        .allowed_gids(limits.allowed_gids.clone())
        .strict(!limits.lax)
        .policy(rules.into());
    Ok(match monitor.mode {
        MonitorMode::Control => made,
        MonitorMode::Readline => made.readline(true),
    })
}

/// Opens a chardev of this plane's program. It is on no list yet.
pub(crate) async fn open(
    chardev: &ChardevConfig,
    max_clients: usize,
    plane: &ControlPlane,
) -> Result<Arc<Chardev>, StartError> {
    let fail = |source| StartError::Chardev { origin: chardev.origin.clone(), source };
    let backend = match &chardev.backend {
        ChardevBackend::Null => Backend::Null,
        ChardevBackend::Stdio => Backend::Stdio,
        ChardevBackend::Socket(socket) => Backend::Socket(socket_options(&chardev.origin, socket)?),
        ChardevBackend::File { path, append } => {
            Backend::File(FileOptions { path: path.clone(), input: None, append: *append })
        }
        ChardevBackend::Pipe(path) => Backend::Pipe(path.clone()),
    };
    // QEMU's queue for one client at a time; a longer one where several are served.
    let backlog = if max_clients == 1 { 1 } else { BACKLOG };
    let log = chardev.log.clone().map(|LogFile { path, append }| LogOptions { path, append });
    let options = plane.handle().open_options(backlog).log(log);
    Chardev::open_with(&chardev.id, backend, options).await.map(Arc::new).map_err(fail)
}

fn socket_options(origin: &str, socket: &SocketConfig) -> Result<SocketOptions, StartError> {
    let address = match &socket.address {
        SocketAddress::Unix { path, abstract_name, tight } => {
            Address::Unix { path: path.clone(), abstract_name: *abstract_name, tight: *tight }
        }
        SocketAddress::Tcp { host, port, ipv4, ipv6 } => {
            let (host, port, ipv4, ipv6) = (host.clone(), *port, *ipv4, *ipv6);
            Address::Tcp { host, port, to: None, ipv4, ipv6, numeric: false, keep_alive: false }
        }
        SocketAddress::Fd(number) => {
            let fd = inherited::take(*number).map_err(|e| StartError::Fd {
                origin: origin.to_owned(),
                reason: format!(
                    "fd {number} was not inherited by this process, or is used already: {}",
                    errno::text(&e)
                ),
            })?;
            Address::Fd { fd, name: number.to_string() }
        }
    };
    let &SocketConfig { server, wait, reconnect, insecure, .. } = socket;
    let allowed = Allowed::new(socket.allowed_uids.clone(), socket.allowed_gids.clone());
    Ok(SocketOptions { address, server, wait, reconnect, allowed, insecure })
}

/// The signals that end the process.
#[derive(Debug)]
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// A write above the limit of file sizes (`RLIMIT_FSIZE`) is to fail, and not to end the process. Nobody waits for it.
    _file_size: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            _file_size: signal(SignalKind::from_raw(libc::SIGXFSZ))?,
        })
    }

    /// Waits for one of them. Cancel-safe.
    async fn terminated(&mut self) {
        let name = tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.hangup.recv() => "SIGHUP",
        };
        tracing::info!("terminating on {name}");
    }
}
