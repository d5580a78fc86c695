//! Replays recorded QMP exchanges against any server and compares what it answers.
//!
//! The cases are those of `conformance/corpus.jsonl`, described in `conformance/FORMAT.md`. [`Options`] says what to
//! run against what, [`run`] runs it: servers are started per group of cases and cases run in several threads, each
//! on a fresh connection. A case passes when everything that arrives, masked where it can never be equal, is what the
//! recorded QEMU sent; it ends at the first step that differs.
//!
//! ```no_run
//! use vmm_integration::replay::{Options, run};
//!
//! let options = Options::new("qemu-system-x86_64 {args}")?;
//! let report = run(&options, &|outcome| println!("{outcome}"));
//! println!("{report}");
//! # Ok::<(), String>(())
//! ```

mod base64;
mod canon;
mod compare;
pub mod corpus;
mod end;
mod mask;
mod runner;
mod schedule;
mod server;
pub mod skips;
pub mod startline;

use std::fmt;
use std::time::Duration;

pub use canon::canonical;
pub use compare::Difference;
pub use schedule::run;
pub use server::Command;

use corpus::{Case, Release};
use skips::Skips;
use startline::Groups;

/// The recorded cases.
const CORPUS: &str = include_str!("../../conformance/corpus.jsonl");
/// The recorded start lines.
const GROUPS: &str = include_str!("../../conformance/groups.json");
/// The start lines that need other words for `vmmd`.
const GROUPS_VMMD: &str = include_str!("../../conformance/groups-vmmd.json");
/// What does not apply to `vmmd`.
const SKIP: &str = include_str!("../../conformance/skip.txt");
/// What `vmmd` does otherwise on purpose, as it comes.
const SKIP_DEFAULT: &str = include_str!("../../conformance/skip-default.txt");

/// The group of cases that any server can run.
const PLAIN_GROUP: &str = "none";

/// What to run, and against what.
#[derive(Debug)]
pub struct Options {
    /// How to start a server.
    pub command: Command,
    /// The cases.
    pub cases: Vec<Case>,
    /// The start lines.
    pub groups: Groups,
    /// What to leave out.
    pub skips: Skips,
    /// Only cases with this in their name.
    pub only: String,
    /// Only cases of this area; all when empty.
    pub area: String,
    /// Compare bytes.
    pub exact: bool,
    /// Also the cases that take many seconds.
    pub heavy: bool,
    /// Only this release's answers count.
    pub expect: Option<Release>,
    /// How many cases at once, each with its own server; at least 1.
    pub jobs: usize,
    /// All waits are multiplied by this.
    pub slow: f64,
}

impl Options {
    /// All of the recorded cases against the server that `start` starts, as many at once as there are processors.
    ///
    /// # Errors
    /// When the recordings cannot be read, which the tests of this crate rule out.
    pub fn new(start: &str) -> Result<Self, String> {
        Ok(Self {
            command: Command { start: start.to_owned(), ..Command::default() },
            cases: corpus::parse(CORPUS)?,
            groups: serde_json::from_str(GROUPS).map_err(|e| e.to_string())?,
            skips: Skips::new(),
            only: String::new(),
            area: String::new(),
            exact: false,
            heavy: false,
            expect: None,
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            slow: 1.0,
        })
    }

    /// The cases that apply to `vmmd`, with its start lines: as it comes, or, with `like_qemu`, with every monitor told
    /// to behave as QEMU's do.
    ///
    /// # Errors
    /// As [`Options::new`].
    pub fn for_vmmd(start: &str, like_qemu: bool) -> Result<Self, String> {
        let mut options = Self::new(start)?;
        let groups: Groups = serde_json::from_str(GROUPS_VMMD).map_err(|e| e.to_string())?;
        options.groups.extend(groups);
        options.skips = skips::parse(SKIP)?;
        if like_qemu {
            options.command.monitor_options = "max-clients=1,named-fds=monitor".to_owned();
        } else {
            options.skips.extend(skips::parse(SKIP_DEFAULT)?);
        }
        Ok(options)
    }
}

/// How one case ended.
#[derive(Debug)]
pub enum Verdict {
    /// As recorded.
    Passed,
    /// Not as recorded.
    Failed(Difference),
    /// Left out.
    Skipped(String),
}

/// One case's result.
#[derive(Debug)]
pub struct Outcome {
    /// The case.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
    /// How long it took.
    pub took: Duration,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Passed => write!(f, "{:7.3}s {}", self.took.as_secs_f64(), self.name),
            Verdict::Failed(difference) => write!(f, "MISMATCH {} {difference}", self.name),
            Verdict::Skipped(reason) => write!(f, "skipped  {}: {reason}", self.name),
        }
    }
}

/// All results.
#[derive(Debug, Default)]
pub struct Report {
    /// One per case, in the order in which they ended.
    pub outcomes: Vec<Outcome>,
}

impl Report {
    fn count(&self, which: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| which(&outcome.verdict)).count()
    }

    /// How many cases were as recorded.
    pub fn passed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Passed))
    }

    /// How many cases were not as recorded.
    pub fn failed(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Failed(_)))
    }

    /// How many cases were left out.
    pub fn skipped(&self) -> usize {
        self.count(|verdict| matches!(verdict, Verdict::Skipped(_)))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed(), self.failed(), self.skipped())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recordings_are_whole() {
        let options = Options::for_vmmd("vmmd {args}", false).unwrap();
        assert!(options.cases.len() > 400);
        let mut names: Vec<_> = options.cases.iter().map(|case| &case.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), options.cases.len(), "names are unique");
        for case in &options.cases {
            assert!(options.groups.contains_key(&case.group), "{} has a start line", case.name);
        }
    }

    #[test]
    fn every_skip_names_a_case() {
        let cases = Options::new("x").unwrap().cases;
        for text in [SKIP, SKIP_DEFAULT] {
            for name in skips::parse(text).unwrap().keys() {
                assert!(cases.iter().any(|case| case.name == *name), "{name} is in the corpus");
            }
        }
    }

    #[test]
    fn every_deliberate_difference_is_pinned_by_a_test() {
        let tests = include_str!("../../tests/differences.rs");
        for (name, reason) in skips::parse(SKIP_DEFAULT).unwrap() {
            let pinned = reason.rsplit_once("differences::").map(|(_, test)| test);
            let pinned = pinned.unwrap_or_else(|| panic!("{name} names its test"));
            assert!(tests.contains(&format!("fn {pinned}()")), "{name}: there is a test called {pinned}");
        }
    }
}
