//! Monitors that come and go at run time, under load.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::vmm::Vmm;
use vmm_integration::{LIMIT, poll_until};

/// Monitors at a time, and rounds of them.
const MONITORS: usize = 20;
const ROUNDS: usize = 10;

fn make(client: &mut Client, vmm: &Vmm, number: usize) {
    let path = vmm.dir().join(format!("m{number}.sock"));
    let addr = json!({"type": "unix", "data": {"path": path}});
    let data = json!({"addr": addr, "server": true, "wait": false});
    let chardev = json!({"id": format!("c{number}"), "backend": {"type": "socket", "data": data}});
    assert_eq!(client.call("chardev-add", chardev), Ok(json!({})));
    let monitor =
        json!({"qom-type": "monitor-qmp", "id": format!("m{number}"), "chardev": format!("c{number}")});
    assert_eq!(client.call("object-add", monitor), Ok(json!({})));
}

fn unmake(client: &mut Client, number: usize) {
    assert_eq!(client.call("object-del", json!({"id": format!("m{number}")})), Ok(json!({})));
    // Whoever was connected is on the chardev now, and goes with it.
    assert_eq!(client.call("chardev-remove", json!({"id": format!("c{number}")})), Ok(json!({})));
}

/// A round: makes monitors, has a client on every other one, and takes them away, clients or not.
fn round(client: &mut Client, vmm: &Vmm) {
    (0..MONITORS).for_each(|number| make(client, vmm, number));
    let mut guests: Vec<Client> = (0..MONITORS)
        .step_by(2)
        .map(|number| {
            let mut guest = Client::connect(&vmm.dir().join(format!("m{number}.sock"))).unwrap();
            guest.negotiate();
            guest.run("query-name");
            guest
        })
        .collect();
    (0..MONITORS).for_each(|number| unmake(client, number));
    for guest in &mut guests {
        assert_eq!(guest.next_line(), None);
    }
}

#[test]
fn two_hundred_monitors_come_and_go_and_leave_nothing() {
    let mut vmm = Vmm::start();
    let mut client = vmm.client(0);
    // Whatever is made once and kept is made now.
    round(&mut client, &vmm);
    let busy = AtomicBool::new(true);
    let load = vmm.client(0);
    let before = thread::scope(|scope| {
        let busy = &busy;
        scope.spawn(move || {
            let mut load = load;
            while busy.load(Ordering::Relaxed) {
                load.run("query-status");
            }
        });
        let before = (vmm.fd_count(), vmm.process().threads(), vmm.process().rss_kib());
        (0..ROUNDS).for_each(|_| round(&mut client, &vmm));
        busy.store(false, Ordering::Relaxed);
        before
    });
    let (fds, threads, rss) = before;
    // The load's own connection goes with it.
    vmm.await_fd_count(fds - 1);
    let settled = poll_until(LIMIT, || vmm.process().threads() <= threads);
    assert!(settled, "{} threads, {threads} before", vmm.process().threads());
    let now = vmm.process().rss_kib();
    assert!(now < rss + 4096, "{now} KiB, {rss} before: a monitor leaves more than 20 KiB behind");
    assert_eq!(client.run("x-query-monitors").as_array().unwrap().len(), 1);
}

#[test]
fn a_monitor_that_deletes_itself_with_its_last_client() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    let path = vmm.dir().join("c.sock");
    let addr = json!({"type": "unix", "data": {"path": path}});
    let data = json!({"addr": addr, "server": true, "wait": false});
    client.call("chardev-add", json!({"id": "c", "backend": {"type": "socket", "data": data}})).unwrap();
    let monitor = json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c", "close-action": "delete"});
    client.call("object-add", monitor).unwrap();
    let mut guests = [Client::connect(&path).unwrap(), Client::connect(&path).unwrap()];
    guests.iter_mut().for_each(Client::negotiate);
    let [first, second] = guests;
    drop(first);
    assert!(client.call("qom-get", json!({"path": "/objects/m", "property": "chardev"})).is_ok());
    drop(second);
    let gone = poll_until(LIMIT, || {
        let left = client.run("query-chardev");
        left.as_array().unwrap().iter().all(|chardev| chardev["label"] != "c")
    });
    assert!(gone, "the chardev stays");
    assert!(poll_until(LIMIT, || !path.exists()));
    assert!(client.call("qom-get", json!({"path": "/objects/m", "property": "chardev"})).is_err());
}

#[test]
fn the_first_monitor_object_of_either_kind_shows_the_programs_own() {
    for kind in ["monitor-qmp", "monitor-hmp"] {
        let vmm = Vmm::start();
        let mut client = vmm.client(0);
        let names = |client: &mut Client| {
            let listed = client.call("qom-list", json!({"path": "/objects"})).unwrap();
            let names =
                listed.as_array().unwrap().iter().map(|object| object["name"].as_str().unwrap().to_owned());
            names.filter(|name| name != "type").collect::<Vec<_>>()
        };
        client.call("object-add", json!({"qom-type": "iothread", "id": "t"})).unwrap();
        assert_eq!(names(&mut client), ["t"]);
        client.call("chardev-add", json!({"id": "c", "backend": {"type": "null", "data": {}}})).unwrap();
        client.call("object-add", json!({"qom-type": kind, "id": "m", "chardev": "c"})).unwrap();
        let mut shown = names(&mut client);
        shown.sort();
        assert_eq!(shown, ["compat_monitor0", "m", "t"], "{kind}");
    }
}

#[test]
fn what_took_the_place_of_a_monitor_is_not_deleted_for_it() {
    let vmm = Vmm::start();
    let mut client = vmm.client(0);
    for round in 0..40 {
        let path = vmm.dir().join(format!("c{round}.sock"));
        let addr = json!({"type": "unix", "data": {"path": path}});
        let data = json!({"addr": addr, "server": true, "wait": false});
        client.call("chardev-add", json!({"id": "c", "backend": {"type": "socket", "data": data}})).unwrap();
        let monitor = json!({"qom-type": "monitor-qmp", "id": "m", "chardev": "c", "close-action": "delete"});
        client.call("object-add", monitor).unwrap();
        let mut guest = Client::connect(&path).unwrap();
        guest.negotiate();
        drop(guest);
        // Either the monitor is gone by itself by now, or it is deleted here; then something else takes its name.
        let _ = client.call("object-del", json!({"id": "m"}));
        client.call("object-add", json!({"qom-type": "iothread", "id": "m"})).unwrap();
        client.run("query-status");
        assert_eq!(client.call("object-del", json!({"id": "m"})), Ok(json!({})), "round {round}");
        let _ = client.call("chardev-remove", json!({"id": "c"}));
    }
}
