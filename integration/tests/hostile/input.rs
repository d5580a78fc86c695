//! Bytes: too many, too deep, too slow, half of them, none of them text.

use std::io::Write;
use std::net::Shutdown;
use std::time::Duration;

use serde_json::json;
use vmm_integration::client::Client;
use vmm_integration::random::Random;
use vmm_integration::wire::dev_null;

use crate::frame::{Scene, Stage, attack};
use crate::tools::drain;

/// What the allocator may keep of a message of many MiB.
const LARGE: Stage = Stage { extra: &[], options: "", under: Vec::new(), uid: None, slack: 48 << 10 };

/// A client that has asked something after all the rest, and been answered.
fn comes_through(client: &mut Client) {
    client.send("\u{1}\n{\"execute\": \"query-name\", \"id\": \"after\"}");
    while client.reply().get("id").is_none_or(|id| id != "after") {}
}

/// Sends all this and reads what comes meanwhile.
fn flood(scene: &Scene, bytes: Vec<u8>) {
    let mut client = scene.client();
    let mut writer = client.socket().try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(&bytes));
    let mut drained = Client::over(client.socket().try_clone().unwrap()).unwrap();
    let reading =
        std::thread::spawn(move || while drained.reply().get("id").is_none_or(|id| id != "after") {});
    scene.hold();
    sending.join().unwrap().unwrap();
    client.send("\u{1}\n{\"execute\": \"query-name\", \"id\": \"after\"}");
    reading.join().unwrap();
}

#[test]
fn objects_nest_without_end() {
    LARGE.attack(|scene| flood(scene, "{\"a\":".repeat(1_000_000).into_bytes()));
}

#[test]
fn arrays_nest_without_end() {
    LARGE.attack(|scene| flood(scene, "[".repeat(1_000_000).into_bytes()));
}

#[test]
fn nests_as_deep_as_it_may_many_times() {
    attack(|scene| {
        let value = format!("{}1{}", "[".repeat(1000), "]".repeat(1000));
        flood(
            scene,
            format!("{{\"execute\": \"query-name\", \"arguments\": {{\"x\": {value}}}}}")
                .repeat(100)
                .into_bytes(),
        );
    });
}

#[test]
fn one_token_without_end() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        client.send("{\"execute\": \"query-name\", \"id\": \"");
        let chunk = vec![b'x'; 1 << 20];
        for _ in 0..65 {
            client.send(&chunk);
        }
        assert_eq!(client.reply()["error"]["desc"], "JSON token size limit exceeded");
        comes_through(&mut client);
        scene.hold();
    });
}

#[test]
fn one_token_without_end_that_its_client_leaves() {
    LARGE.attack(|scene| {
        for _ in 0..3 {
            let mut client = scene.client();
            client.send("{\"execute\": \"query-name\", \"id\": \"");
            client.send(vec![b'x'; 20 << 20]);
        }
        scene.hold();
    });
}

#[test]
fn an_array_that_is_never_finished() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        client.send("{\"execute\": \"query-name\", \"id\": [");
        client.send("1,".repeat(1_000_000));
        scene.hold();
    });
}

#[test]
fn an_object_of_many_members_that_is_never_finished() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        client.send("{\"execute\": \"query-name\", \"id\": {");
        let members: Vec<u8> = (0..200_000).flat_map(|n| format!("\"{n}\":{n},").into_bytes()).collect();
        client.send(members);
        scene.hold();
    });
}

#[test]
fn an_object_of_members_that_meet_in_a_table() {
    attack(|scene| {
        let mut client = scene.client();
        // The same name again and again: each is a complaint about the whole.
        let request =
            format!("{{\"execute\": \"query-name\", \"id\": {{{}\"a\": 1}}}}", "\"a\": 1,".repeat(20_000));
        for _ in 0..5 {
            client.send(&request);
            assert!(client.reply().get("error").is_some());
        }
        scene.hold();
    });
}

#[test]
fn an_id_of_ten_megabytes_comes_back() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        let id = "i".repeat(10 << 20);
        for _ in 0..3 {
            client.send(format!("{{\"execute\": \"query-name\", \"id\": \"{id}\"}}"));
            assert_eq!(client.reply()["id"].as_str().map(str::len), Some(10 << 20));
        }
        scene.hold();
    });
}

#[test]
fn an_id_that_grows_when_it_is_written() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        // One byte comes in, six go out.
        client.send(format!("{{\"execute\": \"query-name\", \"id\": \"{}\"}}", "\u{7f}".repeat(1 << 20)));
        assert_eq!(client.reply()["id"].as_str().map(str::len), Some(1 << 20));
        scene.hold();
    });
}

#[test]
fn a_command_name_of_a_megabyte() {
    LARGE.attack(|scene| {
        let mut client = scene.client();
        for _ in 0..5 {
            client.send(format!("{{\"execute\": \"{}\"}}", "x".repeat(1 << 20)));
            assert_eq!(client.reply()["error"]["class"], "CommandNotFound");
        }
        scene.hold();
    });
}

#[test]
fn one_byte_at_a_time() {
    attack(|scene| {
        let mut client = scene.client();
        for _ in 0..20 {
            for byte in br#"{"execute": "query-name", "id": "slow"}"# {
                client.send([*byte]);
            }
            assert_eq!(client.reply()["id"], "slow");
        }
        scene.hold();
    });
}

#[test]
fn zero_bytes() {
    attack(|scene| flood(scene, vec![0; 20_000]));
}

#[test]
fn bytes_that_reset() {
    attack(|scene| flood(scene, vec![0xff; 20_000]));
}

#[test]
fn text_that_is_none() {
    attack(|scene| {
        let mut bytes = Vec::new();
        for bad in [&b"\xc0\xaf"[..], b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xfe"] {
            for _ in 0..500 {
                bytes.extend_from_slice(b"{\"execute\": \"query-name\", \"id\": \"");
                bytes.extend_from_slice(bad);
                bytes.extend_from_slice(b"\"}");
            }
        }
        flood(scene, bytes);
    });
}

#[test]
fn escapes_of_every_kind() {
    attack(|scene| {
        let escapes = [r"\ud800", r"\udfff\ud800", r"\u0000", r"\uffff", r"\x", r"\u12", r"\"];
        let requests =
            escapes.map(|escape| format!("{{\"execute\": \"query-name\", \"id\": \"{escape}\"}}\u{1}"));
        flood(scene, requests.concat().repeat(300).into_bytes());
    });
}

#[test]
fn numbers_that_are_too_large() {
    attack(|scene| {
        let mut client = scene.client();
        let digits = "9".repeat(20_000);
        for number in
            [format!("1{digits}"), format!("-{digits}"), format!("0.{digits}"), "1e999999999".into()]
        {
            for _ in 0..5 {
                client.send(format!("{{\"execute\": \"query-name\", \"id\": {number}}}"));
                // QEMU writes an infinity as it is, too, which is no JSON.
                client.line();
            }
        }
        client.run("query-name");
        scene.hold();
    });
}

#[test]
fn noise() {
    attack(|scene| {
        let mut random = Random(7);
        let noise = std::iter::repeat_with(|| random.number().to_le_bytes()).take(20_000).flatten().collect();
        flood(scene, noise);
    });
}

#[test]
fn noise_that_is_nearly_a_request() {
    attack(|scene| {
        let mut random = Random(11);
        let request = br#"{"execute": "object-add", "arguments": {"qom-type": "iothread", "id": "z"}}"#;
        let mut bytes = Vec::new();
        for _ in 0..3000 {
            let mut broken = request.to_vec();
            for _ in 0..=random.index(3) {
                let at = random.index(broken.len());
                broken[at] = random.pick(b"{}[]\",:\\\x01 0a\xff");
            }
            bytes.extend(broken);
            bytes.push(b'\n');
        }
        flood(scene, bytes);
        // Some of them may have been right.
        let mut client = scene.client();
        for iothread in client.run("query-iothreads").as_array().unwrap() {
            client.call("object-del", json!({"id": iothread["id"]})).unwrap();
        }
    });
}

#[test]
fn ten_thousand_requests_in_one_write() {
    attack(|scene| {
        let mut client = scene.client();
        let count = 10_000;
        let mut writer = client.socket().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            writer.write_all("{\"execute\": \"query-name\"}".repeat(count).as_bytes())
        });
        for _ in 0..count {
            assert!(client.reply()["return"].is_object());
        }
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn a_flood_from_sixteen_clients() {
    attack(|scene| {
        let floods: Vec<_> = (0..16)
            .map(|_| {
                let client = scene.client();
                let mut writer = client.socket().try_clone().unwrap();
                let reading = drain(client.socket().try_clone().unwrap());
                let sending = std::thread::spawn(move || {
                    let requests = "{\"execute\": \"query-version\"}".repeat(3000);
                    writer.write_all(requests.as_bytes()).unwrap();
                    writer.shutdown(Shutdown::Write).unwrap();
                });
                (client, reading, sending)
            })
            .collect();
        scene.hold();
        for (client, reading, sending) in floods {
            sending.join().unwrap();
            reading.join().unwrap();
            drop(client);
        }
    });
}

#[test]
fn requests_left_half_sent() {
    attack(|scene| {
        let request = br#"{"execute": "getfd", "arguments": {"fdname": "x"}}"#;
        let null = dev_null().unwrap();
        for cut in 1..request.len() {
            let mut client = scene.client();
            client.send_with_fds(&request[..cut], &[std::os::fd::AsFd::as_fd(&null)]);
        }
        scene.hold();
    });
}

#[test]
fn blanks_without_end() {
    attack(|scene| flood(scene, vec![b' '; 8 << 20]));
}

#[test]
fn malformed_requests_with_out_of_band_on() {
    attack(|scene| {
        let mut client = scene.stranger();
        client.greeting();
        client.call("qmp_capabilities", json!({"enable": ["oob"]})).unwrap();
        let floods = 3000;
        let mut writer = client.socket().try_clone().unwrap();
        // One byte ends two messages at "1@": a number, and a stray character.
        let sending =
            std::thread::spawn(move || writer.write_all("1@{]{\"exec-oob\": 1}".repeat(floods).as_bytes()));
        for _ in 0..4 * floods {
            assert!(client.reply().get("error").is_some());
        }
        sending.join().unwrap().unwrap();
        client.run("query-name");
    });
}

#[test]
fn out_of_band_requests_overtake_without_end() {
    attack(|scene| {
        let mut client = scene.stranger();
        client.greeting();
        client.call("qmp_capabilities", json!({"enable": ["oob"]})).unwrap();
        let count = 4000;
        let mut writer = client.socket().try_clone().unwrap();
        let sending = std::thread::spawn(move || {
            let both = r#"{"execute": "query-name"}{"exec-oob": "query-yank"}"#;
            writer.write_all(both.repeat(count).as_bytes())
        });
        for _ in 0..2 * count {
            assert!(client.reply().get("return").is_some());
        }
        sending.join().unwrap().unwrap();
    });
}

#[test]
fn a_request_that_takes_its_time() {
    attack(|scene| {
        let mut client = scene.client();
        client.socket().set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // It is everybody's right to be slow: nobody is cut off for it while there is room.
        for piece in [&b"{\"exec"[..], b"ute\": \"query-", b"name\", \"id\": 3}"] {
            client.send(piece);
            scene.hold();
        }
        assert_eq!(client.reply()["id"], 3);
    });
}
