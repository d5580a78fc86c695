//! The process's runtime, whose threads have a name and a [role](Role).
//!
//! All of them are workers. What may block the library does on threads that it starts itself, and nothing here asks the runtime for
//! such threads: under `-sandbox on` they would be confined like workers.

use std::io;
use std::num::NonZero;
use std::sync::Mutex;
use std::thread;

use tokio::runtime::{Builder, Runtime};
use vmm_control::ThreadKind;

use crate::sandbox::{self, Role};

/// What the workers are called.
const WORKER: &str = "vmmd-worker";

/// As tokio does, but a number that makes no sense is overlooked and does not panic.
fn workers() -> usize {
    let told = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|told| told.parse().ok());
    told.filter(|workers| *workers > 0)
        .unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
}

/// Sees whether there is room for so many threads at once: where there is none, tokio panics and waits for ever for those of
/// its workers that it has.
fn probe(threads: usize) -> io::Result<()> {
    let gate = Mutex::new(());
    thread::scope(|scope| {
        let _closed = gate.lock();
        (0..threads).try_for_each(|_| {
            let wait = || drop(gate.lock());
            thread::Builder::new().name("vmmd-probe".to_owned()).spawn_scoped(scope, wait).map(drop)
        })
    })
}

/// Starts the runtime, with a worker for each CPU, or as many as `TOKIO_WORKER_THREADS` says.
///
/// # Errors
/// There is no room for its threads or descriptors.
pub fn build() -> io::Result<Runtime> {
    let workers = workers();
    probe(workers)?;
    Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .thread_name(WORKER)
        .on_thread_start(|| sandbox::enter(Role::Library(ThreadKind::Plane)))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_their_name() {
        let runtime = build().unwrap();
        let name = runtime.spawn(async { thread::current().name().map(str::to_owned) });
        assert_eq!(runtime.block_on(name).unwrap().as_deref(), Some(WORKER));
        assert_eq!(runtime.metrics().num_workers(), workers());
    }
}
