//! `vmmd -sandbox on`: every thread is under a filter, each kind under its own, and what a filter refuses ends the process with a word.
//! That the filters allow what is needed, the whole suite says: `make test` runs it under them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::passed::PassedListener;
use vmm_integration::vmm::{Setup, Vmm, is_qemu};
use vmm_integration::{LIMIT, poll_until};

/// A `vmmd` with a board, an iothread and an exported device. `None`, and a word about it, where there are no filters.
fn sandboxed(sandbox: &str) -> Option<Vmm> {
    if is_qemu() {
        return None;
    }
    if status("thread-self").is_none_or(|status| !status.contains_key("Seccomp")) {
        eprintln!("SKIPPED: this kernel has no seccomp, -sandbox is not tested");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("v.sock");
    let export = format!("x-vfio-user-server,id=v,type=unix,path={},device=e", socket.display());
    let extra = ["-sandbox", sandbox, "-test-commands", "-machine", "board", "-smp", "2"];
    let objects =
        ["-object", "iothread,id=io0", "-device", "edu,id=e", "-device", "scratch,id=s", "-object", &export];
    Some(Vmm::with_dir(Setup { extra: &[&extra[..], &objects].concat(), ..Setup::default() }, dir))
}

/// What /proc says of a thread.
fn status(thread: &str) -> Option<BTreeMap<String, String>> {
    let text = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Some(pairs.map(|(key, value)| (key.to_owned(), value.trim().to_owned())).collect())
}

/// All threads: name, filter mode, filters.
fn threads(vmm: &Vmm) -> Vec<(String, String, u32)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", vmm.pid())).unwrap();
    let of = |name: &str| status(&format!("{}/task/{name}", vmm.pid()));
    tasks
        .filter_map(|task| of(task.unwrap().file_name().to_str().unwrap()))
        .map(|status| {
            let filters = status.get("Seccomp_filters").and_then(|count| count.parse().ok());
            (status["Name"].clone(), status["Seccomp"].clone(), filters.unwrap_or_default())
        })
        .collect()
}

#[test]
fn every_thread_is_under_its_own_filter() {
    let Some(vmm) = sandboxed("on") else { return };
    // Closing a client's socket starts a thread that closes.
    let mut client = vmm.client(0);
    client.getfd("f", &UnixStream::pair().unwrap().0.into()).unwrap();
    client.call("closefd", json!({"fdname": "f"})).unwrap();
    // It confines itself a moment after it has its name.
    let mut threads = threads(&vmm);
    poll_until(LIMIT, || {
        threads = self::threads(&vmm);
        let filters = |name: &str| threads.iter().find(|thread| thread.0 == name).map(|thread| thread.2);
        filters("fd-closer").is_some_and(|count| count == 0 || Some(count) > filters("vmmd-worker"))
    });
    for (name, mode, _) in &threads {
        assert_eq!(mode, "2", "{name} has no filter: {threads:?}");
    }
    let filters = |prefix: &str| {
        let found = threads.iter().find(|(name, ..)| name.starts_with(prefix));
        found.unwrap_or_else(|| panic!("no {prefix}: {threads:?}")).2
    };
    let main = filters("vmmd");
    // Kernels before 5.9 do not tell.
    if main > 0 {
        assert!(filters("vmmd-worker") > main, "{threads:?}");
        // Started by a thread for what may block, which has gone, and which a worker had started.
        assert!(filters("IO io0") > filters("vmmd-worker"), "{threads:?}");
        assert!(filters("CPU 0/vmmd") > main, "{threads:?}");
        assert!(filters("vmmd-log") > main, "{threads:?}");
        assert!(filters("fd-closer") > filters("vmmd-worker"), "{threads:?}");
    }
    assert_eq!(status(&vmm.pid().to_string()).unwrap()["NoNewPrivs"], "1");
}

/// The process has died of a refused call, and has said which.
#[track_caller]
fn assert_refused(mut vmm: Vmm, thread: &str) {
    let status = vmm.process().wait_exit(LIMIT).unwrap();
    assert_eq!(status.signal(), Some(Signal::SYS.as_raw()), "{status}");
    let said = vmm.process().stderr();
    let line = format!("vmmd: -sandbox: thread '{thread}' may not make system call ");
    assert!(said.contains(&line) && said.contains(" (getpriority)\n"), "{said}");
}

#[test]
fn a_call_that_a_worker_does_not_need_ends_the_process() {
    let Some(vmm) = sandboxed("on") else { return };
    let mut client = vmm.client(0);
    client.send(json!({"execute": "x-test-system-call", "arguments": {"call": "getpriority"}}).to_string());
    assert_refused(vmm, "vmmd-worker");
}

#[test]
fn a_call_that_an_iothread_does_not_need_ends_the_process() {
    let Some(vmm) = sandboxed("on") else { return };
    let mut client = vmm.client(0);
    let call = json!({"call": "getpriority", "iothread": "io0"});
    client.send(json!({"execute": "x-test-system-call", "arguments": call}).to_string());
    assert_refused(vmm, "IO io0");
}

#[test]
fn an_iothread_opens_no_file() {
    let Some(vmm) = sandboxed("on") else { return };
    let mut client = vmm.client(0);
    assert_eq!(client.call("x-test-system-call", json!({"call": "open"})), Ok(json!({})));
    let refusal = client.call("x-test-system-call", json!({"call": "open", "iothread": "io0"})).unwrap_err();
    assert!(refusal.desc.contains("Permission denied"), "{refusal}");
    client.run("query-status");
}

/// With a monitor and an exported device on listeners that a client has passed, each with an `accept` that waits for ever: the
/// threads in them are the last who have the listeners when those are removed.
fn with_stuck_accepts() -> Option<(Vmm, Client, [PassedListener; 2])> {
    let vmm = sandboxed("on")?;
    let mut client = vmm.client(0);
    let stuck = |client: &mut Client, file: &str, command: &str, arguments: Value| {
        let passed = PassedListener::unix(&vmm.dir().join(file)).unwrap();
        client.getfd("passed", passed.fd()).unwrap();
        client.call(command, arguments).unwrap();
        passed
    };
    let addr = json!({"type": "fd", "data": {"str": "passed"}});
    let socket = json!({"type": "socket", "data": {"addr": addr, "server": true, "wait": false}});
    let chardev = stuck(&mut client, "c.sock", "chardev-add", json!({"id": "c", "backend": socket}));
    client.call("object-add", json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c"})).unwrap();
    let socket = json!({"type": "fd", "str": "passed"});
    let export = json!({"qom-type": "x-vfio-user-server", "id": "x", "device": "s", "socket": socket});
    let export = stuck(&mut client, "x.sock", "object-add", export);
    let passed = [chardev, export];
    for (count, passed) in passed.iter().enumerate() {
        passed.leave_accepts_stuck(vmm.pid(), count + 1);
    }
    Some((vmm, client, passed))
}

#[test]
fn accepts_that_are_stuck_end_with_their_listeners() {
    let Some((vmm, mut client, _passed)) = with_stuck_accepts() else { return };
    client.call("object-del", json!({"id": "x"})).unwrap();
    client.call("object-del", json!({"id": "m"})).unwrap();
    client.call("chardev-remove", json!({"id": "c"})).unwrap();
    let accepting = || threads(&vmm).iter().any(|(name, ..)| name == "accept");
    assert!(poll_until(LIMIT, || !accepting()), "{:?}", threads(&vmm));
    client.run("query-status");
}

#[test]
fn quit_ends_accepts_that_are_stuck() {
    let Some((mut vmm, mut client, _passed)) = with_stuck_accepts() else { return };
    client.send(json!({"execute": "quit"}).to_string());
    assert_eq!(vmm.exit_code(), 0, "{}", vmm.observe().stderr());
}

#[test]
fn with_log_a_call_is_made_all_the_same() {
    let Some(vmm) = sandboxed("on,log=on") else { return };
    let mut client = vmm.client(0);
    assert!(threads(&vmm).iter().all(|(_, mode, _)| mode == "2"));
    let call = json!({"call": "getpriority", "iothread": "io0"});
    assert_eq!(client.call("x-test-system-call", call), Ok(json!({})));
}

#[test]
fn off_is_off() {
    let Some(vmm) = sandboxed("off") else { return };
    let mut client = vmm.client(0);
    assert_eq!(client.call("x-test-system-call", json!({"call": "getpriority"})), Ok(json!({})));
    // Whoever runs the test may be under a filter.
    let inherited = status("thread-self").unwrap()["Seccomp"].clone();
    assert!(threads(&vmm).iter().all(|(_, mode, _)| *mode == inherited));
}
