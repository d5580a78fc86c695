//! A machine under test in the manner of QEMU's own test programs: it is started with `-qtest`, connects back, and lets
//! its I/O ports and its clock be poked, one line a request.
//!
//! Any QEMU does this as well, which makes it the way to compare hardware.

use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tempfile::TempDir;

use crate::LIMIT;
use crate::client::Client;
use crate::process::Process;

/// A machine, the line to it, and its QMP monitor. All is gone when this is dropped.
#[derive(Debug)]
pub struct TestDriven {
    process: Process,
    line: BufReader<UnixStream>,
    qmp: Client,
    _dir: TempDir,
}

impl TestDriven {
    /// Starts `program` with the options that QEMU's harness gives, and `options`, which end in `-accel qtest` if a test is
    /// to move the guest's clock. The QMP monitor has not greeted yet.
    ///
    /// # Panics
    /// When it does not start and connect.
    #[track_caller]
    pub fn start(program: &str, options: &[&str]) -> Self {
        Self::try_start(program, options).unwrap_or_else(|e| panic!("{program} {options:?}: {e}"))
    }

    /// As [`start`](Self::start).
    ///
    /// # Errors
    /// When it does not start and connect; says with what words it ended.
    pub fn try_start(program: &str, options: &[&str]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let (line, qmp) = (dir.path().join("qtest.sock"), dir.path().join("qtest.qmp"));
        let listeners = (UnixListener::bind(&line)?, UnixListener::bind(&qmp)?);
        let line = format!("unix:{}", line.display());
        let qmp = format!("socket,path={},id=char0", qmp.display());
        let before = [program, "-qtest", &line, "-qtest-log", "/dev/null", "-chardev", &qmp];
        let after = ["-mon", "chardev=char0,mode=control", "-display", "none"];
        let argv: Vec<&str> = [&before[..], &after, options].concat();
        let mut process = Process::spawn(&argv, dir.path())?;
        let line = accept(&listeners.0, &mut process)?;
        let qmp = accept(&listeners.1, &mut process)?;
        Ok(Self { process, line: BufReader::new(line), qmp: Client::over(qmp)?, _dir: dir })
    }

    /// Asks for something, and gives the answer without its end of line.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> String {
        let mut answer = String::new();
        let sent = self.line.get_mut().write_all(format!("{request}\n").as_bytes());
        sent.and_then(|()| self.line.read_line(&mut answer)).unwrap_or_else(|e| panic!("{request}: {e}"));
        assert!(answer.ends_with('\n'), "{request}: the connection ended");
        answer.trim_end().to_owned()
    }

    /// The monitor.
    pub fn qmp(&mut self) -> &mut Client {
        &mut self.qmp
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// The one who connects, within [`LIMIT`].
fn accept(listener: &UnixListener, process: &mut Process) -> io::Result<UnixStream> {
    // Whether it has ended is looked for now and then.
    let pause = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let start = Instant::now();
    while poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&pause))? == 0 {
        if !process.is_running() || start.elapsed() > LIMIT {
            return Err(io::Error::other(format!("it does not connect: {}", process.stderr())));
        }
    }
    let (stream, _) = listener.accept()?;
    stream.set_read_timeout(Some(LIMIT))?;
    Ok(stream)
}

/// Whether a QEMU 7.2 is installed, to compare with. Says how to get it if not.
pub fn qemu_is_here(program: &Path) -> bool {
    let output = std::process::Command::new(program).arg("-version").output();
    let version = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let found = version.contains("version 7.2.");
    if !found {
        eprintln!(
            "SKIPPED: QEMU 7.2 is not installed (apt-get install qemu-system-x86 on Debian 12), nothing was compared"
        );
    }
    found
}
