//! Pauses between attempts of a listener that cannot accept.

use std::io;
use std::time::Duration;

use peer_admission::{Refusals, Told};
use tokio::time::Instant;

const FIRST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(1);

/// Remembers when to try again, so that whoever waits may stop waiting and come back. Time is tokio's.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    until: Option<Instant>,
    last: Duration,
    /// Failures that others can bring about at will, one after each success, are not all told.
    told: Refusals,
}

impl Backoff {
    /// Waits for the end of the pause. May be dropped at any time.
    pub(crate) async fn pause(&mut self) {
        if let Some(until) = self.until {
            tokio::time::sleep_until(until).await;
            self.until = None;
        }
    }

    /// Notes a failure: the next pause is twice the last, up to a second. The first of a row is logged as a warning, at most
    /// once a second.
    pub(crate) fn failed(&mut self, id: &str, error: &io::Error) {
        let first = self.last.is_zero();
        if let Some(Told { untold }) = first.then(|| self.told.refused(std::time::Instant::now())).flatten() {
            tracing::warn!(chardev = id, %error, untold, "cannot accept a client, trying again");
        } else {
            tracing::debug!(chardev = id, %error, "still cannot accept a client");
        }
        self.last = (self.last * 2).clamp(FIRST, LONGEST);
        self.until = Some(Instant::now() + self.last);
    }

    pub(crate) fn succeeded(&mut self) {
        self.last = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn doubles_up_to_a_second_and_starts_anew() {
        let mut backoff = Backoff::default();
        let error = io::Error::from(rustix::io::Errno::MFILE);
        let mut pauses = Vec::new();
        for _ in 0..9 {
            backoff.failed("a", &error);
            let before = Instant::now();
            backoff.pause().await;
            pauses.push(before.elapsed().as_millis());
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 640, 1000, 1000]);
        backoff.succeeded();
        backoff.failed("a", &error);
        let before = Instant::now();
        backoff.pause().await;
        backoff.pause().await; // it is over
        assert_eq!(before.elapsed().as_millis(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_pause_goes_on() {
        let mut backoff = Backoff::default();
        backoff.failed("a", &io::Error::from(rustix::io::Errno::NFILE));
        let before = Instant::now();
        assert!(tokio::time::timeout(Duration::from_millis(4), backoff.pause()).await.is_err());
        backoff.pause().await;
        assert_eq!(before.elapsed().as_millis(), 10);
    }
}
