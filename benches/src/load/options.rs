//! The command line of `bench-qmp`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cases::{CASES, Scale};
use super::{Error, Result};
use crate::harness::options::{beside_this_program, number, seconds};
use crate::harness::process::{Placement, Spec, loudly};

/// What `--help` prints.
pub const HELP: &str = "\
bench-qmp: measures QMP servers side by side, in rounds, against a floor.

usage: bench-qmp [options]

Without options it measures, where they are there: the floor (qmp-floor, beside this program), vmmd (beside this
program, or target/release/vmmd) and qemu-system-x86_64 (from PATH). Each measurement starts a process of its own;
servers take turns within each round. The table gives medians over rounds, and in brackets the median of the ratio to
the floor of the same round. Build all of it first:
    cargo build --release -p vmm-benches -p vmmd --bins

  --server NAME=CMD   one more server, or another command for one of the above. CMD is split at blanks; in it
                      {args}  becomes -qmp unix:PATH,server=on,wait=off for each monitor,
                      {socks} becomes each monitor's PATH,
                      {sock}  becomes the PATH of a single monitor (measurements that need more say n/a).
                      Example: --server 'old=/opt/vmmd-0.1 -S -machine none {args}'
  --floor FILE        the floor's program
  --skip NAME,...     leave these servers out (floor, vmmd, qemu, or your own)
  --only TEST,...     only these measurements; --list names them
  --rounds N          rounds, 1 or more (default 5)
  --seconds S         time for one measurement of one server, in seconds (default 1)
  --monitors N        monitors where there are many, 2 to 1000 (default 256)
  --sessions N        idle sessions for the memory figure, 1 to 10000 (default 1000)
  --quick             2 rounds of 0.1 s, 200 idle sessions: to see that all is well, not to compare
  --pin               client on the first CPU, servers on the last: every wake-up crosses CPUs. The steadiest, and
                      the one to compare; a server has one CPU then, whatever threads it has
  --pin-together      client and servers on the first CPU: no wake-up crosses, so that what is left is the work
                      (by default the kernel places them, and may do so differently for each process: a floor of 3 us
                      beside a server at 60 us then says nothing about the server)
  --json FILE         also write every figure of every round
  --list              name the measurements and end
  --help              this text

Ends with 1 when a measurement failed (an error reply, a server that ended), with 2 for wrong options.
";

/// What to measure, and how.
#[derive(Debug)]
pub struct Options {
    /// The servers; the floor, if any, is the first and called "floor".
    pub servers: Vec<Spec>,
    /// Names of the measurements; empty for all.
    pub only: Vec<String>,
    /// How often everything is measured.
    pub rounds: usize,
    /// How much of it.
    pub scale: Scale,
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
    /// Print the measurements' names.
    List,
    /// Measure.
    Run(Box<Options>),
}

impl Request {
    /// Reads the arguments, without the program's name, and finds the default servers.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] for a wrong option, [`Error::Missing`] when the floor is not there.
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
    servers: Vec<Spec>,
    floor: Option<PathBuf>,
    skip: Vec<String>,
    only: Vec<String>,
    rounds: Option<usize>,
    budget: Option<Duration>,
    monitors: Option<usize>,
    sessions: Option<usize>,
    quick: bool,
    placement: Placement,
    json: Option<PathBuf>,
}

impl Given {
    fn set(&mut self, option: &str, value: &str) -> Result<()> {
        let names = || value.split(',').map(str::to_owned);
        match option {
            "--server" => {
                let (name, command) = value
                    .split_once('=')
                    .ok_or_else(|| Error::Usage(format!("--server {value:?}: expected NAME=COMMAND")))?;
                self.servers.push(Spec::parse(name, command)?);
            }
            "--floor" => self.floor = Some(value.into()),
            "--skip" => self.skip.extend(names()),
            "--only" => {
                if let Some(unknown) = names().find(|name| CASES.iter().all(|case| case.name != name)) {
                    return Err(Error::Usage(format!(
                        "--only {unknown:?}: no such measurement; --list names them"
                    )));
                }
                self.only.extend(names());
            }
            "--rounds" => self.rounds = Some(number(option, value, 1, 1000)?),
            "--seconds" => self.budget = Some(seconds(value)?),
            "--monitors" => self.monitors = Some(number(option, value, 2, 1000)?),
            "--sessions" => self.sessions = Some(number(option, value, 1, 10_000)?),
            "--json" => self.json = Some(value.into()),
            _ => return Err(Error::Usage(format!("{option}: no such option; --help lists them"))),
        }
        Ok(())
    }

    fn options(self) -> Result<Options> {
        let (rounds, budget, sessions) =
            if self.quick { (2, Duration::from_millis(100), 200) } else { (5, Duration::from_secs(1), 1000) };
        let scale = Scale {
            budget: self.budget.unwrap_or(budget),
            monitors: self.monitors.unwrap_or(256),
            sessions: self.sessions.unwrap_or(sessions),
            ..Scale::default()
        };
        let rounds = self.rounds.unwrap_or(rounds);
        let (only, placement, json) = (self.only.clone(), self.placement, self.json.clone());
        Ok(Options { servers: self.servers()?, only, rounds, scale, placement, json })
    }

    /// The default servers that are there and not skipped, each replaced by one of its name; then the others.
    fn servers(mut self) -> Result<Vec<Spec>> {
        let mut servers = Vec::new();
        for (name, default) in [("floor", floor as Finder), ("vmmd", vmmd), ("qemu", qemu)] {
            if self.skip.iter().any(|skipped| skipped == name) {
                continue;
            }
            match self.servers.iter().position(|server| server.name == name) {
                Some(own) => servers.push(self.servers.remove(own)),
                None => servers.extend(default(&self)?),
            }
        }
        servers.extend(self.servers);
        servers.retain(|server| !self.skip.contains(&server.name));
        if servers.is_empty() {
            return Err(Error::Usage("no server is left to measure".into()));
        }
        Ok(servers)
    }
}

type Finder = fn(&Given) -> Result<Option<Spec>>;

fn floor(given: &Given) -> Result<Option<Spec>> {
    let path = given.floor.clone().unwrap_or_else(|| beside_this_program("qmp-floor"));
    if !path.is_file() {
        let remedy = "build it with `cargo build --release -p vmm-benches --bins`, name it with --floor, or --skip floor";
        return Err(Error::Missing { path, remedy });
    }
    Ok(Some(spec("floor", &path, &["{socks}"])))
}

fn vmmd(_: &Given) -> Result<Option<Spec>> {
    let places = [beside_this_program("vmmd"), PathBuf::from("target/release/vmmd")];
    let Some(path) = places.iter().find(|path| path.is_file()) else {
        loudly("bench-qmp", "vmmd is SKIPPED: not built; `cargo build --release -p vmmd` builds it");
        return Ok(None);
    };
    Ok(Some(spec("vmmd", path, &["-S", "-nodefaults", "-display", "none", "-machine", "none", "{args}"])))
}

fn qemu(_: &Given) -> Result<Option<Spec>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let program =
        std::env::split_paths(&path).map(|dir| dir.join("qemu-system-x86_64")).find(|file| file.is_file());
    let Some(path) = program else {
        loudly(
            "bench-qmp",
            "QEMU is SKIPPED: no qemu-system-x86_64 in PATH; install it, or give --server qemu='... {args}'",
        );
        return Ok(None);
    };
    let words = ["-S", "-no-user-config", "-nodefaults", "-display", "none", "-machine", "none", "{args}"];
    Ok(Some(spec("qemu", &path, &words)))
}

fn spec(name: &str, program: &Path, words: &[&str]) -> Spec {
    let program = program.display().to_string();
    let words = std::iter::once(program).chain(words.iter().map(|&word| word.to_owned())).collect();
    Spec { name: name.to_owned(), words }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Request> {
        Request::parse(args.iter().map(|&arg| arg.to_owned()))
    }

    fn run(args: &[&str]) -> Options {
        match parse(args) {
            Ok(Request::Run(options)) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn own_servers_replace_defaults_and_follow_them() {
        let options = run(&[
            "--skip",
            "floor,qemu",
            "--server",
            "mine=m {sock}",
            "--server",
            "vmmd=v {args}",
            "--quick",
        ]);
        let names: Vec<_> = options.servers.iter().map(|server| server.name.as_str()).collect();
        assert_eq!(names, ["vmmd", "mine"]);
        assert_eq!(options.servers[0].words, ["v", "{args}"]);
        assert_eq!((options.rounds, options.scale.sessions), (2, 200));
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (args, word) in [
            (&["--bogus", "1"][..], "--bogus"),
            (&["--rounds"], "--rounds"),
            (&["--rounds", "0"], "1 to 1000"),
            (&["--only", "one,nope"], "nope"),
            (&["--seconds", "-1"], "--seconds"),
            (&["--server", "x"], "NAME=COMMAND"),
            (&["--skip", "floor,vmmd,qemu"], "no server"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(matches!(error, Error::Usage(_)));
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn a_floor_that_is_not_there_is_named() {
        let error = parse(&["--floor", "/nonexistent/floor"]).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/floor is not there"), "{error}");
    }
}
