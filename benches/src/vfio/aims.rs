//! What the figures should be.

/// How a server of ours waits for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It polls, for a while at least.
    Polled,
    /// It blocks in `epoll_wait`.
    Epoll,
}

/// The most that a figure should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// This many times the floor's, in the same round.
    TimesFloor(f64),
    /// This much, in the figure's own unit.
    Value(f64),
}

/// What one figure of a measurement should be.
#[derive(Debug, Clone, Copy)]
pub struct Aim {
    /// The figure's place among those of its measurement.
    pub figure: usize,
    /// For servers in which mode; in both if there is none.
    pub mode: Option<Mode>,
    /// What it should be at most.
    pub bound: Bound,
}

impl Aim {
    /// For servers in either mode.
    pub(crate) const fn of(figure: usize, bound: Bound) -> Self {
        Self { figure, mode: None, bound }
    }

    /// For servers in one mode.
    pub(crate) const fn in_mode(mode: Mode, figure: usize, bound: Bound) -> Self {
        Self { figure, mode: Some(mode), bound }
    }

    /// Whether it is for servers in `mode`.
    #[must_use]
    pub fn holds_for(&self, mode: Mode) -> bool {
        self.mode.is_none_or(|own| own == mode)
    }

    /// Whether a figure of which the value and the ratio to the floor's are given is as it should be; `None` if there
    /// is no saying.
    #[must_use]
    pub fn met(&self, value: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self.bound {
            Bound::TimesFloor(most) => ratio.map(|ratio| ratio <= most),
            Bound::Value(most) => value.map(|value| value <= most),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_inclusive_and_unknown_without_figures() {
        let ratio = Aim::in_mode(Mode::Epoll, 0, Bound::TimesFloor(1.05));
        assert_eq!(ratio.met(Some(9.0), Some(1.05)), Some(true));
        assert_eq!(ratio.met(Some(0.1), Some(1.06)), Some(false));
        assert_eq!(ratio.met(Some(0.1), None), None);
        assert!(ratio.holds_for(Mode::Epoll) && !ratio.holds_for(Mode::Polled));
        let value = Aim::of(0, Bound::Value(0.3));
        assert_eq!((value.met(Some(0.31), None), value.met(None, None)), (Some(false), None));
        assert!(value.holds_for(Mode::Epoll) && value.holds_for(Mode::Polled));
    }
}
