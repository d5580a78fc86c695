//! Rounds: every measurement of every server, the servers in turns.
//!
//! The order is round, measurement, server, so that the figures that are divided by each other were taken within
//! seconds of each other: what else the machine does then hits all of them alike.

use super::Result;
use super::cases::{Bed, CASES, Case};
use super::options::Options;
use super::server::Traits;
use crate::harness::describe;
use crate::harness::process::{Spec, raise_open_files};
pub use crate::harness::rounds::Cell;

/// What a run found.
#[derive(Debug)]
pub struct Outcome {
    /// Each server's name and traits, the floor first.
    pub servers: Vec<(String, Traits)>,
    /// A row per measurement that was asked for.
    pub rows: Vec<Row>,
}

/// What a measurement found.
#[derive(Debug)]
pub struct Row {
    /// The measurement.
    pub case: &'static Case,
    /// Per server, in the order of [`Outcome::servers`].
    pub cells: Vec<Cell>,
}

impl Outcome {
    /// Whether a measurement failed.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.rows.iter().flat_map(|row| &row.cells).any(|cell| matches!(cell, Cell::Failed(_)))
    }
}

impl Row {
    /// The median over rounds of a server's figure.
    #[must_use]
    pub fn median(&self, server: usize, figure: usize) -> Option<f64> {
        self.cells[server].median(figure)
    }

    /// The median over rounds of the ratio to the first server's figure in the same round; `None` where that says
    /// nothing.
    #[must_use]
    pub fn ratio(&self, server: usize, figure: usize) -> Option<f64> {
        self.case.figures[figure].compared.then(|| self.cells[server].ratio(&self.cells[0], figure))?
    }

    /// Whether a server's rounds differ by more than a factor of two: a figure of which the median says little.
    #[must_use]
    pub fn unsteady(&self, server: usize, figure: usize) -> bool {
        self.cells[server].unsteady(figure)
    }
}

/// Does all that the options say, and tells `progress` what it is doing.
///
/// # Errors
///
/// When a server cannot be started at all. A measurement that fails is a [`Cell::Failed`].
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Outcome> {
    let files = raise_open_files()?;
    progress(&format!("up to {files} open files"));
    let mut servers = Vec::new();
    for spec in &options.servers {
        let traits = spec.probe()?;
        let clients = if traits.many_clients { "many clients" } else { "one client" };
        progress(&format!("{}: {}, {clients} per monitor", spec.name, traits.version));
        servers.push((spec.name.clone(), traits));
    }
    options.placement.enter_client()?;

    let wanted = |case: &&Case| options.only.is_empty() || options.only.iter().any(|name| name == case.name);
    let mut rows: Vec<Row> = CASES
        .iter()
        .filter(wanted)
        .map(|case| Row {
            case,
            cells: servers.iter().map(|(_, traits)| empty(case, traits, options)).collect(),
        })
        .collect();
    for round in 1..=options.rounds {
        for row in &mut rows {
            progress(&format!("round {round} of {}: {}", options.rounds, row.case.title(&options.scale)));
            for ((spec, (_, traits)), cell) in options.servers.iter().zip(&servers).zip(&mut row.cells) {
                if let Cell::Measured { rounds, .. } = cell {
                    match measure(row.case, spec, traits, options) {
                        Ok(figures) => rounds.push(figures),
                        Err(error) => *cell = Cell::Failed(describe(&error)),
                    }
                }
            }
        }
    }
    Ok(Outcome { servers, rows })
}

fn empty(case: &Case, traits: &Traits, options: &Options) -> Cell {
    let Some(monitors) = case.monitors(traits, &options.scale) else { return Cell::Unavailable };
    let all_on_their_own = case.monitors(&Traits { many_clients: true, ..traits.clone() }, &options.scale);
    let note = (all_on_their_own != Some(monitors)).then(|| format!("{monitors} monitors"));
    Cell::Measured { rounds: Vec::new(), note }
}

fn measure(case: &Case, spec: &Spec, traits: &Traits, options: &Options) -> Result<Vec<f64>> {
    let monitors = case.monitors(traits, &options.scale).unwrap_or(1);
    let server = spec.start(monitors, options.placement)?;
    let bed = Bed::new(case, &server, &options.scale);
    server.explain((case.run)(&bed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_round_by_round() {
        let measured = |values: &[f64]| Cell::Measured {
            rounds: values.iter().map(|&value| vec![value, value]).collect(),
            note: None,
        };
        let row = Row {
            case: &CASES[0],
            cells: vec![measured(&[10.0, 20.0, 40.0]), measured(&[20.0, 20.0, 60.0]), Cell::Unavailable],
        };
        assert_eq!(row.median(1, 0), Some(20.0));
        assert_eq!(row.ratio(1, 0), Some(1.5));
        assert_eq!(row.ratio(2, 0), None);
        assert!(row.unsteady(0, 0) && row.unsteady(1, 0) && !row.unsteady(2, 0));
    }
}
