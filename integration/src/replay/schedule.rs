//! Which cases run, in which order, on which servers.
//!
//! Cases that need no server of their own share one in batches of one group; every other case is a batch alone.
//! Batches are taken from one queue by as many threads as the options say.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::compare::Difference;
use super::corpus::{Arrivals, Case, Release};
use super::runner::{self, Timing};
use super::server::Server;
use super::{Options, Outcome, PLAIN_GROUP, Report, Verdict};

/// How many cases one server is asked to serve: enough to be worth its start, few enough to spread over the threads.
const BATCH: usize = 24;

/// Runs what the options select. `progress` hears of each case as it ends, from any thread.
pub fn run(options: &Options, progress: &(dyn Fn(&Outcome) + Sync)) -> Report {
    let (skipped, wanted): (Vec<&Case>, Vec<&Case>) =
        options.cases.iter().filter(|case| selected(options, case)).partition(|case| {
            options.skips.contains_key(&case.name) || case.recordings(options.expect).is_empty()
        });

    let report = Mutex::new(Report::default());
    let tell = |outcome: Outcome| {
        progress(&outcome);
        // The lock is only poisoned when `progress` has panicked, which ends the run anyway.
        if let Ok(mut report) = report.lock() {
            report.outcomes.push(outcome);
        }
    };
    for case in skipped {
        let reason = options.skips.get(&case.name).map_or("no recording", String::as_str);
        let verdict = Verdict::Skipped(reason.to_owned());
        tell(Outcome { name: case.name.clone(), verdict, took: Duration::ZERO });
    }
    let batches = batches(&wanted);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.clamp(1, batches.len().max(1)) {
            scope.spawn(|| {
                while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                    run_batch(options, batch, &tell);
                }
            });
        }
    });
    report.into_inner().unwrap_or_default()
}

fn selected(options: &Options, case: &Case) -> bool {
    case.name.contains(&options.only)
        && (options.area.is_empty() || options.area == case.area)
        && (options.heavy || !case.heavy)
        && (options.command.start.contains("{args}") || case.group == PLAIN_GROUP)
}

/// The longest first, so that none is left over at the end.
fn batches<'a>(cases: &[&'a Case]) -> Vec<Vec<&'a Case>> {
    let (fresh, shared): (Vec<&Case>, Vec<&Case>) = cases.iter().partition(|case| case.fresh);
    let mut groups: BTreeMap<&str, Vec<&Case>> = BTreeMap::new();
    for case in shared {
        groups.entry(&case.group).or_default().push(case);
    }
    let mut batches: Vec<Vec<&Case>> =
        groups.values().flat_map(|group| group.chunks(BATCH)).map(<[&Case]>::to_vec).collect();
    batches.extend(fresh.into_iter().map(|case| vec![case]));
    batches
        .sort_by_key(|batch| std::cmp::Reverse(batch.iter().map(|case| case.send.len() + 2).sum::<usize>()));
    batches
}

fn run_batch(options: &Options, batch: &[&Case], tell: &dyn Fn(Outcome)) {
    let mut server = None;
    for case in batch {
        let start = Instant::now();
        let verdict = run_case(options, case, &mut server);
        tell(Outcome { name: case.name.clone(), verdict, took: start.elapsed() });
    }
}

/// Tries the recordings one after the other. The difference shown is the one from the first.
fn run_case(options: &Options, case: &Case, server: &mut Option<Server>) -> Verdict {
    let mut first = None;
    for (release, want) in case.recordings(options.expect) {
        if case.fresh || first.is_some() {
            *server = None;
        }
        match attempt(options, case, release, want, server) {
            Ok(()) => return Verdict::Passed,
            Err(difference) => first = first.or(Some(difference)),
        }
    }
    first.map_or(Verdict::Passed, Verdict::Failed)
}

fn attempt(
    options: &Options,
    case: &Case,
    release: Release,
    want: &[Arrivals],
    kept: &mut Option<Server>,
) -> Result<(), Difference> {
    let timing = Timing::scaled(options.slow);
    let running = kept.take().and_then(|mut server| server.process.is_running().then_some(server));
    let mut server = match running {
        Some(server) => server,
        None => {
            let arguments = options.groups.get(&case.group).and_then(|group| group.for_release(release));
            let arguments =
                arguments.ok_or_else(|| Difference::trouble(&format!("no group '{}'", case.group)))?;
            Server::start(&options.command, arguments, timing.server).map_err(|e| Difference::trouble(&e))?
        }
    };
    let result = runner::run(case, want, &mut server, timing, options.exact);
    // What a case that failed has left behind must not fail the next one.
    *kept = result.is_ok().then_some(server);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_hold_every_case_once() {
        let options = Options::new("x {args}").unwrap();
        let cases: Vec<&Case> = options.cases.iter().collect();
        let batches = batches(&cases);
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), cases.len());
        for batch in &batches {
            assert!(batch.len() == 1 || batch.iter().all(|case| !case.fresh && case.group == batch[0].group));
        }
    }

    #[test]
    fn a_command_without_arguments_runs_the_plain_group() {
        let mut options = Options::new("x").unwrap();
        assert!(
            options
                .cases
                .iter()
                .filter(|case| selected(&options, case))
                .all(|case| case.group == PLAIN_GROUP)
        );
        options.only = "json/".to_owned();
        assert!(options.cases.iter().filter(|case| selected(&options, case)).all(|case| case.area == "json"));
    }

    #[test]
    fn a_server_that_cannot_start_fails_the_case() {
        let mut options = Options::new("/no/such/program {args}").unwrap();
        options.only = "negotiation/greeting".to_owned();
        let report = run(&options, &|_| {});
        assert_eq!(report.to_string(), "0 passed, 1 failed, 0 skipped");
    }
}
