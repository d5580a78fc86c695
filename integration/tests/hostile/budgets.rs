//! What many clients hold together, where each keeps within its own limits.

use std::os::fd::AsFd;
use std::time::Duration;

use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::wire::MAX_FDS;

use crate::frame::{Scene, Stage, done};
use crate::tools::{borrowed, nulls};

/// 32 MiB and 64 descriptors for all sessions. What the allocator keeps of the former may stay.
const LITTLE: Stage = Stage {
    extra: &["-budget", "memory=32M,fds=64"],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 40 << 10,
};

/// Sends as much as is taken, and throws away what comes.
fn keeps_on(client: &mut Client, bytes: &[u8]) {
    client.socket().set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let _ = client.try_send(bytes, &[]);
}

/// So many clients, each from `open`, that keep on sending this. Meanwhile the process grows by less than `most` MiB.
#[track_caller]
fn keep_on(scene: &Scene, count: usize, open: fn(&Scene) -> Client, bytes: &[u8], most: u64) -> Vec<Client> {
    let before = scene.rss_kib();
    let mut clients: Vec<_> = (0..count).map(|_| open(scene)).collect();
    for client in &mut clients {
        keeps_on(client, bytes);
    }
    let grown = scene.rss_kib().saturating_sub(before) >> 10;
    assert!(grown < most, "{grown} MiB where 32 may be held");
    scene.hold();
    clients
}

#[test]
fn many_unfinished_values() {
    LITTLE.attack(|scene| {
        let value = format!("{{\"execute\": \"query-name\", \"id\": [{}", "1,".repeat(2_000_000));
        let mut clients = keep_on(scene, 16, Scene::client, value.as_bytes(), 100);
        // Those that had to give are told so, and are there as before.
        let heard = |client: &mut Client| !client.is_silent_for(Duration::from_millis(1));
        let told = clients.iter_mut().map(heard).filter(|heard| *heard).count();
        assert!(told > 0, "somebody had to give");
    });
}

#[test]
fn many_tokens_that_do_not_end() {
    LITTLE.attack(|scene| {
        let value = format!("{{\"execute\": \"query-name\", \"id\": \"{}", "x".repeat(8 << 20));
        keep_on(scene, 16, Scene::client, value.as_bytes(), 100);
    });
}

#[test]
fn many_replies_that_nobody_reads() {
    LITTLE.attack(|scene| {
        let requests = "{\"execute\": \"query-qmp-schema\"}".repeat(200);
        keep_on(scene, 16, Scene::client, requests.as_bytes(), 120);
    });
}

#[test]
fn requests_that_wait_out_of_band() {
    LITTLE.attack(|scene| {
        let out_of_band = |scene: &Scene| {
            let mut client = scene.stranger();
            client.greeting();
            done(&mut client, "qmp_capabilities", json!({"enable": ["oob"]}));
            client
        };
        let large = format!("{{\"execute\": \"query-name\", \"id\": [{}1]}}", "[],".repeat(100_000));
        keep_on(scene, 8, out_of_band, large.repeat(8).as_bytes(), 150);
    });
}

#[test]
fn descriptors_that_wait_in_many_sessions() {
    LITTLE.attack(|scene| {
        let fds = nulls(MAX_FDS);
        let mut clients: Vec<_> = (0..10).map(|_| scene.client()).collect();
        for client in &mut clients {
            client.send_with_fds(" ", &borrowed(&fds));
            client.run("query-name");
        }
        scene.hold();
        // The connections, what the budget lets them hold, and one session's that is about to give.
        let most = 10 + 64 + MAX_FDS;
        assert!(scene.more_fds() <= most, "{} descriptors", scene.more_fds());
    });
}

#[test]
fn descriptors_with_names_in_many_sessions() {
    LITTLE.attack(|scene| {
        let null = vmm_integration::wire::dev_null().unwrap();
        let mut clients: Vec<_> = (0..10).map(|_| scene.client()).collect();
        for number in 0..40 {
            for client in &mut clients {
                // Some are told that there are too many.
                let _ =
                    client.call_with_fds("getfd", json!({"fdname": format!("n{number}")}), &[null.as_fd()]);
            }
        }
        scene.hold();
        assert!(scene.more_fds() <= 10 + 64 + 10, "{} descriptors", scene.more_fds());
        // Whoever holds next to nothing has not paid for that.
        let mut modest = scene.client();
        modest.getfd("one", &null).unwrap();
        done(&mut modest, "closefd", json!({"fdname": "one"}));
    });
}

#[test]
fn descriptors_in_sets_without_end() {
    LITTLE.attack(|scene| {
        let null = vmm_integration::wire::dev_null().unwrap();
        let mut client = scene.client();
        let mut added = 0;
        for _ in 0..100 {
            added += usize::from(client.call_with_fds("add-fd", json!({}), &[null.as_fd()]).is_ok());
        }
        assert!((1..=64).contains(&added), "{added} were added");
        scene.hold();
        for set in 0..added {
            done(&mut client, "remove-fd", json!({"fdset-id": set}));
        }
    });
}
