//! What the rounds of a measurement found, on one server.

use super::stats::median;

/// A figure that a measurement gives.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// "p50".
    pub name: &'static str,
    /// "us", "replies/s", "KB", "x idle".
    pub unit: &'static str,
    /// Whether its ratio to the floor's says anything.
    pub compared: bool,
}

/// What a measurement found on one server.
#[derive(Debug)]
pub enum Cell {
    /// Figures: per round, in the order of the measurement's figures.
    Measured {
        /// Rounds of figures.
        rounds: Vec<Vec<f64>>,
        /// What the measurement had to do differently here, "64 monitors".
        note: Option<String>,
    },
    /// The server cannot do it.
    Unavailable,
    /// Why it failed. It is not tried again in later rounds.
    Failed(String),
}

impl Cell {
    /// The median over rounds of a figure.
    #[must_use]
    pub fn median(&self, figure: usize) -> Option<f64> {
        median(&self.figure(figure)?)
    }

    /// The median over rounds of the ratio to `floor`'s figure in the same round.
    #[must_use]
    pub fn ratio(&self, floor: &Self, figure: usize) -> Option<f64> {
        let pairs = self.figure(figure)?.into_iter().zip(floor.figure(figure)?);
        median(&pairs.map(|(value, floor)| value / floor).collect::<Vec<_>>())
    }

    /// Whether rounds differ by more than a factor of two: a figure of which the median says little.
    #[must_use]
    pub fn unsteady(&self, figure: usize) -> bool {
        let values = self.figure(figure).unwrap_or_default();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        values.iter().any(|&value| value > 2.0 * least)
    }

    fn figure(&self, figure: usize) -> Option<Vec<f64>> {
        match self {
            Self::Measured { rounds, .. } => Some(rounds.iter().map(|figures| figures[figure]).collect()),
            Self::Unavailable | Self::Failed(_) => None,
        }
    }
}
