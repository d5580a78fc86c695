//! Samples into figures: percentiles of one round, medians over rounds.

use std::time::{Duration, Instant};

use super::Result;

/// The latencies of one measurement, in microseconds.
#[derive(Debug, Default, Clone)]
pub struct Latencies {
    micros: Vec<f64>,
}

impl Latencies {
    /// Repeats `once` for `budget` and keeps the time that each call took, but at least ten calls'.
    ///
    /// A tenth of the budget goes first, unrecorded, so that caches, branch predictors and the server's buffers are
    /// what they are in use.
    ///
    /// # Errors
    ///
    /// The first error of `once`.
    pub fn measure(budget: Duration, mut once: impl FnMut() -> Result<()>) -> Result<Self> {
        let start = Instant::now();
        while start.elapsed() < budget / 10 {
            once()?;
        }
        let mut latencies = Self::default();
        let mut now = Instant::now();
        let end = now + budget;
        while now < end || latencies.micros.len() < 10 {
            let before = Instant::now();
            once()?;
            now = Instant::now();
            latencies.record(now - before);
        }
        latencies.micros.sort_by(f64::total_cmp);
        Ok(latencies)
    }

    fn record(&mut self, latency: Duration) {
        self.micros.push(latency.as_secs_f64() * 1e6);
    }

    /// The smallest latency that `percent` (1 to 100) of all are at or below, in microseconds; 0 without samples.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> f64 {
        let rank = (self.micros.len() * percent).div_ceil(100);
        self.micros.get(rank.saturating_sub(1)).copied().unwrap_or_default()
    }
}

/// The median: the middle value, or the mean of the middle two; `None` without values.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    let lower = sorted[(sorted.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let latencies = Latencies { micros: (1..=200).map(f64::from).collect() };
        assert_eq!(latencies.percentile(50), 100.0);
        assert_eq!(latencies.percentile(99), 198.0);
        assert_eq!(latencies.percentile(100), 200.0);
        assert_eq!(Latencies::default().percentile(50), 0.0);
    }

    #[test]
    fn measuring_takes_at_least_ten_samples_and_sorts_them() {
        let latencies = Latencies::measure(Duration::ZERO, || Ok(())).unwrap();
        assert_eq!(latencies.micros.len(), 10);
        assert!(latencies.micros.is_sorted());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }
}
