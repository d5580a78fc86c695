//! From bytes to keys.

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Insert(u8),
    Enter,
    Complete,
    /// Clears the screen.
    Clear,
    Left,
    Right,
    Home,
    End,
    Delete,
    Backspace,
    DeleteWord,
    /// The line before, in the history.
    Older,
    /// The line after.
    Newer,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Plain,
    /// After ESC.
    Escape,
    /// After ESC `[`, or 0x9b, which is the same in one byte.
    Control,
    /// After ESC `O`.
    Application,
}

/// The keys that QEMU 7.2 knows, with its ways: a byte that does not go on with a sequence ends it and is lost, a `;`
/// too; and after the one-byte form, a number goes on from the last sequence's.
#[derive(Debug, Default)]
pub(super) struct Keys {
    state: State,
    /// The number in a control sequence. It wraps.
    number: u32,
}

impl Keys {
    /// Forgets the beginning of a sequence.
    pub(super) fn reset(&mut self) {
        self.state = State::Plain;
    }

    /// The next byte; the key that it completes, if it does.
    pub(super) fn next(&mut self, byte: u8) -> Option<Key> {
        match std::mem::take(&mut self.state) {
            State::Plain => self.plain(byte),
            State::Escape => {
                match byte {
                    b'[' => self.state = State::Control,
                    b'O' => self.state = State::Application,
                    _ => return None,
                }
                self.number = 0;
                None
            }
            State::Control => self.control(byte),
            State::Application => match byte {
                b'F' => Some(Key::End),
                b'H' => Some(Key::Home),
                _ => None,
            },
        }
    }

    fn plain(&mut self, byte: u8) -> Option<Key> {
        Some(match byte {
            0x01 => Key::Home,
            0x04 => Key::Delete,
            0x05 => Key::End,
            0x08 | 0x7f => Key::Backspace,
            b'\t' => Key::Complete,
            b'\n' | b'\r' => Key::Enter,
            0x0c => Key::Clear,
            0x17 => Key::DeleteWord,
            0x1b => {
                self.state = State::Escape;
                return None;
            }
            0x9b => {
                self.state = State::Control;
                return None;
            }
            0x00..0x20 => return None,
            _ => Key::Insert(byte),
        })
    }

    fn control(&mut self, byte: u8) -> Option<Key> {
        Some(match (byte, self.number) {
            (b'A' | b'F', _) => Key::Older,
            (b'B' | b'E', _) => Key::Newer,
            (b'C', _) => Key::Right,
            (b'D', _) => Key::Left,
            (b'~', 1) => Key::Home,
            (b'~', 3) => Key::Delete,
            (b'~', 4) => Key::End,
            (b'0'..=b'9', number) => {
                self.number = number.wrapping_mul(10).wrapping_add(u32::from(byte - b'0'));
                self.state = State::Control;
                return None;
            }
            _ => return None,
        })
    }
}
