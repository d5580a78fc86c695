//! A line editor, as QEMU's human monitor shows it to its client. No I/O: bytes in, lines out, and what the client's
//! terminal is to be sent.
//!
//! The client is a terminal in raw mode that shows what it is sent, or a program that skips that. What it is sent is
//! QEMU 7.2's to the byte: after each byte of input the line is drawn again if it has changed (so a line of n bytes costs
//! about 2n² bytes of echo), and the cursor is moved by single steps.
//!
//! | keys | |
//! |---|---|
//! | Enter (CR or LF) | enters the line |
//! | left, right; Home (`ESC [ 1 ~`, `ESC O H`), `^A`; End (`ESC [ 4 ~`, `ESC O F`), `^E` | moves the cursor |
//! | Backspace, DEL; Delete, `^D`; `^W` | removes the byte before, the byte under the cursor; the word before it |
//! | up, down | goes through the last 64 different lines |
//! | TAB | completes the last word before the cursor, or lists what may stand there |
//! | `^L` | clears the screen |
//!
//! Other control characters and sequences do nothing. Bytes above 0x7f are inserted as they are, but for 0x9b, which
//! begins a sequence.
//!
//! Bounds: a line has at most [`LINE_MAX`] bytes, what is typed beyond is ignored; an editor holds about 300 KiB at most,
//! and next to nothing before the first line.

mod completion;
mod history;
mod keys;
mod line;
mod screen;

use self::history::History;
use self::keys::{Key, Keys};
use self::line::Line;
use self::screen::Screen;

/// The most bytes a line can have: as many as in QEMU. (QEMU lets a full line grow when the cursor is inside it, over
/// its buffer's end; here a full line stays as it is.)
pub const LINE_MAX: usize = 4095;

/// Echo above which [`Editor::next`] returns, for somebody to write it.
const ECHO_MARK: usize = 64 * 1024;

/// What has happened at the client's side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line was entered; its bytes that are not UTF-8 are replaced. Whoever executes it calls [`Editor::prompt`] in the
    /// end.
    Line(String),
    /// The client asks what may stand in the place of the last word of this text, which is what stands before the
    /// cursor. [`Editor::complete`] answers; no answer is one too.
    Complete(String),
    /// There is much echo, which had better be written before more is made.
    Echo,
}

/// A line editor. See the [module](self).
///
/// ```
/// use qmp_monitor::human::{Editor, Event};
///
/// let mut editor = Editor::new("(qemu) ");
/// editor.prompt();
/// let mut input: &[u8] = b"stpo\x1b[D\x1b[D\x04\x05p\rinfo";
/// assert_eq!(editor.next(&mut input), Some(Event::Line("stop".into())));
/// assert_eq!(input, b"info");
/// let mut echo = Vec::new();
/// editor.echo(&mut echo);
/// assert!(echo.starts_with(b"(qemu) s\x1b[K\x1b[Dst\x1b[K") && echo.ends_with(b"\r\n"));
/// ```
#[derive(Debug)]
pub struct Editor {
    prompt: Box<str>,
    keys: Keys,
    line: Line,
    history: History,
    screen: Screen,
    echo: Vec<u8>,
}

impl Editor {
    /// An editor with an empty line and history. It has shown nothing yet, not even the prompt.
    pub fn new(prompt: impl Into<Box<str>>) -> Self {
        Self {
            prompt: prompt.into(),
            keys: Keys::default(),
            line: Line::default(),
            history: History::default(),
            screen: Screen::default(),
            echo: Vec::new(),
        }
    }

    /// Shows the prompt: at the beginning, and whenever a line has been executed.
    pub fn prompt(&mut self) {
        self.echo.extend_from_slice(self.prompt.as_bytes());
        self.screen.forget();
        self.keys.reset();
    }

    /// Takes bytes up to the next event, its last included, or all of them.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Event> {
        while let Some((byte, rest)) = bytes.split_first() {
            *bytes = rest;
            let event = self.keys.next(*byte).and_then(|key| self.press(key));
            self.screen.update(&self.line, &mut self.echo);
            if event.is_some() {
                return event;
            }
            if self.echo.len() > ECHO_MARK {
                return Some(Event::Echo);
            }
        }
        None
    }

    /// Answers [`Event::Complete`]. Candidates are whole words; those that do not go on from the word that is there, or that
    /// a terminal cannot show, do not count, and of the others the first 256. A single one is inserted, with a blank
    /// behind it unless it ends with `/`. Of several, what they have in common is inserted, and all are listed.
    pub fn complete(&mut self, candidates: Vec<String>) {
        let before = String::from_utf8_lossy(self.line.before()).into_owned();
        let word = completion::last_word(&before);
        let candidates = completion::fitting(candidates, word);
        let missing = completion::common_prefix(&candidates).get(word.len()..).unwrap_or_default();
        self.line.insert_all(missing.as_bytes());
        match candidates.as_slice() {
            [] => {}
            [one] if one.ends_with('/') => {}
            [_] => self.line.insert(b' '),
            several => {
                self.echo.extend_from_slice(b"\r\n");
                completion::columns(several, &mut self.echo);
                self.prompt();
            }
        }
        self.screen.update(&self.line, &mut self.echo);
    }

    /// Moves what the client is to be sent to the end of `out`.
    pub fn echo(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.echo);
        self.echo.shrink_to(256);
    }

    /// Forgets the line that is being edited, and echo that was not fetched.
    pub fn reset(&mut self) {
        self.keys.reset();
        self.line = Line::default();
        self.echo = Vec::new();
        self.screen.forget();
    }

    fn press(&mut self, key: Key) -> Option<Event> {
        match key {
            Key::Insert(byte) => self.line.insert(byte),
            Key::Left => self.line.left(),
            Key::Right => self.line.right(),
            Key::Home => self.line.home(),
            Key::End => self.line.end(),
            Key::Delete => self.line.delete(),
            Key::Backspace => self.line.backspace(),
            Key::DeleteWord => self.line.delete_word(),
            Key::Older => {
                if let Some(line) = self.history.older() {
                    self.line.set(line);
                }
            }
            Key::Newer => {
                if let Some(line) = self.history.newer() {
                    self.line.set(line);
                }
            }
            Key::Clear => {
                self.echo.extend_from_slice(b"\x1b[2J\x1b[1;1H");
                self.prompt();
            }
            Key::Complete => return Some(Event::Complete(text(self.line.before()))),
            Key::Enter => return Some(self.enter()),
        }
        None
    }

    fn enter(&mut self) -> Event {
        let line = self.line.take();
        self.history.add(&line);
        self.echo.extend_from_slice(b"\r\n");
        // The next line begins on an empty row, whether or not a prompt is shown.
        self.screen.forget();
        Event::Line(text(&line))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
