//! The editor in front of a terminal: whatever is typed, the terminal shows the prompt, the line and the cursor.

use proptest::prelude::*;
use qmp_monitor::human::{Editor, Event};

const PROMPT: &str = "> ";

/// The last row of a terminal, endlessly wide, one column per byte.
#[derive(Default)]
struct Terminal {
    row: Vec<u8>,
    column: usize,
}

impl Terminal {
    fn show(&mut self, mut bytes: &[u8]) {
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            type Act = fn(&mut Terminal);
            let sequences: [(&[u8], Act); 5] = [
                (b"[D", |t| t.column = t.column.checked_sub(1).unwrap()),
                (b"[C", |t| t.column += 1),
                (b"[K", |t| t.row.truncate(t.column)),
                (b"[2J", |t| t.row.clear()),
                (b"[1;1H", |t| t.column = 0),
            ];
            match byte {
                0x1b => {
                    let (sequence, act) = sequences.iter().find(|(s, _)| rest.starts_with(s)).unwrap();
                    act(self);
                    bytes = &rest[sequence.len()..];
                }
                b'\r' => self.column = 0,
                b'\n' => self.row.clear(),
                byte => {
                    self.row.resize(self.row.len().max(self.column + 1), b' ');
                    self.row[self.column] = byte;
                    self.column += 1;
                }
            }
        }
    }
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    const KEYS: [&[u8]; 22] = [
        b"a",
        b"b c",
        b" ",
        b"ab",
        b"\r",
        b"\t",
        b"\x01",
        b"\x04",
        b"\x05",
        b"\x08",
        b"\x0c",
        b"\x17",
        b"\x1b[A",
        b"\x1b[B",
        b"\x1b[C",
        b"\x1b[D",
        b"\x1bOH",
        b"\x1b[3~",
        b"\x1b[999999999999",
        b"\x1b",
        b"\x9b",
        b"\xc3\xa9",
    ];
    prop_oneof![
        4 => prop::sample::select(KEYS.as_slice()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ]
}

proptest! {
    #[test]
    fn the_terminal_shows_the_line(keys in prop::collection::vec(key(), 0..60), cut in 1..9_usize) {
        let (mut editor, mut terminal) = (Editor::new(PROMPT), Terminal::default());
        editor.prompt();
        let mut keys = keys.concat();
        // An end that is understood: out of any sequence, TAB for what stands before the cursor, Enter for all.
        keys.extend_from_slice(b"~~\t\r");
        let (mut before, mut echo) = (None, Vec::new());
        for mut piece in keys.chunks(cut) {
            while let Some(event) = editor.next(&mut piece) {
                match event {
                    Event::Line(line) => {
                        // What stands there was complete before Enter.
                        let end = echo.len();
                        editor.echo(&mut echo);
                        prop_assert!(echo.ends_with(b"\r\n"));
                        terminal.show(&echo[end..echo.len() - 2]);
                        prop_assert_eq!(String::from_utf8_lossy(&terminal.row), format!("{PROMPT}{line}"));
                        terminal.show(b"\r\n");
                        echo.clear();
                        editor.prompt();
                        before = None;
                    }
                    Event::Complete(text) => {
                        editor.echo(&mut echo);
                        terminal.show(&echo);
                        echo.clear();
                        let shown = &terminal.row[..terminal.column];
                        prop_assert_eq!(String::from_utf8_lossy(shown), format!("{PROMPT}{text}"));
                        editor.complete(vec!["abacus".into(), "abc".into(), "b/".into(), "bad\x1b".into()]);
                        before = Some(text);
                    }
                    Event::Echo => {}
                }
                editor.echo(&mut echo);
                terminal.show(&echo);
                echo.clear();
            }
        }
        prop_assert!(before.is_none());
    }

    #[test]
    fn pieces_make_no_difference(keys in prop::collection::vec(any::<u8>(), 0..300), cut in 1..40_usize) {
        let play = |cut: usize| {
            let (mut editor, mut out, mut events) = (Editor::new(PROMPT), Vec::new(), Vec::new());
            for mut piece in keys.chunks(cut) {
                while let Some(event) = editor.next(&mut piece) {
                    events.push(event);
                }
                editor.echo(&mut out);
            }
            (out, events)
        };
        prop_assert_eq!(play(cut), play(1));
    }
}
