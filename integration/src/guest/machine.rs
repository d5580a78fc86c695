//! A guest that runs: its QEMU, and its console as lines.

use std::io::{self, BufRead, BufReader};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use super::Assets;
use crate::LIMIT;
use crate::process::Process;

/// How long a guest may take to boot and to say what it has to say. It takes seconds; a busy machine may take more.
const GUEST_LIMIT: Duration = Duration::from_secs(180);

/// What the guest's memory is, which decides how a device in another process gets at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// A sealed memfd, shared: the device gets its descriptor.
    Memfd,
    /// A file on a tmpfs, shared: the device gets its descriptor, and the file can be truncated under it.
    File,
    /// QEMU's own: the device gets no descriptor and asks QEMU for every transfer.
    Private,
}

/// What the guest does when it has run its checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Powers off; QEMU ends.
    PowerOff,
    /// Goes on running, until it is killed.
    Wait,
}

/// A guest; its QEMU is killed on drop.
#[derive(Debug)]
pub struct Guest {
    process: Process,
    console: BufReader<UnixStream>,
    transcript: String,
    _dir: TempDir,
}

impl Guest {
    /// Starts one with `device` as QEMU's `-device` takes it.
    ///
    /// # Errors
    /// When QEMU does not start, or ends before it opens the guest's console: says what QEMU said.
    pub fn boot(assets: &Assets, memory: Memory, device: &str, after: After) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let console = dir.path().join("console");
        let listener = UnixListener::bind(&console)?;
        listener.set_nonblocking(true)?;
        let argv = command_line(assets, &console, memory, device, after);
        let mut process = Process::spawn(&argv, dir.path())?;
        let console = match accept(&listener, &mut process) {
            Ok(console) => console,
            Err(e) => return Err(io::Error::new(e.kind(), format!("{e}: {}", process.stderr()))),
        };
        Ok(Self { process, console: BufReader::new(console), transcript: String::new(), _dir: dir })
    }

    /// Reads its console up to the verdict of its checks.
    ///
    /// # Errors
    /// When it says that a check failed, or says nothing to the end in time; with its console so far.
    pub fn passes(&mut self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let line = match self.line(start) {
                Ok(Some(line)) => line,
                Ok(None) => return Err(self.report("the console ended")),
                Err(e) => return Err(self.report(&format!("no verdict came: {e}"))),
            };
            match line.trim_end() {
                "guest: passed" => return Ok(()),
                verdict if verdict.starts_with("guest: failed") => return Err(self.report(verdict)),
                _ => {}
            }
        }
    }

    fn line(&mut self, start: Instant) -> io::Result<Option<String>> {
        let left = GUEST_LIMIT.checked_sub(start.elapsed()).filter(|left| !left.is_zero());
        self.console.get_ref().set_read_timeout(Some(left.ok_or(io::ErrorKind::TimedOut)?))?;
        let mut line = Vec::new();
        if self.console.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let line = String::from_utf8_lossy(&line).into_owned();
        self.transcript.push_str(&line);
        Ok(Some(line))
    }

    fn report(&self, why: &str) -> String {
        format!("{why}\n--- its console:\n{}\n--- QEMU:\n{}", self.transcript, self.process.stderr())
    }

    /// What its console has shown so far.
    pub fn transcript(&self) -> &str {
        &self.transcript
    }

    /// Kills its QEMU, as a crash would, and waits until that is gone.
    ///
    /// # Errors
    /// When it has ended by itself.
    pub fn kill(mut self) -> io::Result<()> {
        if !self.process.is_running() {
            return Err(io::Error::other(self.report("QEMU ended by itself")));
        }
        self.process.signal(Signal::KILL)?;
        self.process.wait_exit(LIMIT).ok_or(io::ErrorKind::TimedOut)?;
        Ok(())
    }

    /// Waits until it has powered off.
    ///
    /// # Errors
    /// When it does not, or QEMU ends with an error.
    pub fn ends(mut self) -> Result<(), String> {
        match self.process.wait_exit(LIMIT) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(self.report(&status.to_string())),
            None => Err(self.report("it does not power off")),
        }
    }
}

/// Waits for QEMU to open the console. It does that before it makes devices, so one that ends later ends the console.
fn accept(listener: &UnixListener, process: &mut Process) -> io::Result<UnixStream> {
    let start = Instant::now();
    loop {
        match listener.accept() {
            Ok((console, _)) => {
                console.set_nonblocking(false)?;
                return Ok(console);
            }
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
            Err(_) if !process.is_running() => return Err(io::Error::other("QEMU ended at its start")),
            Err(_) if start.elapsed() > LIMIT => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(2)),
        }
    }
}

fn command_line(assets: &Assets, console: &Path, memory: Memory, device: &str, after: After) -> Vec<String> {
    let backend = match memory {
        Memory::Memfd => Some("memory-backend-memfd,id=ram,size=128M,share=on".to_owned()),
        // Given a folder, QEMU makes a file there and removes its name at once. A server need not take files of other
        // file systems than tmpfs: their owner can stop whoever reads.
        Memory::File => Some("memory-backend-file,id=ram,size=128M,share=on,mem-path=/dev/shm".to_owned()),
        Memory::Private => None,
    };
    let machine = if backend.is_some() { "q35,memory-backend=ram" } else { "q35" };
    let after = match after {
        After::PowerOff => "poweroff",
        After::Wait => "wait",
    };
    let mut argv: Vec<String> = vec![assets.qemu().display().to_string()];
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|&word| word.to_owned()));
    add(&["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-accel", "tcg", "-m", "128M"]);
    add(&["-machine", machine]);
    if let Some(backend) = &backend {
        add(&["-object", backend]);
    }
    add(&[
        "-chardev",
        &format!("socket,id=console,path={}", console.display()),
        "-serial",
        "chardev:console",
    ]);
    add(&[
        "-kernel",
        &assets.kernel().display().to_string(),
        "-initrd",
        &assets.initramfs().display().to_string(),
    ]);
    // The check of the timer counts ticks against the processor's speed, and loses where an emulated one is held up.
    add(&["-append", &format!("console=ttyS0 quiet panic=-1 no_timer_check edu.after={after}")]);
    add(&["-device", device]);
    argv
}
