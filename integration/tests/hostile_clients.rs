//! Clients that misbehave in ways that QEMU bears too, so these run against either. After every one of them the server still
//! answers those that were there before, takes new ones, and has no descriptor more than it had. What only we promise is in
//! the suite `hostile`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::vmm::{Vmm, is_qemu};
use vmm_integration::wire::{self, MAX_FDS, dev_null};

/// A server with honest clients on it, who must not notice anything.
struct Scene {
    vmm: Vmm,
    honest: Vec<Client>,
    fds: usize,
}

impl Scene {
    /// The hostile clients come to monitor 0. Honest ones are on another monitor and, where a monitor serves several,
    /// beside them.
    fn new() -> Self {
        let vmm = Vmm::with_monitors(2);
        let honest = if is_qemu() { vec![vmm.client(1)] } else { vec![vmm.client(0), vmm.client(1)] };
        let mut scene = Self { vmm, honest, fds: 0 };
        scene.all_well();
        scene.fds = scene.vmm.fd_count();
        scene
    }

    #[track_caller]
    fn all_well(&mut self) {
        for client in &mut self.honest {
            client.run("query-name");
        }
    }

    /// What must hold once the hostile client is gone.
    #[track_caller]
    fn unharmed(mut self) {
        self.all_well();
        self.vmm.await_fd_count(self.fds);
        self.vmm.client(0).run("query-status");
        self.vmm.await_fd_count(self.fds);
        self.all_well();
        assert!(self.honest.iter_mut().all(|client| client.kept_events().is_empty()));
        assert!(self.vmm.process().is_running());
    }
}

fn nulls(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| dev_null().unwrap()).collect()
}

fn borrowed(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

#[test]
fn connects_and_leaves() {
    let scene = Scene::new();
    for _ in 0..200 {
        drop(scene.vmm.stranger(0));
    }
    scene.unharmed();
}

#[test]
fn connects_and_says_nothing() {
    let mut scene = Scene::new();
    let mute = scene.vmm.stranger(0);
    scene.all_well();
    drop(mute);
    scene.unharmed();
}

#[test]
fn dies_with_a_command_half_sent() {
    let scene = Scene::new();
    let command = br#"{"execute": "getfd", "arguments": {"fdname": "x"}}"#;
    let null = dev_null().unwrap();
    for cut in 1..command.len() {
        let mut client = scene.vmm.client(0);
        client.send_with_fds(&command[..cut], &[null.as_fd()]);
    }
    scene.unharmed();
}

#[test]
fn dies_with_descriptors_under_way() {
    let scene = Scene::new();
    let fds = nulls(10);
    for _ in 0..30 {
        let mut client = scene.vmm.client(0);
        for _ in 0..4 {
            client.send_with_fds(r#"{"execute": "query-name"}"#, &borrowed(&fds));
        }
    }
    scene.unharmed();
}

#[test]
fn floods_descriptors() {
    let mut scene = Scene::new();
    let fds = nulls(MAX_FDS);
    let rounds = if is_qemu() { 4 } else { 20 };
    let mut client = scene.vmm.client(0);
    for round in 0..rounds {
        let request = format!("{{\"execute\": \"query-name\", \"id\": {round}}}");
        client.send_with_fds(request, &borrowed(&fds));
        assert_eq!(client.reply()["id"], round);
        assert!(scene.vmm.fd_count() <= scene.fds + 1 + MAX_FDS, "the newest message's only");
    }
    scene.all_well();
    // Thousands, without waiting: one message after the other replaces what came before.
    for round in 0..rounds {
        let request = format!("{{\"execute\": \"query-name\", \"id\": {round}}}");
        client.send_with_fds(request, &borrowed(&fds));
    }
    for round in 0..rounds {
        assert_eq!(client.reply()["id"], round);
    }
    drop(client);
    scene.unharmed();
}

#[test]
fn floods_descriptors_that_a_command_takes() {
    let scene = Scene::new();
    let fds = nulls(MAX_FDS);
    let mut client = scene.vmm.client(0);
    for _ in 0..if is_qemu() { 2 } else { 20 } {
        client.call_with_fds("getfd", json!({"fdname": "one"}), &borrowed(&fds)).unwrap();
        assert_eq!(scene.vmm.fd_count(), scene.fds + 2, "the connection and the one fd");
    }
    client.call("closefd", json!({"fdname": "one"})).unwrap();
    drop(client);
    scene.unharmed();
}

#[test]
fn attaches_descriptors_to_garbage() {
    let scene = Scene::new();
    let fds = nulls(20);
    let mut client = scene.vmm.client(0);
    for garbage in ["@", "}{", "[\u{1}", "\0\0\0", "{\"execute\":", "\u{1}"] {
        client.send_with_fds(garbage, &borrowed(&fds));
    }
    client.send(r#"{"execute": "query-name", "id": "after"}"#);
    loop {
        let reply = client.reply();
        if reply.get("id").is_some_and(|id| id == "after") {
            break;
        }
        assert_eq!(reply["error"]["class"], "GenericError");
    }
    assert!(scene.vmm.fd_count() <= scene.fds + 1 + fds.len());
    drop(client);
    scene.unharmed();
}

#[test]
fn attaches_descriptors_before_negotiation_and_leaves() {
    let scene = Scene::new();
    let fds = nulls(50);
    for _ in 0..20 {
        let mut client = scene.vmm.stranger(0);
        client.send_with_fds(" ", &borrowed(&fds));
    }
    scene.unharmed();
}

/// A descriptor can be the very connection that it is sent over, or one that its sender never reads.
#[test]
fn passes_its_own_connection() {
    let scene = Scene::new();
    let mut client = scene.vmm.client(0);
    let own = OwnedFd::from(client.socket().try_clone().unwrap());
    client.getfd("own", &own).unwrap();
    client.call("closefd", json!({"fdname": "own"})).unwrap();
    client.getfd("own", &own).unwrap();
    client.call("closefd", json!({"fdname": "own"})).unwrap();
    client.run("query-name");
    drop((client, own));
    scene.unharmed();
}

#[test]
fn never_reads() {
    let mut scene = Scene::new();
    let mut client = scene.vmm.client(0);
    // Until the server takes no more of it: its replies are large and nobody reads them.
    client.socket().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let batch = "{\"execute\": \"query-commands\"}".repeat(if is_qemu() { 10 } else { 1000 });
    for _ in 0..if is_qemu() { 3 } else { 500 } {
        match client.try_send(batch.as_bytes(), &[]) {
            Ok(()) => scene.all_well(),
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock, "it pushes back, it does not hang up");
                break;
            }
        }
    }
    scene.all_well();
    if !is_qemu() {
        assert!(scene.vmm.process().rss_kib() < 200_000, "unread replies are not kept without end");
    }
    drop(client);
    scene.unharmed();
}

/// Replies that were held back come, all of them, once the client reads.
#[test]
fn reads_late() {
    let mut scene = Scene::new();
    let mut client = scene.vmm.client(0);
    let count = if is_qemu() { 100 } else { 5000 };
    let mut writer = client.socket().try_clone().unwrap();
    let sending = thread::spawn(move || {
        let request = "{\"execute\": \"query-commands\"}";
        Write::write_all(&mut writer, request.repeat(count).as_bytes())
    });
    scene.all_well();
    for _ in 0..count {
        assert!(client.reply()["return"].is_array());
    }
    sending.join().unwrap().unwrap();
    drop(client);
    scene.unharmed();
}

#[test]
fn half_closes_after_its_commands() {
    let scene = Scene::new();
    let mut client = scene.vmm.client(0);
    client.send(r#"{"execute": "query-name", "id": 1}{"execute": "query-name", "id": 2}{"exec"#);
    client.socket().shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.reply()["id"], 1);
    assert_eq!(client.reply()["id"], 2);
    assert_eq!(client.next_line(), None);
    scene.unharmed();
}

#[test]
fn half_closes_at_once() {
    let scene = Scene::new();
    for _ in 0..20 {
        let mut client = scene.vmm.stranger(0);
        client.socket().shutdown(Shutdown::Write).unwrap();
        client.rest();
    }
    scene.unharmed();
}

#[test]
fn sends_reset_bytes() {
    let mut scene = Scene::new();
    let mut client = scene.vmm.client(0);
    client.send(
        [&b"{\"execute\": [[\"never ends"[..], b"\xff{\"execute\": \"query-name\", \"id\": 7}"].concat(),
    );
    assert!(client.reply()["error"]["desc"].as_str().unwrap().starts_with("JSON parse error"));
    assert_eq!(client.reply()["id"], 7);
    let floods = if is_qemu() { 500 } else { 20_000 };
    client.send(vec![0xff; floods]);
    for _ in 0..floods {
        assert!(client.reply().get("error").is_some());
    }
    scene.all_well();
    client.run("query-name");
    drop(client);
    scene.unharmed();
}

#[test]
fn nests_without_end() {
    let mut scene = Scene::new();
    let mut client = scene.vmm.client(0);
    let deep = if is_qemu() { 5_000 } else { 1_000_000 };
    client.send("[".repeat(1025));
    assert_eq!(client.reply()["error"]["desc"], "JSON nesting depth limit exceeded");
    let mut writer = client.socket().try_clone().unwrap();
    let sending = thread::spawn(move || Write::write_all(&mut writer, "{\"a\":".repeat(deep).as_bytes()));
    scene.all_well();
    // What its answers are depends on where each limit falls; that the session ends up usable does not.
    let mut drain = Client::over(client.socket().try_clone().unwrap()).unwrap();
    let reading = thread::spawn(move || {
        loop {
            let reply = drain.reply();
            if reply.get("id").is_some_and(|id| id == "after") {
                break;
            }
        }
    });
    sending.join().unwrap().unwrap();
    client.send("\u{1}\n{\"execute\": \"query-name\", \"id\": \"after\"}");
    reading.join().unwrap();
    drop(client);
    scene.unharmed();
}

#[test]
fn sends_one_byte_at_a_time() {
    let mut scene = Scene::new();
    let mut client = scene.vmm.client(0);
    for _ in 0..20 {
        for byte in br#"{"execute": "query-name", "id": "slow"}"# {
            client.send([*byte]);
        }
        assert_eq!(client.reply()["id"], "slow");
    }
    scene.all_well();
    drop(client);
    scene.unharmed();
}

#[test]
fn sends_noise() {
    let scene = Scene::new();
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    for _ in 0..if is_qemu() { 3 } else { 30 } {
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(2000)
        .collect();
        let socket = UnixStream::connect(scene.vmm.socket(0)).unwrap();
        let mut reader = socket.try_clone().unwrap();
        let reading = thread::spawn(move || {
            let mut all = Vec::new();
            // A reset at the end is as good as an end.
            let _ = reader.read_to_end(&mut all);
            all.len()
        });
        wire::send(&socket, &noise, &[]).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        assert!(reading.join().unwrap() > 0, "at least the greeting");
    }
    scene.unharmed();
}
