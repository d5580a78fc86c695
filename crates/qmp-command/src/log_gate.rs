//! A bound on how often a session makes the log say the same.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long it stays closed.
const CLOSED_FOR: Duration = Duration::from_secs(1);

/// Lets one line through, and one more each second: a client that has thousands of requests refused must not fill a disk.
///
/// ```
/// # use qmp_command::LogGate;
/// let gate = LogGate::default();
/// assert_eq!(gate.admit(), Some(0));
/// assert_eq!(gate.admit(), None);
/// ```
#[derive(Debug, Default)]
pub struct LogGate(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    opens: Option<Instant>,
    left_out: u64,
}

impl LogGate {
    /// Whether to log now, and then how many lines were left out since the last.
    pub fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.opens.is_some_and(|opens| now < opens) {
            state.left_out += 1;
            return None;
        }
        state.opens = Some(now + CLOSED_FOR);
        Some(std::mem::take(&mut state.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_then_one_a_second_with_a_count() {
        let (gate, start) = (LogGate::default(), Instant::now());
        let at = |millis| gate.admit_at(start + Duration::from_millis(millis));
        assert_eq!(at(0), Some(0));
        assert_eq!([at(1), at(500), at(999)], [None; 3]);
        assert_eq!(at(1000), Some(3));
        assert_eq!([at(1001), at(1999)], [None; 2]);
        assert_eq!(at(5000), Some(2));
    }
}
