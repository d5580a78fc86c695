//! Sessions of `qemu.qmp`, the client that QEMU's own tools are built on: its asyncio client, its legacy module and
//! `qmp-shell`. The sessions are in `integration/python/`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use vmm_integration::vmm::{Setup, Vmm, is_qemu};

/// The interpreter that has `qemu.qmp`: `$VMM_PYTHON`, else that of the environment at the root of the project.
fn python() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let python = std::env::var_os("VMM_PYTHON").map_or_else(|| root.join(".venv/bin/python"), PathBuf::from);
    let has_it =
        Command::new(&python).args(["-c", "import qemu.qmp"]).output().is_ok_and(|run| run.status.success());
    assert!(
        has_it,
        "no Python with qemu.qmp: python3 -m venv .venv && .venv/bin/pip install -r integration/python/requirements.txt"
    );
    python
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}\n{said}{}", output.status, String::from_utf8_lossy(&output.stderr));
    said
}

#[track_caller]
fn session(script: &str, args: &[&str], sockets: &[PathBuf]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(script);
    succeeded(&Command::new(python()).arg(script).args(args).args(sockets).output().unwrap());
}

/// What `qmp-shell` prints when these lines are typed.
#[track_caller]
fn shell(vmm: &Vmm, options: &[&str], typed: &str) -> String {
    let mut child = Command::new(python())
        .args(["-m", "qemu.qmp.qmp_shell"])
        .args(options)
        .arg(vmm.socket(0))
        .env("HOME", vmm.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    succeeded(&child.wait_with_output().unwrap())
}

/// `qmp-shell` prints Python's idea of a value; what a test looks for is in it, whatever the quotes.
#[track_caller]
fn assert_said(said: &str, wanted: &str) {
    assert!(said.replace('\'', "\"").contains(wanted), "{wanted} is missing in:\n{said}");
}

#[test]
fn asyncio_commands_and_errors() {
    let vmm = Vmm::start();
    session("async_sessions.py", &["commands"], &[vmm.socket(0)]);
}

#[test]
fn asyncio_events() {
    let vmm = Vmm::start();
    session("async_sessions.py", &["events"], &[vmm.socket(0)]);
}

#[test]
fn asyncio_descriptors() {
    let vmm = Vmm::start();
    let before = {
        let mut client = vmm.client(0);
        client.run("query-name");
        vmm.fd_count() - 1
    };
    session("async_sessions.py", &["descriptors"], &[vmm.socket(0)]);
    vmm.await_fd_count(before);
}

#[test]
fn asyncio_a_thousand_commands_from_fifty_clients() {
    let (monitors, clients) = if is_qemu() { (10, 10) } else { (1, 50) };
    let vmm = Vmm::with_monitors(monitors);
    let sockets: Vec<PathBuf> = (0..clients).map(|n| vmm.socket(n % monitors)).collect();
    session("async_sessions.py", &["flood"], &sockets);
}

#[test]
fn asyncio_quit() {
    let mut vmm = Vmm::start();
    session("async_sessions.py", &["quit"], &[vmm.socket(0)]);
    assert_eq!(vmm.exit_code(), 0);
}

#[test]
fn legacy() {
    let vmm = Vmm::start();
    session("legacy_session.py", &[], &[vmm.socket(0)]);
}

#[test]
fn qmp_shell() {
    let mut vmm = Vmm::start();
    // An empty line shows the events that have come.
    let said = shell(&vmm, &[], "query-status\nno-such\nclosefd fdname=x\nstop\n\nquery-name\n");
    assert_said(&said, "Connected to QEMU 7.2.");
    assert_said(&said, "\"status\": \"running\"");
    assert_said(&said, "The command no-such has not been found");
    assert_said(&said, "File descriptor named \"x\" not found");
    assert_said(&said, "\"event\": \"STOP\"");
    vmm.client(0).run("query-status");
    assert!(vmm.process().is_running());
}

#[test]
fn qmp_shell_verbose_and_pretty() {
    let vmm = Vmm::start();
    let said = shell(&vmm, &["-v", "-p"], "query-version\n\nquery-fdsets\n");
    assert_said(&said, "\"major\": 7");
    assert_said(&said, "\"execute\": \"query-fdsets\"");
}

#[test]
fn qmp_shell_speaks_the_human_monitor() {
    // It needs a CPU. As it starts it asks for `help` and `info`, and reads the commands' names out of them.
    let machine = if is_qemu() { "pc" } else { "board" };
    let vmm = Vmm::with(Setup { extra: &["-machine", machine], ..Setup::default() });
    let said = shell(&vmm, &["-H"], "info status\nstop\ninfo status\nhelp stop\nnope\n");
    assert_said(&said, "VM status: running");
    assert_said(&said, "VM status: paused");
    assert_said(&said, "stop|s  -- stop emulation");
    assert_said(&said, "unknown command: \"nope\"");
}
