//! Waiting for a plane on a thread without a runtime, and the threads that must not.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread, ThreadId};
use std::time::Instant;

use qmp_monitor::LocalError;

use crate::monitors::MonitorError;

/// Why a call that waits for a plane failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostingError {
    /// It was made on the plane's own thread, which would wait for itself: in an async handler, in a start hook. Or on another
    /// plane's, whose clients would wait too, and which this one may be waiting for.
    #[error("a plane's own thread cannot wait for a plane")]
    OnPlaneThread,
    /// It was made on the thread that takes the calls of a [`MachineQueue`](super::MachineQueue). The plane might wait for that
    /// thread meanwhile, so neither would go on.
    #[error("the thread that takes a machine's calls cannot wait for a plane")]
    InLoop,
    /// The plane has ended.
    #[error("the control plane is closed")]
    Closed,
    /// A command failed, or its arguments or its return value do not fit.
    #[error(transparent)]
    Call(LocalError),
    /// A monitor cannot be added.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
}

impl From<LocalError> for HostingError {
    fn from(error: LocalError) -> Self {
        match error {
            LocalError::Closed => Self::Closed,
            other => Self::Call(other),
        }
    }
}

thread_local! {
    /// This thread is a plane's own.
    static IS_PLANES: Cell<bool> = const { Cell::new(false) };
}

/// Notes that this thread is a plane's own.
pub(super) fn become_planes() {
    IS_PLANES.set(true);
}

/// Whether this thread is a plane's own, so that what it waits for all of that plane's clients do.
pub(super) fn is_planes() -> bool {
    IS_PLANES.get()
}

/// Refuses to wait where that might not end.
pub(super) fn may_wait(plane: ThreadId) -> Result<(), HostingError> {
    // In a start hook it is not noted yet.
    if is_planes() || thread::current().id() == plane {
        return Err(HostingError::OnPlaneThread);
    }
    if drives_a_queue() { Err(HostingError::InLoop) } else { Ok(()) }
}

/// Who takes the calls of a queue. Its queue holds it; threads remember it weakly.
pub(super) type Driver = Arc<Mutex<Option<ThreadId>>>;

thread_local! {
    /// The queues that this thread has taken calls of.
    static DRIVEN: RefCell<Vec<Weak<Mutex<Option<ThreadId>>>>> = const { RefCell::new(Vec::new()) };
}

/// Notes that this thread takes the calls of a queue, and no other does any more.
pub(super) fn drive(driver: &Driver) {
    let this = Some(thread::current().id());
    let before = std::mem::replace(&mut *driver.lock().unwrap_or_else(PoisonError::into_inner), this);
    if before == this {
        return;
    }
    // A thread that is ending has no list any more, and will not wait either.
    let _ = DRIVEN.try_with(|driven| {
        let mut driven = driven.borrow_mut();
        // Threads may take turns, and queues come and go: it does not grow by that.
        driven.retain(|other| other.strong_count() > 0 && !std::ptr::eq(other.as_ptr(), Arc::as_ptr(driver)));
        driven.push(Arc::downgrade(driver));
    });
}

pub(super) fn drives_a_queue() -> bool {
    let this = Some(thread::current().id());
    let driven = DRIVEN.try_with(|driven| {
        let mut driven = driven.borrow_mut();
        driven.retain(|driver| {
            driver.upgrade().is_some_and(|it| *it.lock().unwrap_or_else(PoisonError::into_inner) == this)
        });
        !driven.is_empty()
    });
    driven.unwrap_or(false)
}

/// Wakes a thread that is parked.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let park = || {
        thread::park();
        Ok::<_, Infallible>(())
    };
    let Ok(output) = poll_until_ready(future, park);
    output
}

/// The same until `deadline`; `None` when it has passed.
pub(super) fn block_on_until<F: Future>(future: F, deadline: Instant) -> Option<F::Output> {
    let park = || {
        let left = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
        left.map(thread::park_timeout).ok_or(())
    };
    poll_until_ready(future, park).ok()
}

/// Polls a future, and parks until there is reason to poll it again, until one of them ends it.
fn poll_until_ready<F: Future, E>(
    future: F,
    mut park: impl FnMut() -> Result<(), E>,
) -> Result<F::Output, E> {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Ok(output);
        }
        park()?;
    }
}
