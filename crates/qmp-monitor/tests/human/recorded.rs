//! The editor against what QEMU 7.2 wrote, to the byte.

use qmp_monitor::human::{Editor, Event};

const RECORDED: &str = include_str!("qemu-7.2.txt");

/// The other way round than `escape_ascii`.
fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().unwrap() {
                b'x' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                other => other,
            },
            other => other,
        });
    }
    bytes
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// What the editor writes for these keys, on a monitor whose commands are all unknown.
fn type_in(editor: &mut Editor, mut keys: &[u8], candidates: impl Fn(&str) -> Vec<String>) -> Vec<u8> {
    let mut out = Vec::new();
    while let Some(event) = editor.next(&mut keys) {
        match event {
            Event::Line(line) => {
                editor.echo(&mut out);
                if let Some(command) = line.split_ascii_whitespace().next() {
                    out.extend_from_slice(format!("unknown command: '{command}'\r\n").as_bytes());
                }
                editor.prompt();
            }
            Event::Complete(text) => editor.complete(candidates(&text)),
            Event::Echo => {}
        }
    }
    editor.echo(&mut out);
    out
}

#[test]
fn as_qemu_wrote() {
    let list = |name| words(RECORDED.lines().find_map(|line| line.strip_prefix(name)).unwrap());
    let (commands, topics) = (list("commands "), list("topics "));
    let fresh = || {
        let mut editor = Editor::new("(qemu) ");
        editor.prompt();
        editor.echo(&mut Vec::new());
        editor
    };
    let (mut editor, mut title, mut found, mut keys) = (fresh(), "", None, Vec::new());
    let mut compared = 0;
    for (number, line) in (1..).zip(RECORDED.lines()) {
        match line.split_once(' ') {
            Some(("#", text)) => (editor, title) = (fresh(), text),
            Some(("=", candidates)) => found = Some(words(candidates)),
            Some((">", text)) => keys = unescape(text),
            Some(("<", text)) => {
                let ours = type_in(&mut editor, &keys, |text| match &found {
                    Some(found) => found.clone(),
                    None if text.trim_start().starts_with("info ") => topics.clone(),
                    None => commands.clone(),
                });
                assert_eq!(
                    ours.escape_ascii().to_string(),
                    unescape(text).escape_ascii().to_string(),
                    "{title} Line {number}, typed {}",
                    keys.escape_ascii()
                );
                (found, compared) = (None, compared + 1);
            }
            _ => {}
        }
    }
    assert!(compared > 200, "{compared}");
}

#[test]
fn a_line_has_at_most_4095_bytes() {
    // QEMU's echo for these is 33 MB; this is its end.
    let mut editor = Editor::new("(qemu) ");
    let none = |_: &str| Vec::new();
    let echo = type_in(&mut editor, &[b'a'; 4095], none);
    assert!(echo.len() > 33_000_000 && echo.ends_with(b"aaaa\x1b[K"));
    assert_eq!(type_in(&mut editor, b"bbb", none), b"");
    assert_eq!(
        type_in(&mut editor, b"\x1b[Dbbb\t", none),
        b"\x1b[D",
        "QEMU writes over its buffer's end here"
    );
    let full = vec!["a".repeat(4095) + "b"];
    assert_eq!(type_in(&mut editor, b"\x05\t", |_| full.clone()), b"\x1b[C");
    let mut input: &[u8] = b"\r";
    assert_eq!(editor.next(&mut input), Some(Event::Line("a".repeat(4095))));
}
