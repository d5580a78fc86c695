//! `bench-qmp`: measures QMP servers side by side. `bench-qmp --help` says how; [`vmm_benches::load`] does it.

use std::io::Write;
use std::process::ExitCode;

use vmm_benches::harness::describe;
use vmm_benches::load::cases::CASES;
use vmm_benches::load::options::{HELP, Options, Request};
use vmm_benches::load::report;
use vmm_benches::load::run::run;
use vmm_benches::load::{Error, Result};

fn main() -> ExitCode {
    let result = Request::parse(std::env::args().skip(1)).and_then(|request| match request {
        Request::Help => Ok(print(HELP)),
        Request::List => Ok(print(&list())),
        Request::Run(options) => measure(&options),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-qmp: {}", describe(&error));
            match error {
                Error::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn measure(options: &Options) -> Result<ExitCode> {
    let outcome = run(options, |doing| eprintln!("bench-qmp: {doing}"))?;
    print(&report::table(&outcome, options));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report::json(&outcome, options));
        std::fs::write(path, text).map_err(|source| Error::Io { doing: "writing the JSON file", source })?;
    }
    Ok(if outcome.failed() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list() -> String {
    CASES.iter().map(|case| format!("{:<14}{}\n", case.name, case.title)).collect()
}

/// Prints, and fails where `print!` would panic: when nobody reads.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
