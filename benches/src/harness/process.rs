//! The servers under measurement: how each is started, and one that runs.
//!
//! Every measurement gets a process of its own, so that none inherits another's buffers, backlog or fds. It is ended
//! by its pid, and its sockets go with its temporary directory.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tempfile::TempDir;

use super::{Doing, Error, PATIENCE, Result};

/// How to start a server.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What the table calls it.
    pub name: String,
    /// Program and arguments, with `{args}`, `{socks}` and `{sock}` to be filled in.
    pub words: Vec<String>,
}

/// A server that was started. Dropping it ends the process.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    log: PathBuf,
    sockets: Vec<PathBuf>,
    _dir: TempDir,
}

impl Spec {
    /// Splits a command template at blanks (there is no quoting).
    ///
    /// * `{args}`, a word of its own, becomes `-qmp unix:PATH,server=on,wait=off` per monitor, as QEMU takes it;
    /// * `{socks}`, a word of its own, becomes the monitors' socket paths, a word each;
    /// * `{sock}`, anywhere, becomes the path of the only monitor.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when none of them is there.
    pub fn parse(name: &str, command: &str) -> Result<Self> {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        let spec = Self { name: name.to_owned(), words };
        if !spec.takes_many_monitors() && !command.contains("{sock}") {
            return Err(Error::Usage(format!("the command of server {name:?} has no {{args}} or {{sock}}")));
        }
        Ok(spec)
    }

    pub(crate) fn takes_many_monitors(&self) -> bool {
        self.words.iter().any(|word| word == "{args}" || word == "{socks}")
    }

    fn command(&self, sockets: &[PathBuf]) -> Vec<String> {
        let paths = || sockets.iter().map(|path| path.display().to_string());
        let mut command = Vec::with_capacity(self.words.len() + 2 * sockets.len());
        for word in &self.words {
            match word.as_str() {
                "{socks}" => command.extend(paths()),
                "{args}" => {
                    let options = paths().map(|path| format!("unix:{path},server=on,wait=off"));
                    command.extend(options.flat_map(|option| ["-qmp".to_owned(), option]));
                }
                _ => command.push(word.replace("{sock}", &paths().next().unwrap_or_default())),
            }
        }
        command
    }

    /// Starts a process with that many monitors and waits until each has its socket.
    ///
    /// # Errors
    ///
    /// [`Error::Server`] with the end of its standard error when it ends, or has no sockets in time.
    pub fn start(&self, monitors: usize, placement: Placement) -> Result<Running> {
        let dir = tempfile::Builder::new().prefix("bench-").tempdir().doing("making a directory")?;
        let sockets: Vec<_> = (0..monitors).map(|index| dir.path().join(format!("{index}.sock"))).collect();
        let log = dir.path().join("log");
        let output = File::create(&log).doing("making a log file")?;
        let command = self.command(&sockets);
        let mut server = Command::new(&command[0]);
        server.args(&command[1..]).stdin(Stdio::null());
        server.stdout(output.try_clone().doing("making a log file")?).stderr(output);
        // A child starts where its parent is.
        placement.enter_server()?;
        let child = server.spawn();
        placement.enter_client()?;
        let child =
            child.map_err(|error| Error::Server { name: self.name.clone(), why: error.to_string() })?;
        let mut running = Running { name: self.name.clone(), child, log, sockets, _dir: dir };
        running.wait_for_sockets()?;
        Ok(running)
    }
}

impl Running {
    /// The monitors' sockets.
    #[must_use]
    pub fn sockets(&self) -> &[PathBuf] {
        &self.sockets
    }

    /// The process's resident set in bytes, exact where the kernel has `smaps_rollup` (`VmRSS` in `status` is kept
    /// per CPU and may be some hundred kilobytes off).
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub fn resident_bytes(&self) -> Result<f64> {
        let proc = Path::new("/proc").join(self.child.id().to_string());
        let text = std::fs::read_to_string(proc.join("smaps_rollup"))
            .or_else(|_| std::fs::read_to_string(proc.join("status")))
            .doing("reading a process's memory")?;
        resident_in(&text).ok_or_else(|| Error::Answer("no resident set in /proc".into()))
    }

    /// Adds to an error that the process has ended, and what it said, when that is so.
    ///
    /// # Errors
    ///
    /// The one given, or [`Error::Server`].
    pub fn explain<T>(&self, result: Result<T>) -> Result<T> {
        let Err(error) = result else { return result };
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(3).collect();
        if last.is_empty() {
            return Err(error);
        }
        let said: Vec<&str> = last.into_iter().rev().collect();
        Err(Error::Server { name: self.name.clone(), why: format!("{error}; it said: {}", said.join(" | ")) })
    }

    fn wait_for_sockets(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.sockets.iter().all(|path| path.exists()) {
            let ended = self.child.try_wait().doing("waiting for a server")?;
            let why = match ended {
                Some(status) => status.to_string(),
                None if Instant::now() >= deadline => "it made no sockets in time".to_owned(),
                None => {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
            };
            return self.explain(Err(Error::Server { name: self.name.clone(), why }));
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Raises the soft limit of open files to the hard one; children inherit it. Gives the limit reached.
///
/// # Errors
///
/// When the system refuses.
pub fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).doing("raising a limit")?;
    Ok(limit.maximum.unwrap_or(u64::MAX))
}

/// Where client and servers run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Placement {
    /// Wherever the kernel puts them.
    #[default]
    Free,
    /// The client on the first CPU, the servers on the last.
    Apart,
    /// All on the first CPU.
    Together,
}

impl Placement {
    /// Binds the calling thread, and what it starts from now on, to the client's CPU.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn enter_client(self) -> Result<()> {
        match self {
            Self::Free => Ok(()),
            Self::Apart | Self::Together => pin_to(Place::First),
        }
    }

    /// As [`enter_client`](Self::enter_client), to the servers' CPU.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn enter_server(self) -> Result<()> {
        match self {
            Self::Free => Ok(()),
            Self::Apart => pin_to(Place::Last),
            Self::Together => pin_to(Place::First),
        }
    }

    /// What the report says about it.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Free => {
                "Placed by the kernel, which may put client and server on one CPU (wake-ups of a few us) or on two \
                 (tens of us): compare with --pin or --pin-together."
            }
            Self::Apart => "Client and servers pinned to a CPU each.",
            Self::Together => "Client and servers pinned to the same CPU.",
        }
    }
}

/// A CPU among those that this process may use.
#[derive(Debug, Clone, Copy)]
pub enum Place {
    /// Where a pinned load client runs.
    First,
    /// Where servers run that are pinned apart from it.
    Last,
}

/// Binds the calling thread, and what it starts from now on, to one CPU. The CPUs are those of the process when it
/// was started.
///
/// # Errors
///
/// When the system refuses.
pub fn pin_to(place: Place) -> Result<()> {
    static CPUS: std::sync::OnceLock<Vec<usize>> = std::sync::OnceLock::new();
    let cpus = CPUS.get_or_init(|| {
        let set = sched_getaffinity(None).unwrap_or_default();
        (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect()
    });
    let cpu = match place {
        Place::First => cpus.first(),
        Place::Last => cpus.last(),
    };
    let mut set = CpuSet::new();
    set.set(cpu.copied().unwrap_or_default());
    sched_setaffinity(None, &set).doing("pinning to a CPU")
}

/// Says on standard error what a user must not miss.
pub fn loudly(program: &str, text: &str) {
    // Nothing can be done when standard error is gone.
    let _ = writeln!(std::io::stderr(), "{program}: *** {text} ***");
}

/// `Rss:` of `smaps_rollup`, `VmRSS:` of `status`; both in kB, which are 1,024 bytes.
fn resident_in(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Rss:").or(line.strip_prefix("VmRSS:")))?;
    let kilobytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled_in() {
        let sockets = [PathBuf::from("/a"), PathBuf::from("/b")];
        let filled = |command| Spec::parse("x", command).unwrap().command(&sockets).join(" ");
        assert_eq!(
            filled("q -S {args} -x"),
            "q -S -qmp unix:/a,server=on,wait=off -qmp unix:/b,server=on,wait=off -x"
        );
        assert_eq!(filled("f {socks}"), "f /a /b");
        assert_eq!(filled("f --unix={sock}"), "f --unix=/a");
        assert!(matches!(Spec::parse("x", "f"), Err(Error::Usage(_))));
    }

    #[test]
    fn resident_sets_are_found() {
        assert_eq!(resident_in("00-ff ---p 0 00:00 0 [rollup]\nRss:      4 kB\nPss: 1 kB\n"), Some(4096.0));
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    12 kB\n"), Some(12288.0));
        assert_eq!(resident_in(""), None);
    }
}
