//! Random lines of the human monitor, sent to QEMU and to `vmmd` alike by `human-monitor-command`: what they say must be
//! the same, once thread ids are masked.
//!
//! The lines are made from a seed that a failure prints; `HUMAN_LINES_SEED` runs one again and `HUMAN_LINES_STREAMS` says how
//! many to run. Where QEMU 7.2 is not installed this says so and passes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::process::Command;

use serde_json::{Value, json};
use vmm_integration::client::Client;
use vmm_integration::process::Stranger;
use vmm_integration::random::Random;
use vmm_integration::vmm::program;

const QEMU: &str = "qemu-system-x86_64";

/// Lines of a stream. The last format of numbers goes from one to the next.
const LINES: usize = 60;

/// Somebody at the prompt who tries everything.
struct Typist(Random);

impl Typist {
    fn line(&mut self) -> String {
        match self.0.below(7) {
            0 | 1 => self.print(),
            2 => self.soup(),
            3 => self.object(),
            4 => self.property(),
            5 => self.chardev(),
            _ => self.0.pick(WHOLE).to_owned(),
        }
    }

    fn print(&mut self) -> String {
        // With large numbers nothing is divided: QEMU dies of the smallest one divided by -1.
        let (numbers, operators) = match self.0.below(2) {
            0 => (LARGE, "+-*&|^"),
            _ => (SMALL, "+-*&|^/%/%"),
        };
        let command = self.0.pick(&["p", "print", "  p", "p\t"]);
        let format = self.0.pick(FORMATS);
        let mut expression = self.expression(numbers, operators, 3);
        if self.0.below(4) == 0 {
            // Something goes missing, or gets in.
            let places: Vec<usize> = expression.char_indices().map(|(place, _)| place).collect();
            let place = places[self.0.index(places.len())];
            match self.0.below(2) {
                0 => drop(expression.remove(place)),
                _ => expression.insert_str(place, self.0.pick(NOISE)),
            }
        }
        format!("{command}{format} {expression}")
    }

    fn expression(&mut self, numbers: &[&str], operators: &str, depth: u32) -> String {
        let space = self.0.pick(&["", "", " "]);
        match if depth == 0 { 0 } else { self.0.below(5) } {
            0 => self.0.pick(numbers).to_owned(),
            1 => format!(
                "{}{space}{}",
                self.0.pick(&["-", "~", "+"]),
                self.expression(numbers, operators, depth - 1)
            ),
            2 => format!("({space}{}{space})", self.expression(numbers, operators, depth - 1)),
            _ => {
                let left = self.expression(numbers, operators, depth - 1);
                let place = self.0.index(operators.len());
                let right = self.expression(numbers, operators, depth - 1);
                format!("{left}{space}{}{space}{right}", &operators[place..=place])
            }
        }
    }

    fn soup(&mut self) -> String {
        let mut line = self.0.pick(COMMANDS).to_owned();
        for _ in 0..self.0.below(4) {
            line += self.0.pick(&[" ", "  ", "\t", "", "/", " -"]);
            line += self.0.pick(WORDS);
        }
        line
    }

    fn object(&mut self) -> String {
        let mut line =
            format!("object_add {}", self.0.pick(&["iothread", "memory-backend-ram", "nope", "id=x"]));
        for _ in 0..self.0.below(5) {
            line += self.0.pick(&[",", ",", ",", ",,", ", "]);
            line += self.0.pick(KEYS);
            line += self.0.pick(&["=", "=", "=", "=", "", ",="]);
            line += self.0.pick(VALUES);
        }
        line
    }

    fn chardev(&mut self) -> String {
        let mut line = format!(
            "chardev-add {}",
            self.0.pick(&["null", "null", "file", "pipe", "socket", "nope", "id=x"])
        );
        for _ in 0..self.0.below(4) {
            line += self.0.pick(&[",", ",", ",", ",,", " ,"]);
            line += self.0.pick(&[
                "id=c",
                "id=d",
                "id=1",
                "id=",
                "id",
                "path=/nope/x",
                "path=/nope/x",
                "server=on",
                "server",
                "nowait",
                "wait=off",
                "reconnect=x",
                "reconnect=1k",
                "delay=off",
                "nodelay",
                "size=1k",
                "size=x",
                "width=0x10",
                "append=maybe",
                "nope=1",
                "nope",
                "=x",
                "signal=y",
                "ipv4=n",
                "to=-1",
                "help",
                "fd=nope",
            ]);
        }
        line
    }

    fn property(&mut self) -> String {
        let path = self.0.pick(&["a", "b", "/objects/a", "objects", "/", "nope", "\"\"", "m"]);
        let property = self.0.pick(&["poll-max-ns", "poll-grow", "type", "nope", "share", "merge"]);
        match self.0.below(5) {
            0 => format!("qom-get {path} {property}"),
            1 => format!("qom-set -j {path} {property} {}", self.0.pick(VALUES)),
            2 => format!("object_del {path}"),
            _ => format!("qom-set {path} {property} {}", self.0.pick(VALUES)),
        }
    }
}

const SMALL: &[&str] =
    &["0", "1", "2", "3", "7", "10", "0x1f", "017", "'a'", "' '", "100", "$eax", "08", "0x"];
const LARGE: &[&str] = &[
    "0",
    "1",
    "255",
    "0xffffffff",
    "0x7fffffffffffffff",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "01777777777777777777777",
    "'z'",
];
const FORMATS: &[&str] =
    &["", "", "/x", "/d", "/u", "/o", "/c", "/i", "/b", "/hx", "/4wd", "/gx", " /x", "/q", "/xd", "/x/d"];
const NOISE: &[&str] =
    &["(", ")", "+", "*", "/", "%", "'", "$", " ", "x", "é", "!", "=", "\"", "\\", "0", "~"];
const COMMANDS: &[&str] = &[
    "closefd",
    "getfd",
    "cpu",
    "nope",
    "info name",
    "info nope",
    "info status",
    "info cpus",
    "stop",
    "object_del",
    "qom-list",
    "qom-get",
    "qom-set",
    "help stop",
    "help nope",
    "? info nope",
    "",
    " ",
    "chardev-remove",
    "device_del",
    "device_add",
    "exit_preconfig",
    "info uuid",
];
const WORDS: &[&str] = &[
    "a",
    "b",
    "-j",
    "-x",
    "-",
    "--",
    "\"a b\"",
    "\"a",
    "\"a\\n\"",
    "\"\\x\"",
    "1",
    "-1",
    "0x100000000",
    "stop",
    "/x",
    "é",
    "a,b=c",
    "/nope",
    "'a b'",
    "\\",
    "\"\"",
    "{}",
    "#",
    ";",
];
const KEYS: &[&str] = &[
    "id",
    "id",
    "id",
    "poll-max-ns",
    "poll-grow",
    "thread-pool-min",
    "nope",
    "size",
    "share",
    "merge",
    "policy",
    "",
    "a.b",
    "id.x",
    "1",
    "é",
    "host-nodes.0",
    "size.0",
    "x.y",
    "ID",
];
const VALUES: &[&str] = &[
    "a",
    "b",
    "m",
    "1a",
    "",
    "0",
    "1",
    "-1",
    "0x10",
    "010",
    "1k",
    "1M",
    "1.5M",
    "x",
    "on",
    "off",
    "yes",
    "maybe",
    "default",
    "99999999999999999999",
    "9223372036854775807",
    "a,,b",
    "a b",
    "\"a\"",
    "true",
    "{\"a\"",
    "1.5",
    " 5",
];
const WHOLE: &[&str] = &[
    "info status",
    "cont",
    "stop",
    "s",
    "c",
    "info name",
    "info iothreads",
    "info qtree",
    "info pci",
    "info cpus",
    "help stop",
    "qom-list /objects",
    "info nope",
    "object_add {\"qom-type\": \"iothread\", \"id\": \"a\"}",
    "object_add {'qom-type': 'iothread', 'id': 'b', 'poll-max-ns': 'x'}",
    "object_add {",
    "object_add {} {}",
    "object_del a",
    "object_del b",
    "object_del m",
    "chardev-remove c",
    "chardev-remove d",
    "info\u{b}status",
    "system_reset",
    "system_powerdown",
];

/// A server in the background: QEMU 7.2 greets twice, or not at all, who comes before it is through with its start.
fn start(program: &str) -> (Stranger, tempfile::TempDir, Client) {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("q.sock");
    let monitor = format!("unix:{},server=on,wait=off", socket.display());
    let argv = [program, "-S", "-nodefaults", "-display", "none", "-machine", "none", "-qmp", &monitor];
    let server = Stranger::daemonize(&argv, dir.path()).unwrap();
    let mut client = Client::connect(&socket).unwrap();
    client.negotiate();
    (server, dir, client)
}

fn say(client: &mut Client, line: &str) -> String {
    let said = client.call("human-monitor-command", json!({ "command-line": line })).unwrap();
    client.kept_events();
    let Value::String(said) = said else { panic!("{line:?} says {said}") };
    let mut words = said.split("thread_id=");
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |said, word| {
        said + "thread_id=#" + word.trim_start_matches(|c: char| c.is_ascii_digit())
    })
}

/// What `vmmd` says without its own lines of `info iothreads`, which stand behind QEMU's for each.
fn without_statistics(said: &str) -> String {
    let mut ours = false;
    let kept = said.split_inclusive('\n').filter(|line| {
        let is_first = line.starts_with("  handlers=");
        ours = is_first || ours && line.starts_with("  ");
        !ours
    });
    kept.collect()
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn random_lines_are_answered_alike() {
    let version = Command::new(QEMU).arg("-version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    if !version.unwrap_or_default().contains("version 7.2.") {
        return eprintln!(
            "SKIPPED: QEMU 7.2 is not installed (apt-get install qemu-system-x86 on Debian 12), nothing was compared"
        );
    }
    let (first, streams) = match setting("HUMAN_LINES_SEED") {
        Some(seed) => (seed, 1),
        None => (1, setting("HUMAN_LINES_STREAMS").unwrap_or(20)),
    };
    let ours = program();
    for seed in first..first + streams {
        let ((_qemu, _dir, mut theirs), (_vmmd, _other_dir, mut ours)) =
            (start(QEMU), start(&ours.to_string_lossy()));
        let mut typist = Typist(Random(seed));
        for number in 0..LINES {
            // QEMU has no `/objects` until somebody has tried to make one.
            let line = if number == 0 { "object_add iothread,id=first".to_owned() } else { typist.line() };
            let (theirs, mut ours) = (say(&mut theirs, &line), say(&mut ours, &line));
            if line == "info iothreads" {
                ours = without_statistics(&ours);
            }
            assert_eq!(ours, theirs, "HUMAN_LINES_SEED={seed}, line {number}: {line:?} (right: QEMU)");
        }
    }
}
