//! `replay`: recorded QMP exchanges against any server. See `replay --help`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use vmm_integration::replay::corpus::{self, Release};
use vmm_integration::replay::{Options, Outcome, Verdict, run, skips, startline};

const HELP: &str = "\
Replays recorded QMP exchanges against a server and compares the answers.

  replay --start \"target/release/vmmd {args}\" --vmmd
  replay --start \"qemu-system-x86_64 {args}\"

  --start CMD            how to start a server; {args} stands for the arguments of a group of cases
  --vmmd                 with vmmd's start lines and skip list
  --like-qemu            with --vmmd: every monitor with max-clients=1,named-fds=monitor
  --corpus FILE          other cases than the recorded ones
  --groups FILE          start lines over the recorded ones (repeatable)
  --skip FILE            cases to leave out, `name  # reason` a line (repeatable)
  --only TEXT            only cases with TEXT in their name
  --area AREA            only cases of this area
  --expect 72|111        only this release's answers count
  --exact                compare bytes: the order of members counts
  --heavy                also the cases that take many seconds
  --monitor-options OPTS appended to every -qmp, -qmp-pretty and -chardev socket argument
  --extra-args WORDS     appended to every start line
  --jobs N               cases at once (as many as processors)
  --slow X               multiply all waits
  -v                     a line per case, with the time it took, and why cases are skipped
  -h, --help             this text

Ends with `N passed, N failed, N skipped`; the exit code is 1 when a case failed, 2 when the options are wrong.";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1).collect()) {
        Ok(Some((options, verbose))) => replay(&options, verbose),
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("replay: {why} (see replay --help)");
            ExitCode::from(2)
        }
    }
}

fn replay(options: &Options, verbose: bool) -> ExitCode {
    let done = AtomicUsize::new(0);
    let counts = std::io::stderr().is_terminal() && !verbose;
    let report = run(options, &|outcome: &Outcome| {
        let done = done.fetch_add(1, Ordering::Relaxed) + 1;
        if verbose || matches!(outcome.verdict, Verdict::Failed(_)) {
            println!("{outcome}");
        }
        if counts {
            eprint!("\r{done} done\r");
        }
    });
    println!("{report}");
    // Nothing is left to do when the last line cannot be written.
    let _ = std::io::stdout().flush();
    if report.failed() > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The options and whether to be verbose; `None` when help is asked for.
fn parse(args: Vec<String>) -> Result<Option<(Options, bool)>, String> {
    if args.iter().any(|arg| arg == "-h" || arg == "--help") {
        return Ok(None);
    }
    let flag = |name: &str| args.iter().any(|arg| arg == name);
    let mut options =
        if flag("--vmmd") { Options::for_vmmd("", flag("--like-qemu"))? } else { Options::new("")? };
    let mut verbose = false;
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--vmmd" | "--like-qemu" => {}
            "--start" => options.command.start = value()?,
            "--corpus" => options.cases = corpus::parse(&read(&value()?)?)?,
            "--groups" => {
                let file = value()?;
                let groups: startline::Groups =
                    serde_json::from_str(&read(&file)?).map_err(|e| format!("{file}: {e}"))?;
                options.groups.extend(groups);
            }
            "--skip" => {
                let file = value()?;
                options.skips.extend(skips::parse(&read(&file)?).map_err(|e| format!("{file}: {e}"))?);
            }
            "--only" => options.only = value()?,
            "--area" => options.area = value()?,
            "--expect" => {
                options.expect = Some(match value()?.as_str() {
                    "72" => Release::V72,
                    "111" => Release::V111,
                    other => return Err(format!("no recording is called '{other}'")),
                });
            }
            "--exact" => options.exact = true,
            "--heavy" => options.heavy = true,
            "--monitor-options" => options.command.monitor_options = value()?,
            "--extra-args" => options.command.extra_args = startline::words(&value()?)?,
            "--jobs" => options.jobs = value()?.parse().map_err(|_| "--jobs needs a number".to_owned())?,
            "--slow" => {
                options.slow =
                    value()?.parse().ok().filter(|factor| *factor > 0.0).ok_or("--slow needs a factor")?;
            }
            "-v" => verbose = true,
            other => return Err(format!("what is '{other}'?")),
        }
    }
    if options.command.start.is_empty() {
        return Err("--start is missing".to_owned());
    }
    Ok(Some((options, verbose)))
}

fn read(file: &str) -> Result<String, String> {
    fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))
}
