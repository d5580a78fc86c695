//! Connections: storms of them, silent ones, ones that never get to the point.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::wire;

use crate::frame::{Scene, Stage, attack, done};
use crate::tools::{Again, without_monitor};

#[test]
fn connects_and_leaves() {
    attack(|scene| {
        for _ in 0..500 {
            drop(scene.stranger());
        }
        scene.hold();
    });
}

#[test]
fn a_storm_of_connections_from_four_threads() {
    attack(|scene| {
        let storm: Vec<_> = (0..4)
            .map(|_| {
                let path = scene.socket();
                Again::and_again(move || drop(UnixStream::connect(&path)))
            })
            .collect();
        for _ in 0..5 {
            scene.hold();
        }
        drop(storm);
    });
}

#[test]
fn says_nothing() {
    attack(|scene| {
        let mute: Vec<_> = (0..20).map(|_| scene.stranger()).collect();
        scene.hold();
        drop(mute);
    });
}

/// All places but the witness's, and more that wait for one.
#[test]
fn every_place_is_taken_by_somebody_silent() {
    attack(|scene| {
        let mute: Vec<_> = (0..63).map(|_| scene.client()).collect();
        let waiting: Vec<_> = (0..60).map(|_| UnixStream::connect(scene.socket())).collect();
        scene.hold();
        // Elsewhere there is room.
        scene.vmm().client(1).run("query-name");
        drop(waiting);
        drop(mute);
    });
}

#[test]
fn places_are_given_up_and_taken_all_the_time() {
    attack(|scene| {
        let mut held: Vec<Client> = (0..62).map(|_| scene.client()).collect();
        for _ in 0..200 {
            held.remove(0);
            held.push(scene.client());
        }
        scene.hold();
    });
}

#[test]
fn half_closes_at_once() {
    attack(|scene| {
        for _ in 0..50 {
            let mut client = scene.stranger();
            client.socket().shutdown(Shutdown::Write).unwrap();
            client.rest();
        }
        scene.hold();
    });
}

fn refuses(client: &mut Client, request: &str) {
    client.send(request);
    let reply = client.reply();
    assert!(reply.get("error").is_some(), "{reply}");
}

#[test]
fn never_negotiates() {
    attack(|scene| {
        let mut client = scene.stranger();
        client.greeting();
        for _ in 0..500 {
            refuses(&mut client, r#"{"execute": "quit"}"#);
            refuses(&mut client, r#"{"exec-oob": "query-yank"}"#);
        }
        scene.hold();
    });
}

#[test]
fn negotiates_twice() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..100 {
            refuses(&mut client, r#"{"execute": "qmp_capabilities"}"#);
            client.run("query-name");
        }
        scene.hold();
    });
}

#[test]
fn negotiates_for_what_is_not_there() {
    attack(|scene| {
        let mut client = scene.stranger();
        client.greeting();
        let many = vec![json!("oob"); 10_000];
        let long = "o".repeat(100_000);
        for enable in [json!(["nothing"]), json!([long]), json!("oob"), json!([7]), Value::from(many)] {
            // The last one is no lie, only long.
            let _ = client.call("qmp_capabilities", json!({"enable": enable}));
        }
        scene.hold();
        client.run("query-name");
    });
}

#[test]
fn turns_all_events_on_and_off() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..200 {
            let _ = client.call("x-events", json!({"enable": ["RTC_CHANGE", "VFU_CLIENT_HANGUP"]}));
            let _ = client.call("x-events", json!({"disable": ["RTC_CHANGE", "nonsense"]}));
        }
        scene.hold();
    });
}

#[test]
fn hangs_up_on_everybody_again_and_again() {
    attack(|scene| {
        // On a monitor of its own: by right it could do so to any.
        let path = scene.path("own.sock");
        let mut client = scene.client();
        done(&mut client, "chardev-add", crate::tools::listener_on("own", &path));
        done(&mut client, "object-add", crate::tools::monitor_on("m", "own"));
        for _ in 0..50 {
            let others: Vec<_> = (0..5).map(|_| UnixStream::connect(&path).unwrap()).collect();
            done(&mut client, "yank", json!({"instances": [{"type": "chardev", "id": "own"}]}));
            drop(others);
        }
        scene.hold();
        without_monitor(&mut client, "m", "own");
    });
}

fn monitors_come_and_go(scene: &Scene, client: &mut Client, number: usize, connected: bool) {
    let (chardev, monitor) = (format!("c{number}"), format!("m{number}"));
    let path = scene.path(&format!("{chardev}.sock"));
    done(client, "chardev-add", crate::tools::listener_on(&chardev, &path));
    done(client, "object-add", crate::tools::monitor_on(&monitor, &chardev));
    let other = connected.then(|| UnixStream::connect(&path).unwrap());
    if let Some(other) = &other {
        wire::send(other, br#"{"execute": "qmp_capabilities"}{"execute": "query-commands"}{"#, &[]).unwrap();
    }
    without_monitor(client, &monitor, &chardev);
}

#[test]
fn monitors_come_and_go_in_a_storm() {
    attack(|scene| {
        let mut client = scene.client();
        for number in 0..100 {
            monitors_come_and_go(scene, &mut client, number, false);
        }
        scene.hold();
    });
}

#[test]
fn monitors_go_while_they_are_used() {
    attack(|scene| {
        let mut client = scene.client();
        for number in 0..30 {
            monitors_come_and_go(scene, &mut client, number, true);
        }
        scene.hold();
    });
}

#[test]
fn monitors_go_from_two_sides_at_once() {
    attack(|scene| {
        let storm: Vec<_> = (0..2)
            .map(|_| {
                let mut client = scene.client();
                let path = scene.path("same.sock");
                Again::and_again(move || {
                    // Each may have been first.
                    let _ = client.call("chardev-add", crate::tools::listener_on("same", &path));
                    let _ = client.call("object-add", crate::tools::monitor_on("same", "same"));
                    let _ = client.call("object-del", json!({"id": "same"}));
                    let _ = client.call("chardev-remove", json!({"id": "same"}));
                })
            })
            .collect();
        for _ in 0..5 {
            scene.hold();
        }
        drop(storm);
        let mut client = scene.client();
        let _ = client.call("object-del", json!({"id": "same"}));
        let _ = client.call("chardev-remove", json!({"id": "same"}));
    });
}

#[test]
fn a_session_ends_its_own_monitor() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..20 {
            let path = scene.path("own.sock");
            done(&mut client, "chardev-add", crate::tools::listener_on("own", &path));
            done(&mut client, "object-add", crate::tools::monitor_on("m", "own"));
            let mut own = Client::connect(std::path::Path::new(&path)).unwrap();
            own.negotiate();
            own.send(r#"{"execute": "object-del", "arguments": {"id": "m"}}"#);
            // It may be refused, as somebody uses it: who asks.
            let _ = own.next_line();
            let gone = vmm_integration::poll_until(vmm_integration::LIMIT, || {
                let _ = client.call("object-del", json!({"id": "m"}));
                client.call("chardev-remove", json!({"id": "own"})).is_ok()
            });
            assert!(gone);
        }
        scene.hold();
    });
}

#[test]
fn a_monitor_for_one_client_is_held_by_a_silent_one() {
    let stage = Stage { options: "max-clients=2", ..Stage::default() };
    stage.attack(|scene| {
        let holder = scene.client();
        let waiting: Vec<_> = (0..50).map(|_| UnixStream::connect(scene.socket())).collect();
        scene.hold();
        drop(waiting);
        drop(holder);
    });
}
