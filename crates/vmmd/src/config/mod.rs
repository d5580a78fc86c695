//! What a `vmmd` is told to be, whoever told it: command line, TOML file, or both.
//!
//! [`crate::cli::parse`] makes a [`Config`]; [`toml::load`] is its reader for files; `main` builds the process
//! from it. Both go through one [`Draft`], so a rule (an address is exactly one of path, host and fd; a chardev
//! serves one monitor) is checked once, in [`Draft::finish`], and says the same everywhere.
//!
//! Invariants of a `Config`: every monitor's chardev exists and is that monitor's alone; ids are unique per kind;
//! at most one chardev is on stdio, none with `daemonize`; a monitor and its chardev do not contradict each other.
//! What only the operating system can tell (does the fd exist, can the path be bound) is not checked here.

mod chardev;
mod draft;
mod machine;
mod metrics;
mod monitor;
pub mod toml;

use std::path::PathBuf;

pub use chardev::{ChardevBackend, ChardevConfig, ChardevSpec, LogFile, SocketAddress, SocketConfig};
pub use draft::Draft;
pub use machine::{MemorySize, RtcBase, RtcClock, RtcConfig, Smp, SmpSpec, parse_size, parse_uuid};
pub use metrics::MetricsSpec;
pub use monitor::{
    AddFdConfig, AddFdSpec, FdSetsScope, MonitorConfig, MonitorLimits, MonitorMode, MonitorSpec,
    NamedFdsScope,
};

use serde::Deserialize;

use crate::texts;

/// Everything that a `vmmd` is told at its start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// The guest's name, as `query-name` tells it. `None`: it has none.
    pub name: Option<String>,
    /// The name that the process is to show in `ps`.
    pub process_name: Option<String>,
    /// The machine.
    pub machine: MachineConfig,
    /// Do not start the virtual CPUs: wait for `cont`.
    pub start_paused: bool,
    /// The character devices, in the order given.
    pub chardevs: Vec<ChardevConfig>,
    /// The monitors, in the order given.
    pub monitors: Vec<MonitorConfig>,
    /// A server for QEMU's test programs.
    pub qtest: Option<QtestConfig>,
    /// The serial ports, in the order given, 4 at most. `-machine none` has none of them, only their chardevs.
    pub serials: Vec<SerialConfig>,
    /// Objects to be made, in the order given.
    pub objects: Vec<TextConfig>,
    /// Devices to be plugged, in the order given.
    pub devices: Vec<TextConfig>,
    /// Inherited fds that fill fd sets.
    pub add_fds: Vec<AddFdConfig>,
    /// Where metrics are served: a listening unix socket, on no list of chardevs.
    pub metrics: Option<ChardevConfig>,
    /// Where to write the process's id.
    pub pidfile: Option<PathBuf>,
    /// Go into the background once everything listens.
    pub daemonize: bool,
    /// The machine is made by `x-exit-preconfig`; until then only commands that allow it can be used.
    pub preconfig: bool,
    /// Stay, stopped, when the guest shuts down.
    pub no_shutdown: bool,
    /// Exit instead of resetting the guest.
    pub no_reboot: bool,
    /// There are commands for tests of monitors.
    pub test_commands: bool,
    /// Put a time before each log line in text form.
    pub msg_timestamp: bool,
    /// What is logged, and how.
    pub log: LogConfig,
    /// What all clients' sessions together may make the program hold.
    pub budget: BudgetConfig,
    /// Which system calls it may make.
    pub sandbox: SandboxConfig,
}

/// An object or a device as the command line has it: what it may say depends on its type, which only the plane knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextConfig {
    /// Where it was given: the option, or `file:line:column`. To be put before errors about it.
    pub origin: String,
    /// `TYPE,id=ID,key=value...`, or JSON.
    pub text: String,
}

impl Config {
    /// The chardev of `monitor`. Always `Some` for a monitor of this configuration.
    #[must_use]
    pub fn chardev_of(&self, monitor: &MonitorConfig) -> Option<&ChardevConfig> {
        self.chardevs.iter().find(|chardev| chardev.id == monitor.chardev)
    }

    /// How many clients `monitor` takes at once, said by it or its chardev. `None`: nobody said.
    #[must_use]
    pub fn max_clients(&self, monitor: &MonitorConfig) -> Option<usize> {
        monitor.max_clients.or_else(|| self.chardev_of(monitor)?.max_clients)
    }

    /// Who owns the named fds of `monitor`, said by it or its chardev. `None`: nobody said.
    #[must_use]
    pub fn named_fds(&self, monitor: &MonitorConfig) -> Option<NamedFdsScope> {
        monitor.named_fds.or_else(|| self.chardev_of(monitor)?.named_fds)
    }

    /// Whether any path in here is relative. A daemon with such paths stays in its directory, so that it finds its
    /// own sockets again when it removes them.
    #[must_use]
    pub fn has_relative_paths(&self) -> bool {
        self.chardevs.iter().chain(&self.metrics).any(|chardev| match &chardev.backend {
            ChardevBackend::Socket(SocketConfig {
                address: SocketAddress::Unix { path, abstract_name: false, .. },
                ..
            }) => path.is_relative(),
            _ => false,
        }) || self.objects.iter().any(texts::has_relative_path)
    }
}

/// The machine to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MachineConfig {
    /// Which one.
    pub kind: MachineKind,
    /// It shuts down when the last exported device has gone.
    pub auto_shutdown: bool,
    /// The accelerators to try, in this order, all of them names that QEMU has. `vmmd` runs no guest code on any of
    /// them: they are kept for whoever asks. Empty: nobody said.
    pub accel: Vec<String>,
    /// The virtual CPUs. `-machine none` has none, whatever this says.
    pub smp: Smp,
    /// The guest's memory.
    pub memory: MemorySize,
    /// The guest's UUID. All zeros: it has none.
    pub uuid: [u8; 16],
    /// The real-time clock.
    pub rtc: RtcConfig,
}

/// A serial port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SerialConfig {
    /// Its chardev's id.
    pub chardev: String,
    /// Where it was given.
    pub origin: String,
}

/// The server for QEMU's test programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QtestConfig {
    /// Its chardev's id.
    pub chardev: String,
    /// Where it was given.
    pub origin: String,
    /// Where it notes what is said.
    pub log: QtestLog,
}

/// Where a qtest server notes what is said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum QtestLog {
    /// To stderr.
    #[default]
    Stderr,
    /// Nowhere.
    None,
    /// To this file, anew.
    File(PathBuf),
}

/// The machines that there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MachineKind {
    /// No machine at all, as QEMU's `none`: nothing but monitors and objects.
    None,
    /// The reference board.
    #[default]
    Board,
}

impl MachineKind {
    /// The names, in the order in which help lists them.
    pub const WORDS: &'static [&'static str] = &["board", "none"];

    /// The machine called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "board" => Some(Self::Board),
            "none" => Some(Self::None),
            _ => None,
        }
    }

    /// How many virtual CPUs it can have.
    #[must_use]
    pub fn max_cpus(self) -> u32 {
        match self {
            Self::Board => 255,
            Self::None => 1,
        }
    }

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Board => "board",
            Self::None => "none",
        }
    }
}

/// What all clients' sessions together may make the program hold. `None`: the library's own limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// File descriptors.
    pub fds: Option<u64>,
}

/// Whether the process confines itself to the system calls that it needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SandboxConfig {
    /// It does: another call ends it.
    pub enable: bool,
    /// With `enable`: another call is made, and the kernel logs it.
    pub log: bool,
}

/// What is logged, and how. Logs go to stderr.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogConfig {
    /// How a line looks.
    pub format: LogFormat,
    /// Which lines there are, in the notation of `RUST_LOG`, which goes before this. `None`: `info`.
    pub filter: Option<String>,
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line, always with a time.
    Json,
}

impl LogFormat {
    /// The names.
    pub const WORDS: &'static [&'static str] = &["text", "json"];

    /// The format called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The accelerators that QEMU 7.2 knows by name, on any host.
pub const ACCELERATORS: &[&str] = &["kvm", "tcg", "qtest", "hvf", "hax", "nvmm", "whpx", "xen"];
