//! The line that is being edited.

use super::LINE_MAX;

/// Bytes with a cursor. A cursor stands before the byte of its number, or behind the last.
///
/// It edits bytes, as QEMU does: a backspace behind a character of several bytes removes its last.
#[derive(Debug, Default)]
pub(super) struct Line {
    bytes: Vec<u8>,
    cursor: usize,
}

impl Line {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    /// What stands before the cursor.
    pub(super) fn before(&self) -> &[u8] {
        &self.bytes[..self.cursor]
    }

    /// Inserts a byte, unless the line is full.
    pub(super) fn insert(&mut self, byte: u8) {
        if self.bytes.len() < LINE_MAX {
            self.bytes.insert(self.cursor, byte);
            self.cursor += 1;
        }
    }

    pub(super) fn insert_all(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.insert(*byte));
    }

    pub(super) fn left(&mut self) {
        self.cursor = self.cursor.saturating_sub(1);
    }

    pub(super) fn right(&mut self) {
        self.cursor = self.bytes.len().min(self.cursor + 1);
    }

    pub(super) fn home(&mut self) {
        self.cursor = 0;
    }

    pub(super) fn end(&mut self) {
        self.cursor = self.bytes.len();
    }

    /// Removes the byte under the cursor.
    pub(super) fn delete(&mut self) {
        if self.cursor < self.bytes.len() {
            self.bytes.remove(self.cursor);
        }
    }

    /// Removes the byte before the cursor.
    pub(super) fn backspace(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.bytes.remove(self.cursor);
        }
    }

    /// Removes the word before the cursor and the blanks behind it; with a word that has one blank in all before it, that
    /// one too.
    pub(super) fn delete_word(&mut self) {
        let words = self.before().trim_ascii_end();
        let start = match words.iter().rposition(u8::is_ascii_whitespace) {
            None | Some(0) => 0,
            Some(blank) => blank + 1,
        };
        self.bytes.drain(start..self.cursor);
        self.cursor = start;
    }

    /// Another line instead, with the cursor at its end.
    pub(super) fn set(&mut self, line: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(line);
        self.end();
    }

    /// Takes the line out, and begins an empty one.
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.cursor = 0;
        std::mem::take(&mut self.bytes)
    }
}
