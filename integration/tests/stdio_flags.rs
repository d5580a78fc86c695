//! What `vmmd` shares with its parent on stdin and stdout is as it was when it has ended: `O_NONBLOCK`, a property of
//! the open file that a shell would find in its way, and the modes of a terminal. As in QEMU.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus};

use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};
use vmm_integration::vmm::{is_qemu, program};
use vmm_integration::{LIMIT, poll_until};

fn nonblocking(fd: impl AsFd) -> bool {
    fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
}

/// A child that is gone when dropped.
struct Running(Child);

impl Running {
    /// With this open file as stdin and stdout, which are what `option` uses.
    fn start(shared: &OwnedFd, option: &str) -> Self {
        Self::start_with(shared, option, &[])
    }

    fn start_with(shared: &OwnedFd, option: &str, more: &[&str]) -> Self {
        let mut command = Command::new(program());
        command.args(["-nodefaults", "-display", "none", "-machine", "none", option, "stdio"]).args(more);
        let (stdin, stdout) = (shared.try_clone().unwrap(), shared.try_clone().unwrap());
        Self(command.stdin(stdin).stdout(stdout).spawn().unwrap())
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    #[track_caller]
    fn end(&mut self) -> ExitStatus {
        let mut status = None;
        let ended = poll_until(LIMIT, || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        });
        assert!(ended, "it still runs");
        status.unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// How it ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Quit,
    Signal(Signal),
    /// While nobody reads what it has to say, and more of that waits than fits.
    Stuck,
}

#[test]
fn a_shared_socket_blocks_again() {
    let signals = [Signal::TERM, Signal::INT, Signal::HUP].map(End::Signal);
    for end in [End::Quit, End::Stuck].into_iter().chain(signals) {
        if is_qemu() && matches!(end, End::Stuck) {
            eprintln!("skipped: QEMU 7.2 now and then hangs here");
            continue;
        }
        let (ours, theirs) = UnixStream::pair().unwrap();
        let shared = OwnedFd::from(theirs);
        let mut vmmd = Running::start(&shared, "-qmp");
        let mut client = BufReader::new(ours);
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        assert!(line.starts_with("{\"QMP\""), "{line}");
        assert!(nonblocking(&shared), "what it polls must not block it");
        client.get_mut().write_all(b"{\"execute\": \"qmp_capabilities\"}").unwrap();
        client.read_line(&mut line).unwrap();
        match end {
            End::Quit => client.get_mut().write_all(b"{\"execute\": \"quit\"}").unwrap(),
            End::Signal(signal) => vmmd.signal(signal),
            End::Stuck => {
                client.get_mut().set_nonblocking(true).unwrap();
                let requests = "{\"execute\": \"query-commands\"}".repeat(2000);
                // As much as goes in at once.
                let _ = client.get_mut().write(requests.as_bytes()).unwrap();
                vmmd.signal(Signal::TERM);
            }
        }
        assert_eq!(vmmd.end().code(), Some(0), "{end:?}");
        assert!(!nonblocking(&shared), "{end:?}: as it was");
    }
}

#[test]
fn what_did_not_block_before_does_not_block_after() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let shared = OwnedFd::from(theirs);
    fcntl_setfl(&shared, fcntl_getfl(&shared).unwrap() | OFlags::NONBLOCK).unwrap();
    let mut vmmd = Running::start(&shared, "-qmp");
    BufReader::new(ours).read_line(&mut String::new()).unwrap();
    vmmd.signal(Signal::TERM);
    assert_eq!(vmmd.end().code(), Some(0));
    assert!(nonblocking(&shared));
}

#[test]
fn a_terminal_is_as_it_was() {
    for signal in [None, Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP)] {
        if is_qemu() && signal.is_some() {
            eprintln!("skipped: QEMU 7.2 shows its prompt before it catches signals");
            continue;
        }
        terminal_is_as_it_was(&[], signal);
    }
}

/// Under its own filters, it may set the terminal too.
#[test]
fn in_the_sandbox_a_terminal_is_as_it_was() {
    let here = std::fs::read_to_string("/proc/self/status").unwrap();
    if is_qemu() || !here.contains("Seccomp:") {
        return eprintln!("SKIPPED: there is no -sandbox on here");
    }
    for signal in [None, Some(Signal::TERM)] {
        terminal_is_as_it_was(&["-sandbox", "on"], signal);
    }
}

#[track_caller]
fn terminal_is_as_it_was(more: &[&str], signal: Option<Signal>) {
    let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&keyboard).unwrap();
    unlockpt(&keyboard).unwrap();
    let name = ptsname(&keyboard, Vec::new()).unwrap();
    let terminal = rustix::fs::open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
    let before = tcgetattr(&terminal).unwrap();
    let mut vmmd = Running::start_with(&terminal, "-monitor", more);
    let mut keyboard = File::from(keyboard);
    read_until(&mut keyboard, b"(qemu) ");
    assert!(!tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ICANON), "keys come one by one");
    match signal {
        None => keyboard.write_all(b"quit\r").unwrap(),
        Some(signal) => vmmd.signal(signal),
    }
    assert_eq!(vmmd.end().code(), Some(0), "{signal:?}");
    let after = tcgetattr(&terminal).unwrap();
    assert_eq!(after.local_modes, before.local_modes, "{signal:?}");
    assert_eq!(after.input_modes, before.input_modes, "{signal:?}");
    assert!(!nonblocking(&terminal), "{signal:?}");
}

fn read_until(from: &mut File, end: &[u8]) {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(end) {
        from.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
}
