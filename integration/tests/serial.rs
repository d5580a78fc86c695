//! The serial ports of vmmd's board: bytes go through the monitor's `o` and `i` to a socket and back, and every register
//! is held against the one of QEMU's `pc`.
//!
//! The streams are made from a seed that a failure prints; `SERIAL_SEED` runs one again and `SERIAL_STREAMS` says how many
//! to run. Where QEMU is not installed this says so and passes. No time passes for either machine, so the receiver's
//! timeout is not compared.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;
use vmm_integration::client::Client;
use vmm_integration::qtest::{TestDriven, qemu_is_here};
use vmm_integration::random::Random;
use vmm_integration::vmm::{Setup, Vmm, program};
use vmm_integration::{LIMIT, poll_until};

fn board(extra: &[&str]) -> Vmm {
    let extra = [&["-machine", "board"], extra].concat();
    Vmm::with(Setup { extra: &extra, ..Setup::default() })
}

fn human(client: &mut Client, line: &str) -> String {
    let said = client.call("human-monitor-command", json!({"command-line": line})).unwrap();
    said.as_str().unwrap().trim_end().to_owned()
}

/// What is read from the port.
fn port(client: &mut Client, number: u16) -> u8 {
    let said = human(client, &format!("i /bx {number:#x}"));
    u8::from_str_radix(said.rsplit("= 0x").next().unwrap(), 16).unwrap()
}

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}

#[test]
fn bytes_go_both_ways_for_one_client_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serial.sock");
    let vmm = board(&["-S", "-serial", &format!("unix:{},server=on,wait=off", path.display())]);
    let mut client = vmm.client(0);
    // To nobody.
    human(&mut client, "o /b 0x3f8 0x40");
    for letter in [0x41_u8, 0x42] {
        let mut line = connect(&path);
        line.write_all(&[letter, letter + 32]).unwrap();
        assert!(poll_until(LIMIT, || port(&mut client, 0x3fd) == 0x61));
        assert_eq!([port(&mut client, 0x3f8), port(&mut client, 0x3fd)], [letter, 0x61]);
        assert_eq!([port(&mut client, 0x3f8), port(&mut client, 0x3fd)], [letter + 32, 0x60]);
        human(&mut client, &format!("o /b 0x3f8 {letter}"));
        let mut byte = [0];
        line.read_exact(&mut byte).unwrap();
        assert_eq!(byte, [letter]);
    }
    let chardevs = client.run("query-chardev");
    assert!(chardevs.as_array().unwrap().iter().any(|it| it["label"] == "serial0"), "{chardevs}");
}

#[test]
fn a_file_has_the_output_when_all_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let files = ["a", "b", "c", "d"].map(|name| dir.path().join(name));
    let options = files.each_ref().map(|file| format!("file:{}", file.display()));
    let extra: Vec<&str> = options.iter().flat_map(|option| ["-serial", option]).collect();
    let mut vmm = board(&extra);
    let mut client = vmm.client(0);
    for (first, letter) in [0x3f8, 0x2f8, 0x3e8, 0x2e8].into_iter().zip('a'..) {
        human(&mut client, &format!("o /b {first:#x} {}", u32::from(letter)));
    }
    client.run("quit");
    assert_eq!(vmm.exit_code(), 0);
    assert_eq!(files.map(|file| std::fs::read_to_string(file).unwrap()), ["a", "b", "c", "d"]);
}

#[test]
fn a_client_that_reads_nothing_holds_up_nobody_and_is_seen_by_the_guest() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join("serial.sock")).unwrap();
    let mut machine = ours(&["-serial", &format!("unix:{}", dir.path().join("serial.sock").display())]);
    let (mut line, _) = listener.accept().unwrap();
    line.set_read_timeout(Some(LIMIT)).unwrap();
    let mut sent = 0_usize;
    while machine.ask("inb 0x3fd") == "OK 0x0060" {
        assert_eq!(machine.ask("outb 0x3f8 0x2e"), "OK");
        sent += 1;
    }
    let mut all = vec![0; sent];
    line.read_exact(&mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == b'.'));
    assert!(poll_until(LIMIT, || machine.ask("inb 0x3fd") == "OK 0x0060"));
    machine.qmp().negotiate();
    machine.qmp().run("quit");
}

#[test]
fn a_reset_makes_the_registers_new() {
    let mut machine = ours(&["-serial", "null"]);
    machine.qmp().negotiate();
    for (register, value) in [(0x3f9, 0x0f), (0x3fa, 0x01), (0x3fc, 0x1f), (0x3ff, 0x55), (0x3fb, 0x1b)] {
        machine.ask(&format!("outb {register:#x} {value:#x}"));
    }
    machine.qmp().run("system_reset");
    let read: Vec<_> = (0x3f8..0x400).map(|register| machine.ask(&format!("inb {register:#x}"))).collect();
    assert_eq!(read, ["00", "00", "01", "00", "08", "60", "b0", "00"].map(|byte| format!("OK 0x00{byte}")));
}

#[test]
fn without_a_machine_there_is_only_the_chardev() {
    let vmm = Vmm::with(Setup { extra: &["-serial", "null"], ..Setup::default() });
    let mut client = vmm.client(0);
    let chardevs = client.run("query-chardev");
    assert!(chardevs.as_array().unwrap().iter().any(|it| it["label"] == "serial0"), "{chardevs}");
    assert_eq!(client.call("chardev-remove", json!({"id": "serial0"})).unwrap(), json!({}));
}

#[test]
fn a_ports_chardev_is_in_use() {
    let vmm = board(&["-serial", "null"]);
    let refusal = vmm.client(0).call("chardev-remove", json!({"id": "serial0"})).unwrap_err();
    assert_eq!(refusal.desc, "Chardev 'serial0' is busy");
}

fn ours(options: &[&str]) -> TestDriven {
    let all = [&["-nodefaults", "-machine", "board", "-accel", "qtest"], options].concat();
    TestDriven::start(&program().to_string_lossy(), &all)
}

/// A machine, and the other end of its serial port, to which it has connected.
struct Wired {
    machine: TestDriven,
    line: UnixStream,
    _dir: TempDir,
}

impl Wired {
    fn start(start: impl FnOnce(&[&str]) -> TestDriven) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("serial.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let mut machine = start(&["-serial", &format!("unix:{}", path.display())]);
        machine.qmp().negotiate();
        let (line, _) = listener.accept().unwrap();
        line.set_read_timeout(Some(LIMIT)).unwrap();
        Self { machine, line, _dir: dir }
    }

    /// Sends a byte to the guest, and waits until the chip has it.
    fn give(&mut self, byte: u8) {
        self.line.write_all(&[byte]).unwrap();
        assert!(poll_until(LIMIT, || self.machine.ask("inb 0x3fd").ends_with(['1', '3'])));
    }

    /// All that was sent from the guest, once the machine has ended.
    fn rest(mut self) -> Vec<u8> {
        self.machine.qmp().run("quit");
        let mut all = Vec::new();
        self.line.read_to_end(&mut all).unwrap();
        all
    }
}

/// What a guest might do with its port.
struct Guest(Random);

impl Guest {
    /// An access that a guest might make, mostly of the registers that do something.
    fn access(&mut self) -> String {
        let register = 0x3f8 + self.0.below(8);
        if self.0.below(2) == 0 {
            return format!("inb {register:#x}");
        }
        let value = match register {
            // The divisor is looked at now and then, and left again.
            0x3fb if self.0.below(3) > 0 => self.0.below(0x80),
            // FIFOs are mostly on, and not always cleared.
            0x3fa if self.0.below(3) > 0 => 0x01 | self.0.below(4) << 6,
            // A loop now and then.
            0x3fc if self.0.below(3) > 0 => self.0.below(0x10),
            _ => self.0.below(256),
        };
        format!("outb {register:#x} {value:#x}")
    }

    /// A full FIFO or nearly so, and what it would interrupt for after each byte. The last is the first to be asked.
    fn burst(&mut self) -> Vec<String> {
        let mut requests = vec!["inb 0x3fd".to_owned()];
        for _ in 0..self.0.below(20) {
            requests.extend(["inb 0x3fa".to_owned(), format!("outb 0x3f8 {:#x}", self.0.below(256))]);
        }
        let trigger = 0x01 | self.0.below(4) << 6;
        let set = [(0x3fc, 0x10), (0x3fa, trigger), (0x3f9, 0x01 | self.0.below(4) << 1), (0x3fb, 0x03)];
        requests.extend(set.map(|(register, value)| format!("outb {register:#x} {value:#x}")));
        requests
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_register_is_that_of_qemu() {
    let qemu = "qemu-system-x86_64";
    if !qemu_is_here(Path::new(qemu)) {
        return;
    }
    let theirs = |options: &[&str]| {
        let before = ["-nodefaults", "-machine", "pc", "-m", "32", "-accel", "tcg", "-S"];
        TestDriven::start(qemu, &[&before, options].concat())
    };
    let (first, count) = match setting("SERIAL_SEED") {
        Some(seed) => (seed, 1),
        None => (1, setting("SERIAL_STREAMS").unwrap_or(10)),
    };
    for seed in first..first + count {
        let mut guest = Guest(Random(seed));
        let mut wired = [Wired::start(ours), Wired::start(theirs)];
        let mut burst = Vec::new();
        for n in 0..600 {
            let request = match (burst.pop(), guest.0.below(16)) {
                (Some(request), _) => request,
                // A byte comes in where there is room for it for certain.
                (None, 0) => "inb 0x3fd".to_owned(),
                (None, 1) => {
                    burst = guest.burst();
                    continue;
                }
                _ => guest.access(),
            };
            let [ours, theirs] = wired.each_mut().map(|it| it.machine.ask(&request));
            assert_eq!(ours, theirs, "SERIAL_SEED={seed}, request {n}: {request} (ours, QEMU's)");
            if request == "inb 0x3fd" && ours.ends_with('0') {
                let byte = u8::try_from(guest.0.below(256)).unwrap();
                wired.iter_mut().for_each(|it| it.give(byte));
            }
        }
        let [ours, theirs] = wired.map(Wired::rest);
        assert!(!ours.is_empty());
        assert_eq!(ours, theirs, "SERIAL_SEED={seed}: what was sent (ours, QEMU's)");
    }
}
