//! Deliberate differences from QEMU 7.2, those that no other file pins. `docs/COMPATIBILITY.md` lists all, with reasons.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::wire::{dev_null, is_listening};
use vmm_integration::{LIMIT, poll_until};

fn desc(result: Result<Value, vmm_integration::client::QmpError>) -> String {
    result.unwrap_err().desc
}

/// QEMU keeps a named fd until somebody closes it, whoever has passed it.
#[test]
fn named_fds_die_with_their_session() {
    let vmm = Vmm::start();
    let mut witness = vmm.client(0);
    witness.run("query-name");
    let before = vmm.fd_count();

    let mut client = vmm.client(0);
    client.getfd("a", &dev_null().unwrap()).unwrap();
    assert_eq!(vmm.fd_count(), before + 2, "the connection and the fd");
    drop(client);
    vmm.await_fd_count(before);

    let mut next = vmm.client(0);
    assert_eq!(desc(next.call("closefd", json!({"fdname": "a"}))), "File descriptor named 'a' not found");
}

/// In QEMU all clients of a monitor share its names; here only with `named-fds=monitor`.
#[test]
fn named_fds_belong_to_one_session() {
    let vmm = Vmm::start();
    let (mut one, mut other) = (vmm.client(0), vmm.client(0));
    one.getfd("a", &dev_null().unwrap()).unwrap();
    assert_eq!(desc(other.call("closefd", json!({"fdname": "a"}))), "File descriptor named 'a' not found");
    one.call("closefd", json!({"fdname": "a"})).unwrap();
}

#[test]
fn named_fds_can_live_as_in_qemu() {
    let vmm = Vmm::with(Setup { options: "named-fds=monitor", ..Setup::default() });
    let mut witness = vmm.client(0);
    witness.run("query-name");
    let before = vmm.fd_count();
    let mut client = vmm.client(0);
    client.getfd("a", &dev_null().unwrap()).unwrap();
    drop(client);
    vmm.await_fd_count(before + 1);
    witness.call("closefd", json!({"fdname": "a"})).unwrap();
    vmm.await_fd_count(before);
}

/// QEMU leaves a second client of a monitor in the backlog until the first has gone.
#[test]
fn several_clients_are_served_at_once() {
    let vmm = Vmm::start();
    let mut clients = [vmm.client(0), vmm.client(0), vmm.client(0)];
    for client in &mut clients {
        client.run("query-name");
    }
    clients[1].run("stop");
    for client in &mut clients {
        client.event("STOP");
    }
}

/// In QEMU a monitor is full with its one client; here only with `max-clients=1`.
#[test]
fn a_monitor_takes_further_sessions() {
    for (options, takes) in [("", true), ("max-clients=1", false)] {
        let vmm = Vmm::with(Setup { options, ..Setup::default() });
        let mut client = vmm.client(0);
        let (ours, theirs) = UnixStream::pair().unwrap();
        client.getfd("a", &ours.into()).unwrap();
        let arguments = json!({"protocol": "compat_monitor0", "fdname": "a"});
        let handed = client.call("add_client", arguments);
        let mut further = Client::over(theirs).unwrap();
        if takes {
            handed.unwrap();
            further.negotiate();
            further.run("query-name");
        } else {
            assert_eq!(desc(handed), "failed to add client");
            assert_eq!(further.next_line(), None);
        }
        client.run("query-name");
    }
}

/// QEMU keeps the socket open for ever.
#[test]
fn a_client_for_a_display_that_is_not_there_is_let_go() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    let (ours, theirs) = UnixStream::pair().unwrap();
    client.getfd("a", &ours.into()).unwrap();
    client.call("add_client", json!({"protocol": "vnc", "fdname": "a"})).unwrap();
    assert_eq!(Client::over(theirs).unwrap().next_line(), None);
}

/// QEMU 7.2 takes it for VNC, where it leaks, and fails with another text for a chardev; 11.1 does as we do.
#[test]
fn an_fd_that_is_no_socket_is_no_client() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    for protocol in ["vnc", "compat_monitor0", "nope"] {
        client.getfd("a", &dev_null().unwrap()).unwrap();
        let handed = client.call("add_client", json!({"protocol": protocol, "fdname": "a"}));
        assert_eq!(desc(handed), "parameter @fdname must name a socket");
    }
}

/// QEMU does nothing else until the client has come: no command of any monitor is run.
#[test]
fn a_chardev_that_waits_for_its_client_holds_up_nobody() {
    let vmm = Vmm::start();
    let (mut waiting, mut other) = (vmm.client(0), vmm.client(0));
    let socket = vmm.dir().join("w.sock");
    let backend = json!({"type": "socket", "data":
        {"addr": {"type": "unix", "data": {"path": socket}}, "wait": true}});
    let command = json!({"execute": "chardev-add", "arguments": {"id": "w", "backend": backend}, "id": "w"});
    waiting.send(command.to_string());
    assert!(poll_until(LIMIT, || is_listening(&socket)));
    other.run("stop");
    waiting.event("STOP");
    let _client = UnixStream::connect(&socket).unwrap();
    assert_eq!(waiting.reply(), json!({"return": {}, "id": "w"}));
}

/// QEMU replaces whatever stands where its socket should.
#[test]
fn a_file_in_a_sockets_place_stays() {
    let vmm = Vmm::start();
    let path = vmm.dir().join("precious");
    std::fs::write(&path, "content").unwrap();
    let backend = json!({"type": "socket", "data": {"addr": {"type": "unix", "data": {"path": &path}}}});
    let added = vmm.client(0).call("chardev-add", json!({"id": "c", "backend": backend}));
    assert!(desc(added).ends_with("precious: the file is not a socket"));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "content");
}

/// QEMU 7.2 leaves the fds of a stopped machine in their set until it runs; 11.1 does as we do.
#[test]
fn remove_fd_is_immediate_in_any_run_state() {
    for extra in [&[][..], &["-S"]] {
        let vmm = Vmm::with(Setup { extra, ..Setup::default() });
        let mut client = vmm.client(0);
        client.run("query-name");
        let before = vmm.fd_count();
        let null = dev_null().unwrap();
        let added = client.call_with_fds("add-fd", json!({}), &[null.as_fd()]).unwrap();
        assert_eq!(vmm.fd_count(), before + 1);
        client.call("remove-fd", json!({"fdset-id": added["fdset-id"], "fd": added["fd"]})).unwrap();
        assert_eq!(client.run("query-fdsets"), json!([]));
        vmm.await_fd_count(before);
    }
}

/// QEMU 7.2 drops a running machine's unused fds when its last monitor client leaves; 11.1 does as we do.
#[test]
fn fd_sets_outlive_their_clients() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    let null = dev_null().unwrap();
    let added = client.call_with_fds("add-fd", json!({"opaque": "kept"}), &[null.as_fd()]).unwrap();
    let with_client = vmm.fd_count();
    drop(client);
    vmm.await_fd_count(with_client - 1);
    let sets = vmm.client(0).run("query-fdsets");
    assert_eq!(sets, json!([{"fdset-id": 0, "fds": [{"fd": added["fd"], "opaque": "kept"}]}]));
}

/// QEMU writes the reply for a client that has gone to the next one of that monitor.
#[test]
fn a_reply_never_goes_to_anyone_but_its_asker() {
    for options in ["", "max-clients=1,named-fds=monitor"] {
        let vmm = Vmm::with(Setup { options, ..Setup::default() });
        for round in 0..50 {
            let mut asker = vmm.client(0);
            asker.send(format!(r#"{{"execute": "query-commands", "id": "lost {round}"}}"#).repeat(8));
            drop(asker);
            let mut next = vmm.client(0);
            next.send(r#"{"execute": "query-name", "id": "mine"}"#);
            assert_eq!(next.value()["id"], "mine");
        }
    }
}

/// QEMU 7.2 mostly drops what a client sent that is gone before the first reply.
#[test]
fn what_a_client_sent_before_it_left_is_run() {
    let vmm = Vmm::start();
    let mut watching = vmm.client(0);
    let mut leaving = Client::connect(&vmm.socket(0)).unwrap();
    leaving.send(r#"{"execute": "qmp_capabilities"} {"execute": "stop"}"#);
    drop(leaving);
    watching.event("STOP");
    assert_eq!(watching.run("query-status")["status"], "paused");
}
