//! The reference VMM.

use std::process::ExitCode;

use vmmd::cli::{self, Outcome};

fn main() -> ExitCode {
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    match cli::parse(std::env::args_os().skip(1), &read) {
        Ok(Outcome::Print(text)) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Run(run)) => {
            for warning in &run.warnings {
                eprintln!("vmmd: {warning}");
            }
            println!("{:#?}", run.config);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("vmmd: {error}");
            ExitCode::FAILURE
        }
    }
}
