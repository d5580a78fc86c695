//! Random keys, typed at QEMU's human monitor and at our editor alike: what the terminal is sent must be the same to the
//! byte.
//!
//! The keys are made from a seed that a failure prints; `HUMAN_EDITOR_SEED` runs one again and `HUMAN_EDITOR_STREAMS` says how
//! many to run. Where QEMU 7.2 is not installed this says so and passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use qmp_monitor::human::{Editor, Event};
use vmm_integration::process::Stranger;
use vmm_integration::qtest::qemu_is_here;
use vmm_integration::random::Random;

const QEMU: &str = "qemu-system-x86_64";
const PROMPT: &str = "(qemu) ";

/// What is typed. None of the lines that it makes does anything to QEMU.
const KEYS: [&[u8]; 36] = [
    b"w",
    b"y",
    b"z",
    b" ",
    b"-",
    b"b",
    b"zw yb",
    b"info",
    b"info s",
    b"sys",
    b"sto",
    b"  ",
    b"\r",
    b"\n",
    b"\r\n",
    b"\t",
    b"\x01",
    b"\x04",
    b"\x05",
    b"\x08",
    b"\x7f",
    b"\x0c",
    b"\x17",
    b"\x1b[A",
    b"\x1b[B",
    b"\x1b[C",
    b"\x1b[D",
    b"\x1b[D\x1b[D\x1b[D",
    b"\x1bOH",
    b"\x1bOF",
    b"\x1b[1~",
    b"\x1b[3~",
    b"\x1b[4~",
    b"\x1b",
    b"\x9b",
    b"\xc3\xa9",
];
/// What escape sequences are made of, whole and broken.
const BYTES: &[u8] = b"\x1b\x1b\x9b[[OO;;~~ABCDEFHP0134\x00\x02\x0e\x80\xff\r";

/// Somebody at the keyboard.
struct Typist(Random);

impl Typist {
    fn key(&mut self) -> Vec<u8> {
        match self.0.below(4) {
            0 => vec![self.0.pick(BYTES)],
            _ => self.0.pick(&KEYS).to_vec(),
        }
    }
}

/// QEMU's human monitor.
struct Qemu {
    socket: UnixStream,
    received: Vec<u8>,
    _process: Stranger,
    _dir: tempfile::TempDir,
}

impl Qemu {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hmp.sock");
        let listen = format!("unix:{},server=on,wait=off", path.display());
        let argv =
            [QEMU, "-S", "-nodefaults", "-display", "none", "-machine", "none", "-monitor", listen.as_str()];
        let process = Stranger::daemonize(&argv, dir.path()).unwrap();
        let socket = UnixStream::connect(&path).unwrap();
        socket.set_read_timeout(Some(vmm_integration::LIMIT)).unwrap();
        let mut qemu = Self { socket, received: Vec::new(), _process: process, _dir: dir };
        qemu.until_prompt();
        qemu.expect(PROMPT.as_bytes(), "the first prompt");
        qemu
    }

    fn type_in(&mut self, keys: &[u8]) {
        self.socket.write_all(keys).unwrap();
    }

    fn more(&mut self) -> bool {
        let mut buffer = [0; 65536];
        let read = self.socket.read(&mut buffer).unwrap_or(0);
        self.received.extend_from_slice(&buffer[..read]);
        read > 0
    }

    /// Everything before the next prompt.
    fn until_prompt(&mut self) -> Vec<u8> {
        loop {
            let prompt = self.received.windows(PROMPT.len()).position(|bytes| bytes == PROMPT.as_bytes());
            if let Some(at) = prompt {
                return self.received.drain(..at).collect();
            }
            assert!(self.more(), "no prompt behind {}", self.received.escape_ascii());
        }
    }

    #[track_caller]
    fn expect(&mut self, bytes: &[u8], what: &str) {
        while self.received.len() < bytes.len() && bytes.starts_with(&self.received) {
            if !self.more() {
                break;
            }
        }
        let theirs: Vec<u8> = self.received.drain(..bytes.len().min(self.received.len())).collect();
        let same = theirs.iter().zip(bytes).take_while(|(a, b)| a == b).count();
        assert!(
            theirs == bytes,
            "{what}, after ..{}\n  QEMU: {}{}\n  ours: {}",
            bytes[same.saturating_sub(40)..same].escape_ascii(),
            theirs[same..].escape_ascii(),
            self.received.escape_ascii(),
            bytes[same..].escape_ascii(),
        );
    }
}

/// What QEMU completes.
struct Words {
    commands: Vec<String>,
    topics: Vec<String>,
}

impl Words {
    /// As a QEMU says itself.
    fn learn() -> Self {
        let mut qemu = Qemu::start();
        let mut listing = |keys: &[u8], before: &[u8]| {
            qemu.type_in(keys);
            let listed = qemu.until_prompt();
            let start = listed.windows(before.len()).position(|w| w == before).unwrap() + before.len();
            qemu.expect(PROMPT.as_bytes(), "the prompt below the list");
            String::from_utf8_lossy(&listed[start..]).split_whitespace().map(str::to_owned).collect()
        };
        let commands = listing(b"\t", b"\r\n");
        Self { commands, topics: listing(b"info \t", b"info \x1b[K\r\n") }
    }

    /// What QEMU completes `text` with, for what is typed here. `None`: not known.
    fn candidates(&self, text: &str) -> Option<Vec<String>> {
        let mut words = text.split_ascii_whitespace();
        let (first, second, third) = (words.next(), words.next(), words.next());
        let blank = text.ends_with(' ');
        match (first, second, third) {
            (None, ..) => Some(self.commands.clone()),
            (Some(_), None, None) if !blank => Some(self.commands.clone()),
            (Some("info"), None, None) => Some(self.topics.clone()),
            (Some("info"), Some(_), None) if !blank => Some(self.topics.clone()),
            _ => None,
        }
    }
}

/// Types keys into both, and compares.
fn play(words: &Words, seed: u64) {
    // One each: a history cannot be emptied.
    let mut qemu = Qemu::start();
    let mut typist = Typist(Random(seed));
    let mut editor = Editor::new(PROMPT);
    let mut typed = Vec::new();
    let mut expected = Vec::new();
    for _ in 0..typist.0.below(120) + 5 {
        let mut key = typist.key();
        let mut rest = key.as_slice();
        let mut skip = false;
        while let Some(event) = editor.next(&mut rest) {
            match event {
                Event::Line(_) => {
                    editor.echo(&mut expected);
                    expected.push(0);
                    editor.prompt();
                }
                Event::Complete(text) => match words.candidates(&text) {
                    Some(candidates) => editor.complete(candidates),
                    None => skip = true,
                },
                Event::Echo => {}
            }
        }
        if skip {
            key.clear();
        }
        typed.extend_from_slice(&key);
    }
    editor.echo(&mut expected);
    qemu.type_in(&typed);
    // A zero byte stands for what a command writes.
    let what = format!("HUMAN_EDITOR_SEED={seed}: typed {}", typed.escape_ascii());
    let mut parts = expected.split(|byte| *byte == 0).peekable();
    while let Some(part) = parts.next() {
        qemu.expect(part, &what);
        if parts.peek().is_some() {
            qemu.until_prompt();
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_keys_are_echoed_alike() {
    if !qemu_is_here(Path::new(QEMU)) {
        return;
    }
    let (streams, first) = match setting("HUMAN_EDITOR_SEED") {
        Some(seed) => (1, seed),
        None => (setting("HUMAN_EDITOR_STREAMS").unwrap_or(40), 1),
    };
    let words = Words::learn();
    (first..first + streams).for_each(|seed| play(&words, seed));
}
