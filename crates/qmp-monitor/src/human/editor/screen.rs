//! What the client's terminal shows of the line, and how it is brought up to date.

use super::line::Line;

const LEFT: &[u8] = b"\x1b[D";
const RIGHT: &[u8] = b"\x1b[C";
const CLEAR_TO_END: &[u8] = b"\x1b[K";

/// The line and the cursor as they were drawn last, behind the prompt.
#[derive(Debug, Default)]
pub(super) struct Screen {
    bytes: Vec<u8>,
    cursor: usize,
}

impl Screen {
    /// A prompt was written: nothing is behind it.
    pub(super) fn forget(&mut self) {
        self.bytes.clear();
        self.cursor = 0;
    }

    /// Writes what makes the terminal show `line`. As in QEMU: all of it when a byte is different, and the cursor by
    /// single steps.
    pub(super) fn update(&mut self, line: &Line, out: &mut Vec<u8>) {
        if self.bytes != line.bytes() {
            repeat(LEFT, self.cursor, out);
            out.extend_from_slice(line.bytes());
            out.extend_from_slice(CLEAR_TO_END);
            self.bytes.clear();
            self.bytes.extend_from_slice(line.bytes());
            self.cursor = self.bytes.len();
        }
        repeat(LEFT, self.cursor.saturating_sub(line.cursor()), out);
        repeat(RIGHT, line.cursor().saturating_sub(self.cursor), out);
        self.cursor = line.cursor();
    }
}

fn repeat(step: &[u8], times: usize, out: &mut Vec<u8>) {
    (0..times).for_each(|_| out.extend_from_slice(step));
}
