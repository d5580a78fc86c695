//! The human monitor: lines that do not end, keys that are none, expressions without end, and the same by QMP.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::json;
use vmm_integration::random::Random;

use crate::frame::{Scene, Stage};
use crate::tools::{drain, let_go};

const HUMAN: Stage = Stage {
    extra: &["-monitor", "unix:{}/human.sock,server=on,wait=off"],
    options: "",
    under: Vec::new(),
    uid: None,
    slack: 48 << 10,
};

fn person(scene: &Scene) -> UnixStream {
    let socket = UnixStream::connect(scene.path("human.sock")).unwrap();
    socket.set_read_timeout(Some(vmm_integration::LIMIT)).unwrap();
    socket.set_write_timeout(Some(vmm_integration::LIMIT)).unwrap();
    socket
}

/// Types all this, reads what is said to it, and leaves.
fn types(scene: &Scene, keys: &[u8]) {
    let mut person = person(scene);
    let reading = drain(person.try_clone().unwrap());
    person.write_all(keys).unwrap();
    scene.hold();
    person.shutdown(std::net::Shutdown::Write).unwrap();
    reading.join().unwrap();
}

#[test]
fn a_line_without_end() {
    HUMAN.attack(|scene| types(scene, &vec![b'x'; 300_000]));
}

#[test]
fn lines_as_long_as_they_may_be() {
    HUMAN.attack(|scene| types(scene, format!("{}\n", "info ".repeat(800)).repeat(20).as_bytes()));
}

#[test]
fn empty_lines_without_end() {
    HUMAN.attack(|scene| types(scene, &vec![b'\n'; 20_000]));
}

#[test]
fn escape_sequences_that_are_none() {
    HUMAN.attack(|scene| {
        let mut random = Random(3);
        let mut keys = Vec::new();
        for _ in 0..3000 {
            keys.extend_from_slice(random.pick(&[
                &b"\x1b["[..],
                b"\x1bO",
                b"\x1b",
                b"\x9b",
                b"\x1b[999999999",
            ]));
            keys.push(random.pick(b"ABCDHF~;0123456789\x1b\x00\x7f\t\r"));
        }
        types(scene, &keys);
    });
}

#[test]
fn every_byte_there_is() {
    HUMAN.attack(|scene| {
        let mut random = Random(5);
        let keys: Vec<u8> =
            std::iter::repeat_with(|| random.number().to_le_bytes()).take(3000).flatten().collect();
        // Among them may be a line that ends the process; it would have to be spelled out by chance.
        types(scene, &keys);
    });
}

#[test]
fn completions_without_end() {
    HUMAN.attack(|scene| types(scene, &b"info \t\t\t\x15object_add \t\t\x15".repeat(100)));
}

#[test]
fn history_without_end() {
    HUMAN.attack(|scene| {
        let lines: String = (0..500).map(|n| format!("nonsense {n}\n")).collect();
        types(scene, &[lines.into_bytes(), b"\x1b[A\x10".repeat(500)].concat());
    });
}

#[test]
fn expressions_without_end() {
    HUMAN.attack(|scene| {
        let deep = format!("i /x {}1{}\n", "(".repeat(2000), ")".repeat(2000));
        let long = format!("i /x 1{}\n", "+1".repeat(2000));
        let signs = format!("i /x {}1\n", "-~!".repeat(1300));
        types(scene, format!("{deep}{long}{signs}i /x 1/0\ni /x 1%0\n").repeat(5).as_bytes());
    });
}

#[test]
fn a_person_who_does_not_read() {
    HUMAN.attack(|scene| {
        let mut person = person(scene);
        person.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
        while person.write(&b"help\n".repeat(500)).is_ok() {}
        scene.hold();
    });
}

#[test]
fn a_person_who_leaves_in_the_middle() {
    HUMAN.attack(|scene| {
        for size in 0..60 {
            let mut person = person(scene);
            person.write_all(b"help\ninfo qom-tree\nobject_add ioth").unwrap();
            let _ = person.read(&mut vec![0; 1 << (size % 12)]);
        }
        scene.hold();
    });
}

#[test]
fn descriptors_for_a_person() {
    HUMAN.attack(|scene| {
        for _ in 0..3 {
            let (fd, mut bomb) = crate::tools::Lingering::inside(1);
            let person = person(scene);
            let fds = [std::os::fd::AsFd::as_fd(&fd)];
            vmm_integration::wire::send(&person, b"getfd a\ngetfd b\ninfo status\n", &fds).unwrap();
            let_go(fd);
            bomb.leave();
            scene.hold();
            drop(person);
            scene.hold();
        }
    });
}

#[test]
fn lines_by_qmp_without_end() {
    HUMAN.attack(|scene| {
        let mut client = scene.client();
        let lines = [
            "info qom-tree",
            "help",
            "nonsense",
            "info ",
            "i /x (1",
            "qom-list /",
            "",
            "\t",
            "\u{0}",
            "chardev-add x,,=,",
        ];
        for round in 0..300 {
            let line = lines[round % lines.len()];
            assert!(client.call("human-monitor-command", json!({"command-line": line})).is_ok(), "{line}");
        }
        scene.hold();
    });
}

#[test]
fn a_line_of_a_megabyte_by_qmp() {
    HUMAN.attack(|scene| {
        let mut client = scene.client();
        for line in ["x".repeat(1 << 20), format!("info {}", "y ".repeat(500_000)), "(".repeat(1 << 20)] {
            let _ = client.call("human-monitor-command", json!({"command-line": line}));
            let line = format!("i /x {line}");
            let _ = client.call("human-monitor-command", json!({"command-line": line}));
        }
        scene.hold();
    });
}
