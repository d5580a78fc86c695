//! Chardevs of a process: files and fifos under monitors, clients that are handed in, hanging up on them.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::{LIMIT, poll_until};

fn fifo(path: &Path) {
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
}

/// A directory outside of the server's, and the name of a file in it.
fn elsewhere(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}

fn pair() -> (OwnedFd, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(LIMIT)).unwrap();
    (ours.into(), theirs)
}

/// Passes a socket and hands it on.
fn hand(client: &mut Client, protocol: &str, fd: &OwnedFd) -> Result<Value, String> {
    client.getfd("a", fd).unwrap();
    client.call("add_client", json!({"protocol": protocol, "fdname": "a"})).map_err(|error| error.desc)
}

#[test]
fn qmp_over_two_fifos() {
    let (dir, path) = elsewhere("p");
    let ends = ["in", "out"].map(|end| dir.path().join(format!("p.{end}")));
    ends.iter().for_each(|end| fifo(end));
    let chardev = format!("pipe,id=p,path={}", path.display());
    let vmm =
        Vmm::with(Setup { extra: &["-chardev", &chardev, "-mon", "p,mode=control"], ..Setup::default() });
    let mut input = File::options().write(true).open(&ends[0]).unwrap();
    let mut lines = BufReader::new(File::open(&ends[1]).unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with(r#"{"QMP": "#));
    writeln!(input, r#"{{"execute": "qmp_capabilities"}} {{"execute": "query-name", "id": 1}}"#).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"return": {}}"#);
    assert_eq!(lines.next().unwrap().unwrap(), r#"{"return": {}, "id": 1}"#);
    let list = vmm.client(0).run("query-chardev");
    let found = list.as_array().unwrap().iter().find(|info| info["label"] == "p").unwrap();
    assert_eq!(*found, json!({"label": "p", "filename": "pipe", "frontend-open": true}));
}

#[test]
fn a_monitor_writes_a_file_and_a_log() {
    let (dir, path) = elsewhere("f");
    let log = dir.path().join("log");
    let chardev = format!("file,id=f,path={}", path.display());
    let logged = format!("logfile={}", log.display());
    let extra = &["-chardev", &*chardev, "-mon", "f,mode=control"];
    let vmm = Vmm::with(Setup { extra, options: &logged, ..Setup::default() });
    let greeting = r#"{"QMP": "#;
    let greeted = |path: &Path| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with(greeting));
    assert!(poll_until(LIMIT, || greeted(&path)));
    vmm.client(0).run("query-name");
    let logged = std::fs::read_to_string(&log).unwrap();
    assert!(logged.starts_with(greeting) && logged.ends_with("{\"return\": {}}\r\n"), "{logged}");
    assert!(!logged.contains("execute"), "what comes in is not noted");
}

/// In QEMU the second one's commands wait for the first's end, as do everybody's.
#[test]
fn out_of_band_overtakes_what_blocks() {
    let vmm = Vmm::with(Setup { monitors: 2, extra: &["--test-commands"], ..Setup::default() });
    let (_dir, path) = elsewhere("fifo");
    fifo(&path);
    let mut client = vmm.stranger(0);
    client.greeting();
    client.send(r#"{"execute": "qmp_capabilities", "arguments": {"enable": ["oob"]}}"#);
    assert_eq!(client.reply(), json!({"return": {}}));
    let mut victim = vmm.client(1);

    client.send(json!({"execute": "x-test-block", "arguments": {"path": path}, "id": "block"}).to_string());
    client.send(json!({"execute": "query-name", "id": "behind"}).to_string());
    let instances = json!([{"type": "chardev", "id": "compat_monitor1"}]);
    client.send(json!({"exec-oob": "yank", "arguments": {"instances": instances}, "id": "yank"}).to_string());
    assert_eq!(client.reply(), json!({"return": {}, "id": "yank"}));
    assert_eq!(victim.next_line(), None);
    client.send(r#"{"exec-oob": "query-yank", "id": "list"}"#);
    let all = ["compat_monitor0", "compat_monitor1"].map(|id| json!({"type": "chardev", "id": id}));
    assert_eq!(client.reply(), json!({"return": all, "id": "list"}));
    vmm.client(1).run("query-name");

    drop(File::options().write(true).open(&path).unwrap());
    assert_eq!(client.reply(), json!({"return": {}, "id": "block"}));
    assert_eq!(client.reply(), json!({"return": {}, "id": "behind"}));
}

#[test]
fn the_test_commands_are_not_there_by_themselves() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    let error = client.call("x-test-block", json!({"path": "x"})).unwrap_err();
    assert_eq!(error.desc, "The command x-test-block has not been found");
}

#[test]
fn hanging_up_on_oneself() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    let instances = json!([{"type": "chardev", "id": "compat_monitor0"}]);
    client.send(json!({"execute": "yank", "arguments": {"instances": instances}}).to_string());
    assert_eq!(client.rest(), [""; 0], "the reply has nobody to go to");
    vmm.client(0).run("query-name");
}

/// Handed in, refused, hung up on, left by their peers: no descriptor stays.
#[test]
fn descriptors_come_back() {
    let (dir, path) = elsewhere("sk.sock");
    let socket = format!("socket,id=sk,path={},server=on,wait=off", path.display());
    let extra = &["-chardev", &*socket, "-chardev", "null,id=nul"];
    let vmm = Vmm::with(Setup { extra, ..Setup::default() });
    let mut client = vmm.client(0);
    client.run("query-name");
    let before = vmm.fd_count();
    let added = dir.path().join("c.sock");
    for round in 0..40 {
        let mut peers = Vec::new();
        for protocol in ["sk", "sk", "nul", "vnc", "spice", "nope", "compat_monitor0"] {
            let (ours, theirs) = pair();
            let handed = hand(&mut client, protocol, &ours);
            let expected =
                protocol == "vnc" || protocol == "compat_monitor0" || (protocol == "sk" && peers.is_empty());
            assert_eq!(handed.is_ok(), expected, "{protocol}: {handed:?}, round {round}");
            peers.push(theirs);
        }
        let add = json!({"id": "c", "backend": {"type": "socket", "data":
            {"addr": {"type": "unix", "data": {"path": added}}, "logfile": dir.path().join("c.log")}}});
        client.call("chardev-add", add.clone()).unwrap();
        client.call("chardev-add", add).unwrap_err();
        let (ours, _theirs) = pair();
        hand(&mut client, "c", &ours).unwrap();
        client.call("chardev-remove", json!({"id": "c"})).unwrap();
        match round % 2 {
            0 => drop(peers),
            _ => {
                let instances = json!([{"type": "chardev", "id": "sk"}]);
                client.call("yank", json!({"instances": instances})).unwrap();
                assert_eq!(peers[0].read(&mut [0]).unwrap(), 0);
            }
        }
        // The one that waits on the chardev without a monitor makes room for the next when it has gone, and until then
        // it is open.
        let instances = json!([{"type": "chardev", "id": "sk"}]);
        client.call("yank", json!({"instances": instances})).unwrap();
    }
    vmm.await_fd_count(before);
    assert!(!added.exists());
}
