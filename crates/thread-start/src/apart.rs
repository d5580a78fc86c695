//! What may block, for whoever must not: each closure on a thread of its own, which ends with it.
//!
//! A pool of threads would have to be asked for one, and a runtime's panics when the system has none to give. Here that is an error
//! like others. Starting a thread takes some 30 µs, which whoever waits for a disk or a lock does not notice.
//!
//! Invariants: of threads that have done their work at most one is not joined yet; so when [`Starter::join_apart`] says yes,
//! all have gone.

use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::Duration;

use crate::{Starter, ThreadKind};

impl Starter {
    /// Runs `body`, which may block, on a thread of its own of the kind [`Blocking`](ThreadKind::Blocking). It begins at once, and
    /// runs to its end whether or not anybody waits for it.
    ///
    /// # Errors
    /// The future's: that no thread can be started (then `body` has been dropped on the calling thread), or that the start hook
    /// has panicked on it.
    ///
    /// # Panics
    /// The future does when `body` has.
    pub fn apart<T, F>(&self, body: F) -> Apart<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let slot = Arc::new(Slot(Mutex::new(State::Waits(None))));
        let (give, own) = mpsc::channel();
        self.apart.lock().running += 1;
        let end =
            End { slot: slot.clone(), threads: self.apart.clone(), starter: thread::current().id(), own };
        let run = move || end.slot.set(State::Done(catch_unwind(AssertUnwindSafe(body))));
        match self.start(ThreadKind::Blocking, &self.apart_name, run) {
            Ok(thread) => {
                // It waits for it.
                let _ = give.send(thread);
                Apart(Ok(slot))
            }
            Err(error) => Apart(Err(Some(error))),
        }
    }

    /// Waits until all threads of [`apart`](Self::apart) have gone, of this starter and its clones, for `limit` at most. `false`:
    /// one does not end.
    pub fn join_apart(&self, limit: Duration) -> bool {
        let threads = self.apart.lock();
        let waited = self.apart.ended.wait_timeout_while(threads, limit, |threads| threads.running > 0);
        let (mut threads, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        let last = threads.last.take();
        drop(threads);
        if let Some(last) = last {
            // Its work is done. Panics of it have been caught, or have been the hook's.
            let _ = last.join();
        }
        !waited.timed_out()
    }
}

/// The threads of a starter and its clones.
#[derive(Default)]
pub(crate) struct Threads {
    state: Mutex<Counted>,
    ended: Condvar,
}

#[derive(Default)]
struct Counted {
    /// How many have work to do.
    running: usize,
    /// The one that was the last to have done it, which is about to go. It has waited for the one before.
    last: Option<JoinHandle<()>>,
}

impl Threads {
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a thread leaves behind, also when its hook panics, and when it could not be started.
struct End<T> {
    slot: Arc<Slot<T>>,
    threads: Arc<Threads>,
    /// Who started it.
    starter: ThreadId,
    /// Brings the thread's own handle.
    own: mpsc::Receiver<JoinHandle<()>>,
}

impl<T> Drop for End<T> {
    fn drop(&mut self) {
        self.slot.set(State::Lost);
        // On the thread that starts it, it was not started, and no handle comes.
        let own = if thread::current().id() == self.starter { None } else { self.own.recv().ok() };
        let mut threads = self.threads.lock();
        threads.running -= 1;
        let before = if own.is_some() { std::mem::replace(&mut threads.last, own) } else { None };
        drop(threads);
        self.threads.ended.notify_all();
        if let Some(before) = before {
            let _ = before.join();
        }
    }
}

enum State<T> {
    Waits(Option<Waker>),
    Done(thread::Result<T>),
    /// There will be no result, or it was taken.
    Lost,
}

struct Slot<T>(Mutex<State<T>>);

impl<T> Slot<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first result counts.
    fn set(&self, result: State<T>) {
        let mut state = self.lock();
        if let State::Waits(waker) = &mut *state {
            let waker = waker.take();
            *state = result;
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

/// What a closure on another thread returns: see [`Starter::apart`]. To be polled until it is ready, and not again.
///
/// Dropped, it lets the closure run on; its result is dropped wherever it is by then.
#[must_use = "it says whether there was a thread"]
pub struct Apart<T>(Result<Arc<Slot<T>>, Option<io::Error>>);

impl<T> Future for Apart<T> {
    type Output = io::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let lost = || io::Error::other("the thread ended before it had begun");
        let slot = match &mut self.0 {
            Ok(slot) => slot,
            Err(error) => return Poll::Ready(Err(error.take().unwrap_or_else(lost))),
        };
        let mut state = slot.lock();
        if let State::Waits(waker) = &mut *state {
            *waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let result = std::mem::replace(&mut *state, State::Lost);
        drop(state);
        match result {
            State::Done(Ok(value)) => Poll::Ready(Ok(value)),
            State::Done(Err(panic)) => resume_unwind(panic),
            State::Waits(_) | State::Lost => Poll::Ready(Err(lost())),
        }
    }
}

impl<T> fmt::Debug for Apart<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Apart").finish_non_exhaustive()
    }
}
