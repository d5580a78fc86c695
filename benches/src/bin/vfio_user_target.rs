//! `vfio-user-target`: the servers that `bench-vfio-user` measures, one to a process. See [`vmm_benches::vfio`].

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use vmm_benches::vfio::floor::{self, Waiting};
use vmm_benches::vfio::{ours, peer};

const USAGE: &str = "\
usage: vfio-user-target epoll-floor|busy-floor|vfio_user SOCKET
       vfio-user-target ours [--poll-max-ns N] SOCKET...
Serves vfio-user clients on the unix SOCKET until it is ended: what bench-vfio-user measures.";
/// QEMU's default, and ours.
const POLL_MAX_NS: i64 = 32_768;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    match serve(&mut args) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("vfio-user-target: {error}");
            ExitCode::FAILURE
        }
        None => {
            eprintln!("{USAGE}");
            ExitCode::from(2)
        }
    }
}

/// `None` for wrong arguments.
fn serve(args: &mut Vec<String>) -> Option<io::Result<()>> {
    let mut poll_max_ns = POLL_MAX_NS;
    if args.get(1).is_some_and(|option| option == "--poll-max-ns") {
        poll_max_ns = args.get(2)?.parse().ok()?;
        args.drain(1..3);
    }
    let (kind, sockets) = args.split_first()?;
    let sockets: Vec<PathBuf> = sockets.iter().map(PathBuf::from).collect();
    let first = sockets.first()?;
    Some(match kind.as_str() {
        "epoll-floor" => floor::serve(first, Waiting::Epoll),
        "busy-floor" => floor::serve(first, Waiting::Busy),
        "vfio_user" => peer::serve(first).map(|never| match never {}),
        "ours" => ours::serve(&sockets, poll_max_ns).map(|never| match never {}),
        _ => return None,
    })
}
