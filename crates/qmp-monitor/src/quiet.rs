//! Keeps what clients can bring about at will from filling the log: a line a second, which says how many there were not.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// At most one line goes to the log in this time.
const QUIET: Duration = Duration::from_secs(1);

/// When the last line was written, and how many were not since then.
#[derive(Debug, Default)]
pub(crate) struct Quiet(Mutex<(Option<Instant>, u64)>);

impl Quiet {
    /// Whether a line may be written, and how many were not since the last.
    pub(crate) fn may_speak(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, untold) = &mut *state;
        let now = Instant::now();
        if last.is_some_and(|last| now < last + QUIET) {
            *untold += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(untold))
    }

    /// Says that a session had to give so much of what it held, or could not have it.
    pub(crate) fn say(&self, session: u64, amount: usize, what: &'static str) {
        match self.may_speak() {
            Some(untold) => tracing::warn!(session, amount, untold, "{what}"),
            None => tracing::debug!(session, amount, "{what}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_a_second() {
        let quiet = Quiet::default();
        assert_eq!(quiet.may_speak(), Some(0));
        for _ in 0..3 {
            assert_eq!(quiet.may_speak(), None);
        }
        tokio::time::advance(QUIET).await;
        assert_eq!((quiet.may_speak(), quiet.may_speak()), (Some(3), None));
    }
}
