//! `qmp-floor`: the echo server that `bench-qmp` measures QMP servers against. See [`vmm_benches::floor`].

use std::path::PathBuf;
use std::process::ExitCode;

use vmm_benches::floor::Floor;

fn main() -> ExitCode {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    if paths.is_empty() || paths.iter().any(|path| path == "--help" || path == "-h") {
        eprintln!("usage: qmp-floor SOCKET...");
        eprintln!(
            "Listens on every unix SOCKET and answers each line with an empty QMP reply, as fast as it can."
        );
        eprintln!("It is the floor that bench-qmp measures QMP servers against, not a monitor.");
        return ExitCode::from(2);
    }
    match Floor::bind(&paths).and_then(Floor::run) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("qmp-floor: {error}");
            ExitCode::FAILURE
        }
    }
}
