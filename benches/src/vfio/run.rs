//! Rounds: every measurement of every server, the servers in turns.
//!
//! The order is round, measurement, client, server, so that the figures that are divided by each other were taken within
//! a second of each other: what else the machine does then hits all of them alike.

use super::cases::{Bed, CASES, Case};
use super::client::Kind;
use super::options::Options;
use super::servers::Server;
use crate::harness::process::raise_open_files;
pub use crate::harness::rounds::Cell;
use crate::harness::{Result, describe};

/// What a measurement found with one kind of client.
#[derive(Debug)]
pub struct Row {
    /// The measurement.
    pub case: &'static Case,
    /// The client.
    pub kind: Kind,
    /// Per server, in the order of [`Options::servers`].
    pub cells: Vec<Cell>,
}

impl Row {
    /// The median over rounds of the ratio of a server's figure to its floor's in the same round; `None` where that
    /// says nothing.
    #[must_use]
    pub fn ratio(&self, servers: &[Server], server: usize, figure: usize) -> Option<f64> {
        let floor = servers[server].floor.filter(|_| self.case.figures[figure].compared)?;
        self.cells[server].ratio(&self.cells[floor], figure)
    }

    /// Whether the measurement failed on a server.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.cells.iter().any(|cell| matches!(cell, Cell::Failed(_)))
    }
}

/// Does all that the options say, and tells `progress` what it is doing.
///
/// # Errors
///
/// When a process cannot be bound to a CPU. A measurement that fails is a [`Cell::Failed`].
pub fn run(options: &Options, mut progress: impl FnMut(&str)) -> Result<Vec<Row>> {
    raise_open_files()?;
    let wanted = |case: &&Case| options.only.is_empty() || options.only.iter().any(|name| name == case.name);
    let rows = |case: &'static Case| {
        case.clients.iter().map(move |&kind| {
            let empty = |server: &Server| match server.can(case.need) {
                true => Cell::Measured { rounds: Vec::new(), note: None },
                false => Cell::Unavailable,
            };
            Row { case, kind, cells: options.servers.iter().map(empty).collect() }
        })
    };
    let mut rows: Vec<Row> = CASES.iter().filter(wanted).flat_map(rows).collect();
    for round in 1..=options.rounds {
        progress(&format!("round {round} of {}", options.rounds));
        for row in &mut rows {
            for (server, cell) in options.servers.iter().zip(&mut row.cells) {
                if let Cell::Measured { rounds, .. } = cell {
                    match measure(row.case, row.kind, server, options) {
                        Ok(figures) => rounds.push(figures),
                        Err(error) => *cell = Cell::Failed(describe(&error)),
                    }
                }
            }
        }
    }
    Ok(rows)
}

fn measure(case: &Case, kind: Kind, server: &Server, options: &Options) -> Result<Vec<f64>> {
    let placement = case.placement.unwrap_or(options.placement);
    let running = server.spec.start(case.contexts, placement)?;
    let bed = Bed { server: &running, kind, budget: options.budget };
    running.explain((case.run)(&bed))
}
