//! A context as other threads see it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::poller::Poller;
use super::stats::Counters;
use super::{Report, State, Stats};
use crate::{DeviceContext, PciDevice};

use super::endpoint::DeviceCall;

/// What another thread asks of a context.
pub(super) enum Job {
    Report(Box<dyn FnOnce(Report) + Send>),
    Disconnect,
    Run(DeviceCall),
}

/// What a context and its handles share. The lock is for jobs alone: no access of a client touches it.
pub(super) struct Shared {
    pub(super) counters: Counters,
    pub(super) poller: Arc<Poller>,
    state: AtomicU8,
    /// There may be jobs.
    pending: AtomicBool,
    /// `None` once the context has gone.
    jobs: Mutex<Option<Vec<Job>>>,
}

impl Shared {
    pub(super) fn new(poller: Arc<Poller>) -> Self {
        Self {
            counters: Counters::default(),
            poller,
            state: AtomicU8::new(State::Listening as u8),
            pending: AtomicBool::new(false),
            jobs: Mutex::new(Some(Vec::new())),
        }
    }

    /// Whether there may be jobs. One load.
    pub(super) fn has_jobs(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Takes the oldest jobs, `most` of them. Those that are left are told of as new ones are.
    pub(super) fn take_jobs(&self, most: usize) -> Vec<Job> {
        self.pending.store(false, Ordering::Release);
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = &mut *jobs else { return Vec::new() };
        let rest = jobs.split_off(jobs.len().min(most));
        if !rest.is_empty() {
            self.pending.store(true, Ordering::Release);
        }
        std::mem::replace(jobs, rest)
    }

    /// The context goes: jobs that are left are dropped, and no more are taken.
    pub(super) fn close(&self) {
        let left = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.set_state(State::Ended);
        // Only after the lock: what a job holds may use a handle when it is dropped.
        drop(left);
    }

    pub(super) fn set_state(&self, state: State) {
        self.state.store(state as u8, Ordering::Release);
    }
}

/// Looks at a context and steers it, from any thread. Cheap to clone; does not keep the context.
///
/// What is asked of a context that has gone is dropped.
#[derive(Clone)]
pub struct Handle(pub(super) Arc<Shared>);

impl Handle {
    /// Reads the counters. Takes no lock and asks nobody.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.0.counters.read()
    }

    /// What the context was doing a moment ago. Takes no lock and asks nobody.
    #[must_use]
    pub fn state(&self) -> State {
        const STATES: [State; 4] = [State::Listening, State::Negotiating, State::Serving, State::Ended];
        STATES[usize::from(self.0.state.load(Ordering::Acquire)).min(3)]
    }

    /// Has a report made on the context's thread, after the calls of the device that come before it. `tell` is called
    /// there and must not block; it is dropped uncalled if the context goes.
    pub fn report(&self, tell: impl FnOnce(Report) + Send + 'static) {
        self.send(Job::Report(Box::new(tell)));
    }

    /// Ends the client's connection, as if it had hung up. Soon, and not at all if there is none then.
    pub fn disconnect(&self) {
        self.send(Job::Disconnect);
    }

    /// Calls `call` with the device, on its thread, soon. It must not block. What was asked by one thread is done in that
    /// order. For an adapted `ServerBackend`, which is no [`PciDevice`], it is dropped uncalled.
    ///
    /// A device's own type is had by way of [`Any`](std::any::Any):
    /// `(device as &mut dyn Any).downcast_mut::<MyDevice>()`.
    pub fn run(&self, call: impl FnOnce(&mut dyn PciDevice, &mut DeviceContext<'_>) + Send + 'static) {
        self.send(Job::Run(Box::new(call)));
    }

    /// Holds up all that is asked of the context.
    #[cfg(test)]
    pub(super) fn lock_jobs(&self) -> std::sync::MutexGuard<'_, Option<Vec<Job>>> {
        self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the context's own thread to count with.
    pub(crate) fn counters(&self) -> &Counters {
        &self.0.counters
    }

    /// Fires an MSI vector, soon.
    pub fn raise_msi(&self, vector: u16) {
        self.run(move |_, cx| cx.raise_msi(vector));
    }

    /// Fires an MSI-X vector, soon.
    pub fn raise_msix(&self, vector: u16) {
        self.run(move |_, cx| cx.raise_msix(vector));
    }

    /// Sets the level of the interrupt pin, soon.
    pub fn set_intx(&self, high: bool) {
        self.run(move |_, cx| cx.set_intx(high));
    }

    fn send(&self, job: Job) {
        {
            let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(jobs) = &mut *jobs else { return };
            jobs.push(job);
        }
        // One wake-up for all that is asked until the context looks.
        if !self.0.pending.swap(true, Ordering::AcqRel) {
            self.0.poller.wake();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("state", &self.state()).finish_non_exhaustive()
    }
}
