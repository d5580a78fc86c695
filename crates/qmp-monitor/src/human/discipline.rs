//! How a human monitor's lines are read: with an editor that echoes, or plainly.

use super::beginning::{Beginning, Seen};
use super::editor::{Editor, Event, LINE_MAX};
use crate::session::input::Framing;

/// What was heard from a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// What the editor tells.
    Event(Event),
    /// A plain line of more than [`LINE_MAX`] bytes, which is not to be executed.
    TooLong,
    /// The first line is nobody's who could mean this monitor.
    Foreign,
}

/// A client's line discipline.
#[derive(Debug)]
pub(super) struct Discipline {
    kind: Kind,
    /// While the first line is looked at.
    beginning: Option<Beginning>,
}

#[derive(Debug)]
enum Kind {
    /// As in QEMU.
    Echo(Editor),
    /// Without echo and keys, for programs.
    Plain(Lines),
}

impl Discipline {
    pub(super) fn new(prompt: &str, echo: bool) -> Self {
        let kind = match echo {
            true => Kind::Echo(Editor::new(prompt)),
            false => Kind::Plain(Lines { prompt: prompt.into(), ..Lines::default() }),
        };
        Self { kind, beginning: None }
    }

    /// Looks at what comes first, or does not. To be called before anything has come.
    pub(super) fn watch_beginning(&mut self, watch: bool) {
        self.beginning = watch.then(Beginning::default);
    }

    /// Shows the prompt.
    pub(super) fn prompt(&mut self) {
        match &mut self.kind {
            Kind::Echo(editor) => editor.prompt(),
            Kind::Plain(lines) => lines.prompts += 1,
        }
    }

    /// Answers a request for completion.
    pub(super) fn complete(&mut self, candidates: Vec<String>) {
        if let Kind::Echo(editor) = &mut self.kind {
            editor.complete(candidates);
        }
    }

    /// Moves what the client is to be sent to the end of `out`.
    pub(super) fn echo(&mut self, out: &mut Vec<u8>) {
        match &mut self.kind {
            Kind::Echo(editor) => editor.echo(out),
            Kind::Plain(lines) => {
                (0..std::mem::take(&mut lines.prompts))
                    .for_each(|_| out.extend_from_slice(lines.prompt.as_bytes()));
            }
        }
    }
}

impl Framing for Discipline {
    type Message = Heard;

    fn next(&mut self, bytes: &mut &[u8]) -> Option<Heard> {
        let before = *bytes;
        let heard = match &mut self.kind {
            Kind::Echo(editor) => editor.next(bytes).map(Heard::Event),
            Kind::Plain(lines) => lines.next(bytes),
        };
        // What was taken goes as far as the end of a line that was heard, so the line is known before it is executed.
        let taken = &before[..before.len() - bytes.len()];
        match self.beginning.as_mut().map(|beginning| beginning.see(taken)) {
            Some(Seen::Foreign) => return Some(Heard::Foreign),
            Some(Seen::Line) => self.beginning = None,
            Some(Seen::Nothing) | None => {}
        }
        heard
    }

    fn reset(&mut self) {
        match &mut self.kind {
            Kind::Echo(editor) => editor.reset(),
            Kind::Plain(lines) => {
                *lines = Lines { prompt: std::mem::take(&mut lines.prompt), ..Lines::default() }
            }
        }
    }

    /// An editor's 300 KiB are a bound of their own.
    fn held_bytes(&self) -> usize {
        match &self.kind {
            Kind::Echo(_) => 0,
            Kind::Plain(lines) => lines.line.capacity(),
        }
    }
}

/// Lines without editing. One ends with LF, CR, CR LF, or a zero byte (as QEMU's monitors without readline have it).
#[derive(Debug, Default)]
pub(super) struct Lines {
    prompt: Box<str>,
    /// Prompts to be shown.
    prompts: usize,
    line: Vec<u8>,
    too_long: bool,
    /// The last line ended with CR: an LF right behind it is its end too.
    after_cr: bool,
}

impl Lines {
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Heard> {
        if std::mem::take(&mut self.after_cr) {
            match bytes.first() {
                Some(b'\n') => *bytes = &bytes[1..],
                Some(_) => {}
                None => self.after_cr = true,
            }
        }
        let end = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0));
        let (line, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        let room = LINE_MAX - self.line.len();
        self.too_long |= line.len() > room;
        self.line.extend_from_slice(&line[..line.len().min(room)]);
        *bytes = rest;
        let (ending, rest) = rest.split_first()?;
        *bytes = rest;
        self.after_cr = *ending == b'\r';
        let line = std::mem::take(&mut self.line);
        Some(match std::mem::take(&mut self.too_long) {
            true => Heard::TooLong,
            false => Heard::Event(Event::Line(String::from_utf8_lossy(&line).into_owned())),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is heard when the input comes in pieces of `size` bytes.
    fn heard(input: &[u8], size: usize) -> Vec<String> {
        let mut plain = Discipline::new("> ", false);
        let mut heard = Vec::new();
        for mut piece in input.chunks(size) {
            while let Some(next) = plain.next(&mut piece) {
                heard.push(match next {
                    Heard::Event(Event::Line(line)) => line,
                    other => format!("{other:?}"),
                });
            }
        }
        heard
    }

    #[test]
    fn plain_lines_have_many_ends() {
        for size in 1..8 {
            let lines = heard(b"a\nb\r\nc\r\rd\0\n\t\x1b[A\xff\nrest", size);
            assert_eq!(lines, ["a", "b", "c", "", "d", "", "\t\x1b[A\u{fffd}"], "{size}");
        }
    }

    #[test]
    fn a_plain_line_that_is_too_long_is_not_cut_short() {
        let mut input = vec![b'x'; LINE_MAX];
        input.extend_from_slice(b"\n");
        assert_eq!(heard(&input, 100), [String::from_utf8(vec![b'x'; LINE_MAX]).unwrap()]);
        input.insert(0, b'y');
        input.extend_from_slice(b"next\n");
        assert_eq!(heard(&input, 100), ["TooLong", "next"]);
        assert_eq!(heard(&input, input.len()), ["TooLong", "next"]);
    }

    #[test]
    fn a_plain_session_sees_prompts_and_nothing_else() {
        let mut plain = Discipline::new("> ", false);
        plain.prompt();
        assert_eq!(plain.next(&mut &b"stop"[..]), None);
        plain.complete(vec!["stop".into()]);
        let mut out = Vec::new();
        plain.echo(&mut out);
        assert_eq!(out, b"> ");
    }
}
