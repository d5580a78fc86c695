//! The reference VMM.

use std::io::Write;
use std::process::ExitCode;

use vmmd::cli::{self, Outcome};

fn main() -> ExitCode {
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    match cli::parse(std::env::args_os().skip(1), &read) {
        Ok(Outcome::Print(text)) => {
            // Whoever reads only the beginning (`vmmd -help | head`) has what they want.
            let _ = std::io::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(run)) => {
            for warning in &run.warnings {
                eprintln!("vmmd: {warning}");
            }
            let _ = writeln!(std::io::stdout(), "{:#?}", run.config);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vmmd: {error}");
            ExitCode::FAILURE
        }
    }
}
