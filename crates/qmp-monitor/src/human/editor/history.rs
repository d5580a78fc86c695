//! The lines that were entered.

use std::collections::VecDeque;

/// How many lines are kept: as many as in QEMU.
const CAPACITY: usize = 64;

/// Lines, oldest first, none twice; and the place in them where up and down have come to.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: VecDeque<Vec<u8>>,
    /// `None`: behind the newest.
    at: Option<usize>,
}

impl History {
    /// Adds a line as the newest. An empty one is not kept, and leaves the place where it is.
    pub(super) fn add(&mut self, line: &[u8]) {
        if line.is_empty() {
            return;
        }
        if let Some(index) = self.lines.iter().position(|old| old == line) {
            self.lines.remove(index);
        } else if self.lines.len() == CAPACITY {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_vec());
        self.at = None;
    }

    /// One line back. `None`: there is none before, and the place stays.
    pub(super) fn older(&mut self) -> Option<&[u8]> {
        let index = self.at.unwrap_or(self.lines.len()).checked_sub(1)?;
        self.at = Some(index);
        self.lines.get(index).map(Vec::as_slice)
    }

    /// One line forward; behind the newest is an empty one. `None`: that is where the place was.
    pub(super) fn newer(&mut self) -> Option<&[u8]> {
        let next = self.at? + 1;
        self.at = (next < self.lines.len()).then_some(next);
        Some(self.lines.get(next).map_or(&[], Vec::as_slice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_list_of_different_lines() {
        let mut history = History::default();
        for n in 0..100 {
            history.add(format!("{}", n % 70).as_bytes());
        }
        assert_eq!(history.lines.len(), CAPACITY);
        assert_eq!(history.older(), Some(&b"29"[..]));
        let older = std::iter::from_fn(|| history.older().map(<[u8]>::to_vec)).count();
        assert_eq!(older, CAPACITY - 1);
        assert_eq!(history.older(), None);
    }
}
