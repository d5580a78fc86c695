//! A `vmmd` of a test's own, with QMP monitors on sockets in a directory that nobody else knows.
//!
//! The program is `$VMMD_BIN` if that is set, else the `vmmd` that cargo put beside the test. Its command line is one
//! that QEMU takes as well: with `VMMD_BIN=/usr/bin/qemu-system-x86_64` the tests show what QEMU does.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::client::Client;
use crate::process::Process;
use crate::wire::is_listening;
use crate::{LIMIT, poll_until};

/// The program to test.
///
/// # Panics
/// When it has not been built; says how to.
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("VMMD_BIN") {
        return PathBuf::from(program);
    }
    let here = std::env::current_exe().unwrap_or_default();
    let found = here.ancestors().map(|dir| dir.join("vmmd")).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("vmmd is not built: run `cargo build -p vmmd` (or set VMMD_BIN)"))
}

/// Whether the program to test is QEMU, which serves one client per monitor and has ways of its own.
pub fn is_qemu() -> bool {
    program().file_name().is_some_and(|name| name.to_string_lossy().starts_with("qemu"))
}

/// How to start a [`Vmm`].
#[derive(Debug, Clone, Copy)]
pub struct Setup<'a> {
    /// How many QMP monitors, each on a socket of its own.
    pub monitors: usize,
    /// Appended to each monitor's socket, such as `max-clients=1`.
    pub options: &'a str,
    /// Further arguments.
    pub extra: &'a [&'a str],
    /// Put in front of the program: what changes its surroundings and then becomes it, such as `env NAME=VALUE`.
    pub under: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self { monitors: 1, options: "", extra: &[], under: &[] }
    }
}

/// A running `vmmd`; it and its directory are gone when this is dropped.
#[derive(Debug)]
pub struct Vmm {
    process: Process,
    dir: TempDir,
}

impl Vmm {
    /// With one monitor, running, without a machine.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn start() -> Self {
        Self::with(Setup::default())
    }

    /// With `monitors` monitors.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn with_monitors(monitors: usize) -> Self {
        Self::with(Setup { monitors, ..Setup::default() })
    }

    /// As `setup` says.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn with(setup: Setup<'_>) -> Self {
        Self::with_dir(setup, tempfile::tempdir().unwrap_or_else(|e| panic!("no directory: {e}")))
    }

    /// As `setup` says, in this directory.
    ///
    /// # Panics
    /// When it does not start.
    #[track_caller]
    pub fn with_dir(setup: Setup<'_>, dir: TempDir) -> Self {
        let mut argv: Vec<String> = setup.under.iter().map(|&word| word.to_owned()).collect();
        argv.push(program().to_string_lossy().into_owned());
        argv.extend(["-nodefaults", "-display", "none", "-machine", "none"].map(str::to_owned));
        for monitor in 0..setup.monitors {
            let comma = if setup.options.is_empty() { "" } else { "," };
            let socket = socket_path(dir.path(), monitor);
            argv.push("-qmp".to_owned());
            argv.push(format!("unix:{},server=on,wait=off{comma}{}", socket.display(), setup.options));
        }
        argv.extend(setup.extra.iter().map(|&word| word.to_owned()));
        let process = Process::spawn(&argv, dir.path()).unwrap_or_else(|e| panic!("{e}"));
        let mut vmm = Self { process, dir };
        vmm.await_sockets(setup.monitors, &argv);
        vmm
    }

    /// Waits until it listens on every socket. Not by connecting: that would make a client.
    #[track_caller]
    fn await_sockets(&mut self, monitors: usize, argv: &[String]) {
        let start = Instant::now();
        while !(0..monitors).all(|monitor| is_listening(&self.socket(monitor))) {
            let running = self.process.is_running();
            if !running || start.elapsed() > LIMIT {
                let what = if running { "does not listen" } else { "ended at its start" };
                panic!("{} {what}: {}", argv.join(" "), self.process.stderr());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The process, to watch it or to send it signals.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The process, to look at.
    pub fn observe(&self) -> &Process {
        &self.process
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The socket of the monitor with this number, from 0.
    pub fn socket(&self, monitor: usize) -> PathBuf {
        socket_path(self.dir.path(), monitor)
    }

    /// A client of this monitor that has negotiated.
    ///
    /// # Panics
    /// When the server does not go along.
    #[track_caller]
    pub fn client(&self, monitor: usize) -> Client {
        let mut client = self.stranger(monitor);
        client.negotiate();
        client
    }

    /// A client of this monitor that has said nothing yet.
    ///
    /// # Panics
    /// When the server does not listen.
    #[track_caller]
    pub fn stranger(&self, monitor: usize) -> Client {
        Client::connect(&self.socket(monitor)).unwrap_or_else(|e| panic!("monitor {monitor}: {e}"))
    }

    /// How many descriptors it has open.
    pub fn fd_count(&self) -> usize {
        self.process.fd_count()
    }

    /// Waits until it has exactly `count` descriptors open.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn await_fd_count(&self, count: usize) {
        let came = poll_until(LIMIT, || self.fd_count() == count);
        assert!(came, "{} descriptors are open, not {count}", self.fd_count());
    }

    /// Waits for its end and returns the exit code.
    ///
    /// # Panics
    /// When it does not end, or dies of a signal.
    #[track_caller]
    pub fn exit_code(&mut self) -> i32 {
        let status = self.process.wait_exit(LIMIT).unwrap_or_else(|| panic!("it is still running"));
        status.code().unwrap_or_else(|| panic!("{status}"))
    }
}

fn socket_path(dir: &Path, monitor: usize) -> PathBuf {
    dir.join(format!("qmp{monitor}.sock"))
}
