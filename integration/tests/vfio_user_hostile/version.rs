//! `VERSION`: it is the first message, and it is a text from a stranger.

use std::fmt::Write as _;
use std::os::fd::AsFd;

use serde_json::{Value, json};
use vmm_integration::vfio_user::fds::Tracer;
use vmm_integration::vfio_user::payload::{self, QEMU_TEXT, qemu_version, version};
use vmm_integration::vfio_user::peer::Choice;
use vmm_integration::vfio_user::{DmaMap, Message, Scene, command, flags};

/// A text that must be refused: the connection ends.
#[track_caller]
fn refused(texts: &[&[u8]]) {
    let scene = Scene::edu();
    for text in texts {
        let mut peer = scene.stranger();
        peer.send(&version(0, 1, text));
        peer.ended();
    }
    scene.unharmed();
}

/// A text that must be taken.
#[track_caller]
fn taken(texts: &[&str]) {
    let scene = Scene::edu();
    for text in texts {
        let mut peer = scene.peer_after(&version(0, 1, format!("{text}\0")));
        peer.in_step();
    }
    scene.unharmed();
}

/// A text that may be taken or not.
#[track_caller]
fn survived(texts: &[&[u8]]) {
    let scene = Scene::edu();
    for text in texts {
        let mut peer = scene.stranger();
        peer.tolerates(&version(0, 1, text), &[]);
    }
    scene.unharmed();
}

fn text_of(reply: &[u8]) -> Value {
    let (nul, text) = reply[4..].split_last().unwrap();
    assert_eq!(*nul, 0, "the text must end in a NUL");
    serde_json::from_slice(text).unwrap()
}

#[test]
fn the_answer_fits_qemu() {
    let scene = Scene::edu();
    let mut peer = scene.stranger();
    let reply = peer.ok(&qemu_version());
    assert!(reply.len() + 16 <= 200, "{} bytes", reply.len() + 16);
    assert_eq!(reply[..4], [0; 4], "version 0.0");
    let text = text_of(&reply);
    let said = text["capabilities"].as_object().unwrap();
    assert_ne!(said.get("write_multiple"), Some(&json!(true)), "{text}");
    assert!(said.get("twin_socket").is_none(), "not offered: {text}");
    let number = |name: &str, default: u64| said.get(name).map_or(default, |value| value.as_u64().unwrap());
    assert!((1..=16).contains(&number("max_msg_fds", 1)), "{text}");
    assert_eq!(number("max_data_xfer_size", 1 << 20), 1 << 20);
    assert!((1..=65535).contains(&number("max_dma_maps", 65535)), "{text}");
    let pages = number("pgsizes", 4096);
    assert!(pages != 0 && pages.is_multiple_of(4096), "{text}");
    drop(peer);
    scene.unharmed();
}

#[test]
fn nothing_is_agreed_to_that_was_not_offered() {
    let scene = Scene::edu();
    for text in ["{}", "{\"capabilities\": {}}"] {
        let mut peer = scene.stranger();
        let text = text_of(&peer.negotiate_with(text));
        for name in ["twin_socket", "write_multiple", "migration"] {
            assert!(matches!(text["capabilities"].get(name), None | Some(Value::Bool(false))), "{text}");
        }
    }
    scene.unharmed();
}

#[test]
fn the_minor_version_is_the_lesser_one() {
    let scene = Scene::edu();
    for minor in [0, 1, 2, 3, 0x7fff, u16::MAX] {
        let mut peer = scene.stranger();
        let reply = peer.ok(&version(0, minor, "{}\0"));
        let ours = u16::from_ne_bytes([reply[2], reply[3]]);
        assert_eq!(reply[..2], [0; 2]);
        assert!(ours <= minor && ours < 16, "{ours} for {minor}");
        peer.in_step();
    }
    scene.unharmed();
}

#[test]
fn another_major_version_is_refused() {
    let scene = Scene::edu();
    for major in [1, 2, 0x100, u16::MAX] {
        let mut peer = scene.stranger();
        peer.send(&version(major, 0, QEMU_TEXT));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_text_is_optional() {
    let scene = Scene::edu();
    scene.peer_after(&version(0, 1, [])).in_step();
    scene.unharmed();
}

#[test]
fn every_member_is_optional() {
    taken(&["{}", "{\"capabilities\": {}}", "{\"capabilities\": {\"max_msg_fds\": 1}}"]);
}

#[test]
fn unknown_members_are_ignored() {
    taken(&[
        "{\"x\": [1, {\"y\": null}], \"capabilities\": {\"z\": {\"max_msg_fds\": -1}, \"w\": 1e300}}",
        "{\"capabilities\": {\"Max_Msg_Fds\": \"x\"}, \"\": 0}",
    ]);
}

#[test]
fn white_space_and_escapes_are_json() {
    taken(&[" \t\r\n{ \"capabilities\" : { \"max_msg_fds\" : 1 } } ", "{\"\\u0063apabilities\": {}}"]);
}

#[test]
fn a_text_needs_its_nul() {
    refused(&[b"{}", b"{\"capabilities\": {}}", b"x", b"{"]);
}

#[test]
fn inner_nuls_do_no_harm() {
    survived(&[b"{}\0\0", b"{}\0{}\0", b"\0{}\0", b"\0", b"\0\0\0\0", b"{\"a\0b\": 1}\0"]);
}

#[test]
fn what_is_not_json_is_refused() {
    refused(&[b"{\0", b"}\0", b"{]\0", b"{\"capabilities\": }\0", b"{} {}\0", b"hello\0", b"{'a': 1}\0"]);
}

#[test]
fn what_is_not_utf_8_is_refused() {
    refused(&[b"{\"\xff\xfe\": 1}\0", b"\xc0\x80\0", b"{\"capabilities\": \"\xed\xa0\x80\"}\0"]);
}

#[test]
fn a_text_is_an_object() {
    refused(&[b"[]\0", b"null\0", b"1\0", b"\"capabilities\"\0", b"true\0"]);
}

#[test]
fn capabilities_are_an_object() {
    refused(&[
        b"{\"capabilities\": []}\0",
        b"{\"capabilities\": 1}\0",
        b"{\"capabilities\": \"max_msg_fds\"}\0",
        b"{\"capabilities\": true}\0",
    ]);
}

#[test]
fn numbers_are_integers() {
    refused(&[
        b"{\"capabilities\": {\"max_msg_fds\": \"16\"}}\0",
        b"{\"capabilities\": {\"max_msg_fds\": [16]}}\0",
        b"{\"capabilities\": {\"max_data_xfer_size\": true}}\0",
        b"{\"capabilities\": {\"max_dma_maps\": {}}}\0",
        b"{\"capabilities\": {\"pgsizes\": \"4096\"}}\0",
    ]);
}

#[test]
fn max_msg_fds_has_bounds() {
    refused(&[
        b"{\"capabilities\": {\"max_msg_fds\": -1}}\0",
        b"{\"capabilities\": {\"max_msg_fds\": 1025}}\0",
        b"{\"capabilities\": {\"max_msg_fds\": 4294967297}}\0",
    ]);
}

#[test]
fn numbers_beyond_all_bounds_do_no_harm() {
    let mut texts = Vec::new();
    for name in ["max_msg_fds", "max_data_xfer_size", "max_dma_maps", "pgsizes"] {
        for number in
            ["0", "-0", "-9223372036854775808", "18446744073709551615", "1e400", "1e-400", "0.5", "1e99999"]
        {
            texts.push(format!("{{\"capabilities\": {{\"{name}\": {number}}}}}\0"));
        }
    }
    let texts: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    survived(&texts);
}

#[test]
fn odd_migration_members_do_no_harm() {
    survived(&[
        b"{\"capabilities\": {\"migration\": {}}}\0",
        b"{\"capabilities\": {\"migration\": {\"pgsize\": 0}}}\0",
        b"{\"capabilities\": {\"migration\": {\"pgsize\": 3, \"max_bitmap_size\": 18446744073709551615}}}\0",
        b"{\"capabilities\": {\"migration\": []}}\0",
        b"{\"capabilities\": {\"migration\": null}}\0",
    ]);
}

#[test]
fn odd_twin_sockets_do_no_harm() {
    survived(&[
        b"{\"capabilities\": {\"twin_socket\": true}}\0",
        b"{\"capabilities\": {\"twin_socket\": {}}}\0",
        b"{\"capabilities\": {\"twin_socket\": {\"supported\": 1}}}\0",
        b"{\"capabilities\": {\"twin_socket\": {\"supported\": false}}}\0",
        b"{\"capabilities\": {\"twin_socket\": {\"supported\": true, \"fd_index\": 7}}}\0",
        b"{\"capabilities\": {\"twin_socket\": [], \"max_msg_fds\": 0}}\0",
    ]);
}

#[test]
fn a_twin_socket_needs_a_client_that_takes_descriptors() {
    let scene = Scene::edu();
    let mut peer = scene.stranger();
    let offer = json!({"capabilities": {"max_msg_fds": 0, "twin_socket": {"supported": true}}});
    let text = text_of(&peer.negotiate_with(&offer.to_string()));
    assert_ne!(text["capabilities"]["twin_socket"]["supported"], json!(true), "{text}");
    assert!(peer.take_fds().is_empty());
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_same_member_twice_does_no_harm() {
    survived(&[
        b"{\"capabilities\": {}, \"capabilities\": {\"max_msg_fds\": 3}}\0",
        b"{\"capabilities\": {\"max_msg_fds\": 1, \"max_msg_fds\": -1}}\0",
    ]);
}

#[test]
fn deep_nesting_does_not_end_the_stack() {
    let scene = Scene::edu();
    for depth in [100, 1000, 1900, 30_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let mut text = format!("{{\"x\": {}1{}}}", open.repeat(depth), close.repeat(depth));
            text.push('\0');
            scene.stranger().tolerates(&version(0, 1, &text), &[]);
            scene.stranger().tolerates(&version(0, 1, format!("{}\0", open.repeat(depth))), &[]);
        }
    }
    scene.unharmed();
}

#[test]
fn a_text_of_three_kib_is_taken() {
    let mut text = String::from("{\"capabilities\": {}");
    for n in 0..240 {
        write!(text, ", \"m{n}\": {n}").unwrap();
    }
    text.push('}');
    assert!((2500..4000).contains(&text.len()), "{}", text.len());
    taken(&[&text]);
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let scene = Scene::edu();
    for length in [(64 << 10) + 1, 1 << 20] {
        let text = format!("{{\"x\": \"{}\"}}\0", "a".repeat(length));
        let mut peer = scene.stranger();
        peer.send(&version(0, 1, text));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_size_over_the_limit_is_refused_at_once() {
    let scene = Scene::edu();
    for size in [(64 << 10) + 21, 1 << 24, 1 << 31, u32::MAX] {
        let mut peer = scene.stranger();
        peer.send(&version(0, 1, QEMU_TEXT).size(size));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_version_has_four_bytes_at_least() {
    let scene = Scene::edu();
    for length in 0..4 {
        let mut peer = scene.stranger();
        peer.send(&Message::command(command::VERSION, vec![0; length]));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn commands_before_version_are_refused() {
    let scene = Scene::edu();
    for number in (2..=20).chain([0, 255, u16::MAX]) {
        let mut peer = scene.stranger();
        let mut message = payload::region_read(0, 0, 4);
        message.header.command = number;
        peer.send(&message);
        let Some(reply) = peer.next_message() else { continue };
        assert!(reply.errno().is_some_and(|errno| errno != 0), "command {number} was done: {reply:?}");
    }
    scene.unharmed();
}

#[test]
fn no_map_and_no_descriptor_stays_from_before_version() {
    let scene = Scene::edu();
    let mut tracer = Tracer::new();
    let mut peer = scene.stranger();
    peer.send_with(&DmaMap::new(0, 4096).message(), &[tracer.fd()]);
    tracer.closed();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_second_version_is_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let choice = peer.tolerates(&qemu_version(), &[]);
    assert!(matches!(choice, Choice::Ended | Choice::Answered(Err(_))), "{choice:?}");
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_version_that_wants_no_reply_does_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.stranger();
    let choice = peer.tolerates(&qemu_version().no_reply(), &[]);
    assert!(matches!(choice, Choice::Ended | Choice::Ignored), "answered: {choice:?}");
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_version_that_is_a_reply_ends_the_connection() {
    let scene = Scene::edu();
    let mut peer = scene.stranger();
    peer.send(&qemu_version().flags(flags::REPLY));
    peer.ended();
    scene.unharmed();
}

#[test]
fn a_version_may_come_in_pieces() {
    let scene = Scene::edu();
    let bytes = qemu_version().encode();
    for cut in 1..bytes.len() {
        let mut peer = scene.stranger();
        peer.send_bytes(&bytes[..cut], &[]);
        peer.send_bytes(&bytes[cut..], &[]);
        assert_eq!(peer.message().errno(), None, "cut at {cut}");
        peer.in_step();
    }
    let mut peer = scene.stranger();
    peer.send_pieces(&bytes, 1, &[]);
    assert_eq!(peer.message().errno(), None);
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn commands_may_follow_a_version_at_once() {
    let scene = Scene::edu();
    let mut peer = scene.stranger();
    let mut bytes = qemu_version().id(1).encode();
    for id in 2..10 {
        bytes.extend(payload::get_info().id(id).encode());
    }
    peer.send_bytes(&bytes, &[]);
    for id in 1..10 {
        let reply = peer.message();
        assert_eq!((reply.header.id, reply.errno()), (id, None));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_of_a_version_are_closed() {
    let scene = Scene::edu();
    for count in [1, 8, 16, 64] {
        let mut tracer = Tracer::new();
        let mut peer = scene.stranger();
        peer.tolerates(&qemu_version(), &vec![tracer.fd().as_fd(); count]);
        tracer.closed();
    }
    scene.unharmed();
}
