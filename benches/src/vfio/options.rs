//! The command line of `bench-vfio-user`.

use std::path::PathBuf;
use std::time::Duration;

use super::cases::CASES;
use super::servers::{self, Server};
use crate::harness::options::{beside_this_program, number, seconds};
use crate::harness::process::Placement;
use crate::harness::{Error, Result};

/// What `--help` prints.
pub const HELP: &str = "\
bench-vfio-user: measures vfio-user servers side by side, in rounds, against floors.

usage: bench-vfio-user [options]

The servers: two floors, which do a server's socket work and nothing else (one blocks in epoll_wait, one polls); the
server of the vfio_user crate; ours, with the scratch device. Each measurement starts a process of its own
(vfio-user-target, beside this program); servers take turns within each round. The table gives medians over rounds, and
in brackets the median of the ratio to the floor that waits alike, in the same round. Build all of it first:
    cargo build --release -p vmm-benches --bins

  --skip NAME,...     leave these servers out; --list names them
  --only TEST,...     only these measurements; --list names them
  --rounds N          rounds, 1 or more (default 9)
  --seconds S         time for one measurement of one server, in seconds (default 0.15)
  --quick             2 rounds of 0.02 s: to see that all is well, not to compare
  --pin               client on the first CPU, servers on the last: every wake-up crosses CPUs. The steadiest, and
                      the one to compare
  --pin-together      client and servers on the first CPU (polling then only takes the other's time)
  --target FILE       the servers' program
  --json FILE         also write every figure of every round
  --list              name the measurements and the servers, and end
  --help              this text

Says which aims are met and which are MISSED. Ends with 1 when a measurement failed (an error, a wrong answer, a server
that ended), with 2 for wrong options.
";

/// What to measure, and how.
#[derive(Debug)]
pub struct Options {
    /// The servers.
    pub servers: Vec<Server>,
    /// Names of the measurements; empty for all.
    pub only: Vec<String>,
    /// How often everything is measured.
    pub rounds: usize,
    /// Time for one measurement of one server.
    pub budget: Duration,
    /// Where client and servers run.
    pub placement: Placement,
    /// Where to write all figures.
    pub json: Option<PathBuf>,
}

/// What the command line asks for.
#[derive(Debug)]
pub enum Request {
    /// Print [`HELP`].
    Help,
    /// Print the names of measurements and servers.
    List,
    /// Measure.
    Run(Box<Options>),
}

impl Request {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a wrong option, [`Error::Missing`] when the servers' program is not there.
    pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut given = Given::default();
        let mut args = args.into_iter();
        while let Some(option) = args.next() {
            match option.as_str() {
                "--help" | "-h" => return Ok(Self::Help),
                "--list" => return Ok(Self::List),
                "--quick" => given.quick = true,
                "--pin" => given.placement = Placement::Apart,
                "--pin-together" => given.placement = Placement::Together,
                _ => {
                    let value = args
                        .next()
                        .ok_or_else(|| Error::Usage(format!("{option}: no value, or no such option")))?;
                    given.set(&option, &value)?;
                }
            }
        }
        Ok(Self::Run(Box::new(given.options()?)))
    }
}

/// Options as they stand, before defaults.
#[derive(Debug, Default)]
struct Given {
    target: Option<PathBuf>,
    skip: Vec<String>,
    only: Vec<String>,
    rounds: Option<usize>,
    budget: Option<Duration>,
    quick: bool,
    placement: Placement,
    json: Option<PathBuf>,
}

impl Given {
    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let known = |names: &[&str]| {
            let words = value.split(',').map(str::to_owned);
            words
                .map(|word| match names.contains(&word.as_str()) {
                    true => Ok(word),
                    false => Err(Error::Usage(format!("{option} {word:?}: unknown; --list names them"))),
                })
                .collect::<Result<Vec<_>>>()
        };
        match option {
            "--skip" => self.skip.extend(known(&servers::names().collect::<Vec<_>>())?),
            "--only" => self.only.extend(known(&CASES.iter().map(|case| case.name).collect::<Vec<_>>())?),
            "--rounds" => self.rounds = Some(number(option, value, 1, 1000)?),
            "--seconds" => self.budget = Some(seconds(value)?),
            "--target" => self.target = Some(value.into()),
            "--json" => self.json = Some(value.into()),
            _ => return Err(Error::Usage(format!("{option}: no such option; --help lists them"))),
        }
        Ok(())
    }

    fn options(self) -> Result<Options> {
        let path = self.target.unwrap_or_else(|| beside_this_program("vfio-user-target"));
        if !path.is_file() {
            let remedy =
                "build it with `cargo build --release -p vmm-benches --bins`, or name it with --target";
            return Err(Error::Missing { path, remedy });
        }
        let servers = servers::servers(&path, &self.skip);
        if servers.is_empty() {
            return Err(Error::Usage("no server is left to measure".into()));
        }
        let (rounds, budget) =
            if self.quick { (2, Duration::from_millis(20)) } else { (9, Duration::from_millis(150)) };
        Ok(Options {
            servers,
            only: self.only,
            rounds: self.rounds.unwrap_or(rounds),
            budget: self.budget.unwrap_or(budget),
            placement: self.placement,
            json: self.json,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Request> {
        Request::parse(args.iter().map(|&arg| arg.to_owned()))
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (args, word) in [
            (&["--bogus", "1"][..], "--bogus"),
            (&["--rounds"], "--rounds"),
            (&["--only", "read,nope"], "nope"),
            (&["--skip", "nobody"], "nobody"),
            (&["--seconds", "-1"], "--seconds"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(matches!(error, Error::Usage(_)));
            assert!(error.to_string().contains(word), "{error}");
        }
        let error = parse(&["--target", "/nonexistent/target"]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/target is not there"), "{error}");
    }
}
