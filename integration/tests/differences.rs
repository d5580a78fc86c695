//! Deliberate differences from QEMU 7.2, those that no other file pins. `docs/COMPATIBILITY.md` lists all, with reasons.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::AsFd;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::vmm::{Setup, Vmm};
use vmm_integration::wire::dev_null;

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
