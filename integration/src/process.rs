//! A child process under test: started with its output kept, watched through `/proc`, and gone when dropped.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// A running child; killed and reaped on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    pidfd: OwnedFd,
    stderr: PathBuf,
}

impl Process {
    /// Starts `argv` with nothing on its standard input, its standard output dropped and its standard error kept in
    /// the file `stderr` inside `dir`.
    ///
    /// # Errors
    /// When the program is not there or cannot be run, or `dir` cannot be written.
    pub fn spawn<S: AsRef<OsStr>>(argv: &[S], dir: &Path) -> io::Result<Self> {
        let (program, args) = argv.split_first().ok_or_else(|| io::Error::other("an empty command line"))?;
        let stderr = dir.join("stderr");
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr)?)
            .spawn()
            .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.as_ref().display())))?;
        match pidfd(child.id()) {
            Ok(pidfd) => Ok(Self { child, pidfd, stderr }),
            Err(e) => {
                child.kill()?;
                child.wait()?;
                Err(e)
            }
        }
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Waits for the end, at most `limit`. `None` when it is still running then.
    pub fn wait_exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_pidfd(&self.pidfd, limit).then(|| self.child.wait().ok()).flatten()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        Ok(pidfd_send_signal(&self.pidfd, signal)?)
    }

    /// How many file descriptors it has open; 0 when it is gone.
    pub fn fd_count(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// Its resident memory in KiB; 0 when it is gone.
    pub fn rss_kib(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    /// How many threads it has; 0 when it is gone.
    pub fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// What it has written to its standard error so far.
    pub fn stderr(&self) -> String {
        fs::read(&self.stderr).map(|text| String::from_utf8_lossy(&text).into_owned()).unwrap_or_default()
    }

    fn status_number(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has been reaped already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that is not our child, such as what `-daemonize` leaves running; killed on drop.
#[derive(Debug)]
pub struct Stranger {
    pidfd: OwnedFd,
}

impl Stranger {
    /// Takes hold of the process with this id.
    ///
    /// # Errors
    /// When there is none.
    pub fn attach(pid: u32) -> io::Result<Self> {
        Ok(Self { pidfd: pidfd(pid)? })
    }

    /// Starts `argv` with `-daemonize` and a pid file `pid` in `dir`, waits until the foreground is free, and takes hold
    /// of what runs on in the background.
    ///
    /// # Errors
    /// When it cannot be started, or fails; says with what words.
    pub fn daemonize<S: AsRef<OsStr>>(argv: &[S], dir: &Path) -> io::Result<Self> {
        let pidfile = dir.join("pid");
        let more = [OsStr::new("-pidfile"), pidfile.as_os_str(), OsStr::new("-daemonize")];
        let argv: Vec<&OsStr> = argv.iter().map(AsRef::as_ref).chain(more).collect();
        let mut foreground = Process::spawn(&argv, dir)?;
        let status = foreground.wait_exit(crate::LIMIT).ok_or(io::ErrorKind::TimedOut)?;
        let written = fs::read_to_string(&pidfile).unwrap_or_default();
        // Take hold first, so that it does not outlive a failure.
        let daemon = written
            .trim_end()
            .parse()
            .map_err(|_| io::Error::other(format!("the pid file holds {written:?}")));
        let daemon = daemon.and_then(Self::attach);
        if status.success() {
            daemon
        } else {
            Err(io::Error::other(format!("{status}: {}", foreground.stderr())))
        }
    }

    /// Waits for its end, at most `limit`; whether it came.
    pub fn wait_exit(&self, limit: Duration) -> bool {
        wait_pidfd(&self.pidfd, limit)
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        // Fails only when it has ended.
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

fn pidfd(pid: u32) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn wait_pidfd(pidfd: &OwnedFd, limit: Duration) -> bool {
    let Ok(timeout) = Timespec::try_from(limit) else { return false };
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_status_and_stderr_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(&["sh", "-c", "echo lost >&2; exit 3"], dir.path()).unwrap();
        let status = process.wait_exit(crate::LIMIT).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(process.stderr(), "lost\n");
        assert!(!process.is_running());
    }

    #[test]
    fn a_running_process_is_seen_and_killed_on_drop() {
        let dir = tempfile::tempdir().unwrap();
        let mut process = Process::spawn(&["sleep", "600"], dir.path()).unwrap();
        assert!(process.is_running());
        assert!(process.fd_count() >= 3);
        assert_eq!(process.threads(), 1);
        assert_eq!(process.wait_exit(Duration::from_millis(1)), None);
        let stranger = Stranger::attach(process.pid()).unwrap();
        drop(process);
        assert!(stranger.wait_exit(crate::LIMIT));
    }

    #[test]
    fn a_missing_program_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = Process::spawn(&["/no/such/program"], dir.path()).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
