//! `bench-vfio-user`: measures vfio-user servers side by side. `bench-vfio-user --help` says how;
//! [`vmm_benches::vfio`] does it.

use std::io::Write;
use std::process::ExitCode;

use vmm_benches::harness::{Error, Result, describe};
use vmm_benches::vfio::cases::CASES;
use vmm_benches::vfio::options::{HELP, Options, Request};
use vmm_benches::vfio::run::{Row, run};
use vmm_benches::vfio::{report, servers};

fn main() -> ExitCode {
    let result = Request::parse(std::env::args().skip(1)).and_then(|request| match request {
        Request::Help => Ok(print(HELP)),
        Request::List => Ok(print(&list())),
        Request::Run(options) => measure(&options),
    });
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bench-vfio-user: {}", describe(&error));
            match error {
                Error::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn measure(options: &Options) -> Result<ExitCode> {
    let rows = run(options, |doing| eprintln!("bench-vfio-user: {doing}"))?;
    print(&report::table(&rows, options));
    if let Some(path) = &options.json {
        let text = format!("{:#}\n", report::json(&rows, options));
        std::fs::write(path, text).map_err(|source| Error::Io { doing: "writing the JSON file", source })?;
    }
    Ok(if rows.iter().any(Row::failed) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn list() -> String {
    let cases = CASES.iter().map(|case| format!("{:<14}{}\n", case.name, case.title));
    let servers = servers::names().map(|name| format!("{name}\n"));
    let heads = ["Measurements:\n".to_owned(), "\nServers:\n".to_owned()];
    let [measurements, of_servers] = heads;
    std::iter::once(measurements).chain(cases).chain(std::iter::once(of_servers)).chain(servers).collect()
}

/// Prints, and fails where `print!` would panic: when nobody reads.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
