//! Random requests, sent to QEMU and to `vmmd` alike: every line must be the same, members in any
//! order, once times and versions are masked.
//!
//! The streams are made from a seed that a failure prints; `DIFFERENTIAL_SEED` runs one again and
//! `DIFFERENTIAL_STREAMS` says how many to run. Where QEMU 7.2 is not installed this says so and passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

use vmm_integration::client::Client;
use vmm_integration::process::Stranger;
use vmm_integration::qtest::qemu_is_here;
use vmm_integration::random::Random;
use vmm_integration::replay::canonical;
use vmm_integration::vmm::program;
use vmm_integration::wire::dev_null;

const QEMU: &str = "qemu-system-x86_64";

/// Commands both have, some arguments for them, and some that neither has.
const COMMANDS: [&str; 20] = [
    "query-name",
    "query-status",
    "query-version",
    "query-fdsets",
    "stop",
    "cont",
    "getfd",
    "closefd",
    "add-fd",
    "remove-fd",
    "qmp_capabilities",
    "system_powerdown",
    "system_wakeup",
    "query-uuid",
    "query-target",
    "query-cpus-fast",
    "no-such-command",
    "Query-Name",
    "",
    "query_name",
];
const MEMBERS: [&str; 10] =
    ["fdname", "fdset-id", "fd", "opaque", "enable", "nope", "\\u00e9", "a b", "FDNAME", "execute"];
const SCALARS: [&str; 38] = [
    "0",
    "1",
    "-1",
    "9999",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775808",
    "-9223372036854775809",
    "-0",
    "1.0",
    "0.1",
    "-0.0",
    "1e3",
    "1e400",
    "1E-7",
    "123456789012345678901234567890",
    "2.5e-320",
    "true",
    "false",
    "null",
    "\"\"",
    "\"a\"",
    "'a'",
    "\"1a\"",
    "'it\\'s \"x\"'",
    "\"\\u00e9\\ud83d\\ude00\"",
    "\"é€😀\"",
    "\"\\u0000\\n\\t\\/\"",
    "\"\x7f\"",
    "\"oob\"",
    "\"\\ud800\"",
    "\"\\x\"",
    "tru",
    "01",
    "NaN",
    "\"\\uFFFE\"",
];
/// Bytes that a mutation puts in.
const NOISE: [&[u8]; 24] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"'",
    b"\\",
    b" ",
    b"\n",
    b"\t",
    b"\0",
    b"\x01",
    b"\xff",
    b"\xfe",
    b"0",
    b"-",
    b"e",
    b".",
    b"+",
    b"\xc3",
    b"\xed\xa0\x80",
    b"@",
];

/// Who makes requests up.
struct Author {
    random: Random,
    /// A command that is not to be made up.
    left_out: &'static str,
}

impl Author {
    fn command(&mut self) -> &'static str {
        let command = self.random.pick(&COMMANDS);
        if command == self.left_out { "query-status" } else { command }
    }

    fn value(&mut self, depth: usize) -> String {
        match self.random.below(if depth == 0 { 6 } else { 8 }) {
            6 => {
                let items: Vec<_> = (0..self.random.below(4)).map(|_| self.value(depth - 1)).collect();
                format!("[{}]", items.join(", "))
            }
            7 => self.object(depth - 1),
            _ => self.random.pick(&SCALARS).to_owned(),
        }
    }

    fn object(&mut self, depth: usize) -> String {
        let members: Vec<_> = (0..self.random.below(4))
            .map(|_| format!("\"{}\": {}", self.random.pick(&MEMBERS), self.value(depth)))
            .collect();
        format!("{{{}}}", members.join(","))
    }

    /// A request that is mostly well formed.
    fn request(&mut self) -> Vec<u8> {
        let mut members = vec![match self.random.below(12) {
            0 => format!("\"execute\": {}", self.value(1)),
            1 => format!("\"exec-oob\": \"{}\"", self.command()),
            _ => format!("\"execute\": \"{}\"", self.command()),
        }];
        if !self.random.one_in(3) {
            members.push(format!(
                "\"arguments\": {}",
                if self.random.one_in(10) { self.value(2) } else { self.object(2) }
            ));
        }
        if self.random.one_in(2) {
            members.push(format!("\"id\": {}", self.value(3)));
        }
        if self.random.one_in(12) {
            members.push(format!("\"{}\": {}", self.random.pick(&MEMBERS), self.value(1)));
        }
        if self.random.one_in(4) {
            members.reverse();
        }
        let mut bytes = format!("{{{}}}", members.join(", ")).into_bytes();
        if self.random.one_in(4) {
            self.mutate(&mut bytes);
        }
        bytes.extend_from_slice(self.random.pick(&[&b""[..], b"\n", b" ", b"\r\n"]));
        bytes
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.random.below(2) {
            let at = self.random.index(bytes.len());
            match self.random.below(3) {
                0 => drop(bytes.remove(at)),
                1 => drop(bytes.splice(at..at, self.random.pick(&NOISE).iter().copied())),
                _ => drop(bytes.splice(at..=at, self.random.pick(&NOISE).iter().copied())),
            }
            if bytes.is_empty() {
                return;
            }
        }
    }
}

/// One write: what to send, and whether a descriptor goes with it.
struct Write {
    bytes: Vec<u8>,
    with_fd: bool,
}

/// On a stopped machine `remove-fd` differs on purpose, so a stream has either `remove-fd` or `stop` in it.
fn keeps_running(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

fn stream(seed: u64) -> Vec<Write> {
    let mut author =
        Author { random: Random(seed), left_out: if keeps_running(seed) { "stop" } else { "remove-fd" } };
    (0..12)
        .map(|_| Write {
            bytes: (0..=author.random.below(2)).flat_map(|_| author.request()).collect(),
            with_fd: author.random.one_in(3),
        })
        .collect()
}

/// A server in the background, and a client of its only monitor. In the background because QEMU 7.2 greets twice, or not
/// at all, who comes before it is through with its start.
fn start(program: &str, options: &str) -> (Stranger, tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("q.sock");
    let monitor = format!("unix:{},server=on,wait=off{options}", socket.display());
    let argv = [program, "-S", "-nodefaults", "-display", "none", "-machine", "none", "-qmp", &monitor];
    let server = Stranger::daemonize(&argv, dir.path()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    client.negotiate();
    (server, dir, client)
}

/// Commands of QEMU's that the other does not have. A mutation can hit one (`query-stat[u]s`).
struct Names(BTreeSet<String>);

impl Names {
    fn beyond(program: &str) -> Self {
        let of = |program: &str| -> BTreeSet<String> {
            let (_server, _dir, mut client) = start(program, "");
            let commands = client.run("query-commands");
            commands
                .as_array()
                .unwrap()
                .iter()
                .map(|command| command["name"].as_str().unwrap().to_owned())
                .collect()
        };
        Self(&of(QEMU) - &of(program))
    }

    /// Whether `ours` says that one of these is not there.
    fn excuse(&self, ours: &str) -> bool {
        let name =
            ours.split_once("\"The command ").and_then(|(_, rest)| rest.split_once(" has not been found\""));
        name.is_some_and(|(name, _)| self.0.contains(name))
    }
}

/// Everything that a server answers to the stream of this seed. After each write a reset byte and a command with an id
/// of ours show where its answers end.
fn play(program: &str, options: &str, seed: u64) -> Vec<String> {
    let (_server, _dir, mut client) = start(program, options);
    if keeps_running(seed) {
        client.run("cont");
    }
    client.run("query-name");
    client.kept_events();

    let null = dev_null().unwrap();
    let mut lines = Vec::new();
    for (n, write) in stream(seed).iter().enumerate() {
        let fds = if write.with_fd { vec![null.as_fd()] } else { Vec::new() };
        let fence = format!("fence {n}");
        client.send_with_fds(&write.bytes, &fds);
        client.send(format!("\u{1}{{\"execute\": \"query-name\", \"id\": \"{fence}\"}}"));
        loop {
            let line = client.line();
            let done = line.contains(&fence);
            lines.push(canonical(&mask(&line)));
            if done {
                break;
            }
        }
    }
    lines
}

/// Times, versions and descriptor numbers are what may differ.
fn mask(line: &str) -> String {
    let mut out = line.to_owned();
    for name in ["seconds", "microseconds", "micro", "minor", "major", "fd"] {
        let before = format!("\"{name}\": ");
        let mut parts = out.split(&before);
        let mut masked = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            masked += &before;
            masked += "#";
            masked += part.trim_start_matches(|c: char| c.is_ascii_digit());
        }
        out = masked;
    }
    match out.split_once("\"package\": \"").map(|(before, rest)| (before, rest.split_once('"'))) {
        Some((before, Some((_, after)))) => format!("{before}\"package\": \"#\"{after}"),
        _ => out,
    }
}

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_requests_are_answered_alike() {
    if !qemu_is_here(Path::new(QEMU)) {
        return;
    }
    let vmmd = program();
    let (seeds, first) = match setting("DIFFERENTIAL_SEED") {
        Some(seed) => (1, seed),
        None => (setting("DIFFERENTIAL_STREAMS").unwrap_or(60), 1),
    };
    let only_theirs = &Names::beyond(&vmmd.to_string_lossy());
    let jobs = 4;
    std::thread::scope(|scope| {
        for job in 0..jobs {
            let vmmd = &vmmd;
            scope.spawn(move || {
                for seed in (first..first + seeds).filter(|seed| seed % jobs == job) {
                    let theirs = play(QEMU, "", seed);
                    let options = if vmmd.ends_with(QEMU) { "" } else { ",max-clients=1,named-fds=monitor" };
                    let ours = play(&vmmd.to_string_lossy(), options, seed);
                    compare(seed, only_theirs, &theirs, &ours);
                }
            });
        }
    });
}

#[track_caller]
fn compare(seed: u64, only_theirs: &Names, theirs: &[String], ours: &[String]) {
    let same = theirs
        .iter()
        .zip(ours)
        .take_while(|(theirs, ours)| theirs == ours || only_theirs.excuse(ours))
        .count();
    if same == theirs.len() && same == ours.len() {
        return;
    }
    let fences = theirs[..same].iter().filter(|line| line.contains("\"fence ")).count();
    panic!(
        "DIFFERENTIAL_SEED={seed}, write {fences}: {}\n  QEMU: {}\n  ours: {}",
        stream(seed)[fences].bytes.escape_ascii(),
        theirs.get(same).map_or("nothing", String::as_str),
        ours.get(same).map_or("nothing", String::as_str),
    );
}
