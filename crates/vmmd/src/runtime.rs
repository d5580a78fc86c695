//! The process's runtime, whose workers and blocking threads have names and [roles](Role) of their own.
//!
//! tokio starts both alike, as threads that take what is to be done from one queue, and the first things in it are the workers. So
//! a worker could end up on a thread that was started for something else, as long as not every one has been taken. [`build`]
//! returns once they have.

use std::cell::Cell;
use std::io;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use vmm_control::ThreadKind;

use crate::sandbox::{self, Role};

const WORKER: &str = "vmmd-worker";
const BLOCKING: &str = "vmmd-blocking";
/// How long workers may take to begin, on the busiest machine.
const BEGINNING: Duration = Duration::from_secs(60);

/// How many workers have had nothing to do for the first time.
#[derive(Default)]
struct Idle {
    workers: Mutex<usize>,
    changed: Condvar,
}

impl Idle {
    /// Counts the calling worker, once.
    fn count(&self) {
        thread_local! {
            static COUNTED: Cell<bool> = const { Cell::new(false) };
        }
        if !COUNTED.replace(true) {
            *self.workers.lock().unwrap_or_else(PoisonError::into_inner) += 1;
            self.changed.notify_one();
        }
    }

    /// `false`: some have not begun in time.
    fn wait_for(&self, all: usize) -> bool {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = self.changed.wait_timeout_while(workers, BEGINNING, |workers| *workers < all);
        !reached.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}

/// How many workers tokio will start.
fn workers() -> usize {
    let told = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|told| told.parse().ok());
    told.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get))
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

/// Starts the runtime, with a worker for each CPU.
///
/// # Errors
/// There is no room for its threads or descriptors.
pub fn build() -> io::Result<Runtime> {
    probe(workers())?;
    let (idle, built) = (Arc::new(Idle::default()), Arc::new(AtomicBool::new(false)));
    let (counted, later) = (idle.clone(), built.clone());
    let runtime = Builder::new_multi_thread()
        .enable_all()
        // Names are given by the thread that asks for another one, which is this one as long as the runtime is built.
        .thread_name_fn(move || if later.load(Relaxed) { BLOCKING } else { WORKER }.to_owned())
        .on_thread_start(|| {
            let worker = thread::current().name() == Some(WORKER);
            sandbox::enter(Role::Library(if worker { ThreadKind::Plane } else { ThreadKind::Blocking }));
        })
        // Only workers park.
        .on_thread_park(move || counted.count())
        .build()?;
    built.store(true, Relaxed);
    if !idle.wait_for(runtime.metrics().num_workers()) {
        runtime.shutdown_background();
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(runtime)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> Option<String> {
        thread::current().name().map(str::to_owned)
    }

    #[test]
    fn workers_and_blocking_threads_are_told_apart() {
        for _ in 0..50 {
            let runtime = build().unwrap();
            let blocking = runtime.spawn_blocking(name);
            let worker = runtime.spawn(async { name() });
            assert_eq!(runtime.block_on(blocking).unwrap().as_deref(), Some(BLOCKING));
            assert_eq!(runtime.block_on(worker).unwrap().as_deref(), Some(WORKER));
        }
    }
}
