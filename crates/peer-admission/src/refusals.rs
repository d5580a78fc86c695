//! What is said of refused peers: not more than a line in a while, however many there are.

use std::time::{Duration, Instant};

/// At most one refusal is told in this time.
pub const PERIOD: Duration = Duration::from_secs(1);

/// A refusal that is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Refusals since the last one that was told, not counting this one.
    pub untold: u64,
}

/// Decides which refusals are told. One per listener.
#[derive(Debug, Default)]
pub struct Refusals {
    last: Option<Instant>,
    untold: u64,
}

impl Refusals {
    /// A peer was refused. `Some`: it is to be told.
    #[must_use]
    pub fn refused(&mut self, now: Instant) -> Option<Told> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < PERIOD) {
            self.untold += 1;
            return None;
        }
        self.last = Some(now);
        Some(Told { untold: std::mem::take(&mut self.untold) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second_with_a_count() {
        let mut refusals = Refusals::default();
        let start = Instant::now();
        assert_eq!(refusals.refused(start), Some(Told { untold: 0 }));
        for _ in 0..1000 {
            assert_eq!(refusals.refused(start + PERIOD / 2), None);
        }
        assert_eq!(refusals.refused(start + PERIOD), Some(Told { untold: 1000 }));
        assert_eq!(refusals.refused(start + 3 * PERIOD), Some(Told { untold: 0 }));
    }
}
