//! `vfio-user-target`: the servers that `bench-vfio-user` measures, one to a process. See [`vmm_benches::vfio`].

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use vmm_benches::vfio::floor::{self, Waiting};
use vmm_benches::vfio::peer;

const USAGE: &str = "\
usage: vfio-user-target epoll-floor|busy-floor|vfio_user SOCKET
Serves vfio-user clients on the unix SOCKET until it is ended: what bench-vfio-user measures.";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some((kind, sockets)) = args.split_first().filter(|(_, sockets)| !sockets.is_empty()) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let sockets: Vec<PathBuf> = sockets.iter().map(PathBuf::from).collect();
    let result: io::Result<()> = match kind.as_str() {
        "epoll-floor" => floor::serve(&sockets[0], Waiting::Epoll),
        "busy-floor" => floor::serve(&sockets[0], Waiting::Busy),
        "vfio_user" => peer::serve(&sockets[0]).map(|never| match never {}),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vfio-user-target: {error}");
            ExitCode::FAILURE
        }
    }
}
