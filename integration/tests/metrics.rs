//! `vmmd -metrics`: what a scrape gets, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::json;
use vmm_integration::http::{Answer, SCRAPE, ask, scrape};
use vmm_integration::vmm::{Setup, Vmm, is_qemu};
use vmm_integration::wire::is_listening;
use vmm_integration::{LIMIT, poll_until};

/// A `vmmd` that serves metrics, and where. `None`, and a word about it, if it is QEMU, which has no such option.
fn served(options: &str, extra: &[&str]) -> Option<(Vmm, PathBuf)> {
    if is_qemu() {
        eprintln!("SKIPPED: QEMU serves no metrics");
        return None;
    }
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("metrics.sock");
    let option = format!("unix:{}{options}", socket.display());
    let extra = [&["-metrics", &option], extra].concat();
    let vmm = Vmm::with_dir(Setup { extra: &extra, ..Setup::default() }, dir);
    // It is the last that listens.
    assert!(poll_until(LIMIT, || is_listening(&socket)));
    Some((vmm, socket))
}

fn commands(answer: &Answer, command: &str) -> Option<f64> {
    answer.sample(&format!("qmp_commands_total{{command=\"{command}\"}}"))
}

#[test]
fn a_scrape_tells_what_was_asked_so_far() {
    let Some((vmm, socket)) = served("", &["-object", "iothread,id=io0"]) else { return };
    let before = scrape(&socket);
    assert_eq!(before.field("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(before.field("content-length"), Some(&*before.body.len().to_string()));
    assert_eq!(commands(&before, "query-name"), Some(0.0));
    assert_eq!(before.sample("plane_sessions{monitor=\"compat_monitor0\"}"), Some(0.0));

    let mut client = vmm.client(0);
    for _ in 0..3 {
        client.run("query-name");
    }
    client.call("closefd", json!({"fdname": "none"})).unwrap_err();
    let after = scrape(&socket);
    assert_eq!(commands(&after, "query-name"), Some(3.0));
    assert_eq!(commands(&after, "closefd"), Some(1.0));
    assert_eq!(after.sample("qmp_command_errors_total{command=\"closefd\"}"), Some(1.0));
    assert_eq!(after.sample("qmp_command_errors_total{command=\"query-name\"}"), Some(0.0));
    assert!(after.body.contains("# TYPE qmp_command_seconds histogram\n"), "{}", after.body);
    let bucket = |bound: &str| {
        after.sample(&format!("qmp_command_seconds_bucket{{command=\"query-name\",le=\"{bound}\"}}"))
    };
    assert!(bucket("0.00001").is_some() && bucket("10") == Some(3.0) && bucket("+Inf") == Some(3.0));
    assert_eq!(after.sample("plane_monitors"), Some(1.0));
    assert_eq!(after.sample("plane_sessions{monitor=\"compat_monitor0\"}"), Some(1.0));
    assert_eq!(after.sample("plane_held_bytes_limit"), Some(268_435_456.0));
    assert!(after.sample("plane_held_fds_limit").is_some_and(|limit| limit > 0.0));
    assert_eq!(after.sample("plane_held_fds"), Some(0.0));
    assert!(after.sample("iothread_wakeups_total{iothread=\"io0\"}").is_some());
    client.getfd("held", &vmm_integration::wire::dev_null().unwrap()).unwrap();
    assert_eq!(scrape(&socket).sample("plane_held_fds"), Some(1.0));
}

/// Every line is a comment or a sample, and each name is described once, before its samples.
#[test]
fn the_text_is_prometheuss() {
    let Some((vmm, socket)) = served("", &["-object", "iothread,id=io0"]) else { return };
    vmm.client(0).run("query-name");
    let text = scrape(&socket).body;
    let mut typed = std::collections::BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<&str> = comment.split(' ').collect();
            match *words {
                ["TYPE", name, "counter" | "gauge" | "histogram"] => {
                    assert!(typed.insert(name.to_owned()), "{name} twice");
                }
                ["HELP", _, _, ..] => {}
                _ => panic!("{line}"),
            }
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = name.split('{').next().unwrap();
        let part = ["_bucket", "_sum", "_count"].into_iter().find_map(|part| name.strip_suffix(part));
        assert!(typed.contains(name) || part.is_some_and(|name| typed.contains(name)), "{line}");
    }
    for name in &typed {
        assert!(text.contains(&format!("# HELP {name} ")), "{name} is not described");
    }
    assert!(text.ends_with('\n'));
}

#[test]
fn what_has_gone_is_not_told_of_any_more() {
    let Some((vmm, socket)) = served("", &[]) else { return };
    let mut client = vmm.client(0);
    let wakeups = "iothread_wakeups_total{iothread=\"gone\"}";
    client.call("object-add", json!({"qom-type": "iothread", "id": "gone"})).unwrap();
    assert!(scrape(&socket).sample(wakeups).is_some());
    client.run("x-query-iothread-stats");
    client.call("object-del", json!({"id": "gone"})).unwrap();
    let after = scrape(&socket);
    assert_eq!(after.sample(wakeups), None);
    assert_eq!(after.sample("plane_monitors"), Some(1.0), "and what is there stays");
    assert_eq!(commands(&after, "object-del"), Some(1.0), "what commands counted stays");
}

#[test]
fn other_requests_are_told_what_to_ask() {
    let Some((_vmm, socket)) = served("", &[]) else { return };
    let ask = |line: &str| ask(&socket, &format!("{line}\r\nHost: x\r\n\r\n")).unwrap();
    for line in ["GET / HTTP/1.1", "GET /metrics/ HTTP/1.1", "POST / HTTP/1.1", "GET /%6detrics HTTP/1.1"] {
        let answer = ask(line);
        assert_eq!((answer.status, answer.field("allow")), (404, None), "{line}");
        assert_eq!(answer.body, "ask for /metrics, there is nothing else\n");
    }
    for line in ["POST /metrics HTTP/1.1", "DELETE /metrics HTTP/1.1", "OPTIONS /metrics HTTP/1.1"] {
        let answer = ask(line);
        assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{line}");
        assert_eq!(answer.body, "ask with GET or HEAD\n");
    }
    let head = ask("HEAD /metrics HTTP/1.1");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.field("content-length").unwrap().parse::<usize>().unwrap() > 1000);
    for line in ["GET /metrics?x=y HTTP/1.1", "GET http://vm/metrics HTTP/1.1", "GET /metrics HTTP/1.0"] {
        let answer = ask(line);
        assert_eq!(answer.status, 200, "{line}");
        assert!(commands(&answer, "stop").is_some());
    }
}

/// A pipe of somebody's (`printf ... | socat`) ends when it has said all, and reads on.
#[test]
fn a_client_may_have_said_all_that_it_has_to_say() {
    let Some((_vmm, socket)) = served("", &[]) else { return };
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(SCRAPE.as_bytes()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(Answer::read(&client).unwrap().status, 200);
}

#[test]
fn a_connection_is_one_request() {
    let Some((_vmm, socket)) = served("", &[]) else { return };
    let mut client = UnixStream::connect(&socket).unwrap();
    client.write_all(SCRAPE.repeat(3).as_bytes()).unwrap();
    client.set_read_timeout(Some(LIMIT)).unwrap();
    let mut all = String::new();
    // What was not read of ours makes its end a reset.
    let _ = client.read_to_string(&mut all);
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 1);
    assert!(all.to_ascii_lowercase().contains("connection: close"));
}

/// Nine ask at once, and none is turned away: who finds no place waits.
#[test]
fn who_finds_no_place_waits() {
    let Some((_vmm, socket)) = served("", &[]) else { return };
    let mute: Vec<_> = (0..8).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    let mut ninth = UnixStream::connect(&socket).unwrap();
    ninth.write_all(SCRAPE.as_bytes()).unwrap();
    // A place would have it answered within a millisecond.
    ninth.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let waits = ninth.read(&mut [0]).unwrap_err();
    assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
    ninth.set_read_timeout(Some(LIMIT)).unwrap();
    drop(mute);
    assert_eq!(Answer::read(&ninth).unwrap().status, 200);
}

fn mode(socket: &Path) -> u32 {
    socket.metadata().unwrap().permissions().mode() & 0o777
}

#[test]
fn the_socket_is_its_owners_and_goes_with_the_process() {
    for end in [Some(Signal::TERM), None] {
        let Some((mut vmm, socket)) = served("", &[]) else { return };
        assert_eq!(mode(&socket), 0o600);
        let waiting = UnixStream::connect(&socket).unwrap();
        match end {
            Some(signal) => vmm.process().signal(signal).unwrap(),
            None => drop(vmm.client(0).call("quit", json!({}))),
        }
        assert_eq!(vmm.exit_code(), 0);
        assert!(!socket.exists(), "{end:?}");
        let said = vmm.observe().stderr();
        assert!(said.contains("serving metrics on unix:") && !said.contains("panicked"), "{said}");
        drop(waiting);
    }
}

#[test]
fn others_who_are_listed_can_reach_it() {
    let Some((_vmm, socket)) = served(",allowed-uids=61700", &[]) else { return };
    assert_eq!(mode(&socket), 0o666);
    assert!(ask(&socket, SCRAPE).is_err(), "our own user is not listed");
}

#[test]
fn a_socket_that_cannot_be_made_is_an_error_and_leaves_nothing() {
    if is_qemu() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let start = |args: &[&str]| {
        let program = vmm_integration::vmm::program();
        std::process::Command::new(program).args(args).current_dir(dir.path()).output().unwrap()
    };
    let output = start(&["-machine", "none", "-qmp", "unix:q,server=on,wait=off", "-metrics", "unix:no/m"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("vmmd: -metrics unix:no/m: Failed to bind socket to no/m: "), "{said}");
    let output =
        start(&["-machine", "none", "-metrics", "unix:m", "-device", "edu,id=a", "-device", "edu,id=a"]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let left: Vec<_> =
        std::fs::read_dir(dir.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// It is no chardev of the plane's: no monitor's client gets at it.
#[test]
fn monitors_do_not_see_it() {
    let Some((vmm, socket)) = served("", &[]) else { return };
    let mut client = vmm.client(0);
    let chardevs = client.run("query-chardev");
    assert!(!chardevs.to_string().contains("metrics"), "{chardevs}");
    client.call("chardev-remove", json!({"id": "metrics"})).unwrap_err();
    client.call("chardev-add", json!({"id": "metrics", "backend": {"type": "null", "data": {}}})).unwrap();
    scrape(&socket);
}
