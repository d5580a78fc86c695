//! Calls for a machine whose state lives in one thread.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmp_command::CommandError;
use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::completion::Completion;
use super::facts::{MachineFacts, Published};
use super::handle::LoopHandle;
use super::wait::{Driver, drive};

/// How many tasks may wait at once. More wait outside, each where it comes from.
pub(super) const TASKS: usize = 1024;

/// What a plane may ask of a machine: [`Machine`](crate::Machine)'s methods of the same names say when it does and what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MachineRequest {
    /// Pause the guest.
    Stop,
    /// Let the guest run (on).
    Cont,
    /// Reset the machine.
    Reset,
    /// The guest has shut down and the machine stays: stop it until it is reset.
    ShutDown,
    /// Press the power button.
    Powerdown,
    /// Wake a suspended guest.
    Wakeup,
    /// Initialise the machine.
    Initialize,
}

/// Something that is to be done in the loop, with its state `S`.
#[derive(Debug)]
pub enum Call<S> {
    /// The plane asks something of the machine. What a loop does not know it drops, which answers with an error.
    Machine(MachineRequest, Completion<()>),
    /// Somebody has something run in the loop: [`LoopHandle::run`].
    Task(Task<S>),
}

/// Code that wants to run in the loop.
pub struct Task<S> {
    run: Box<dyn FnOnce(&mut S) + Send>,
    /// Its place among those that may wait, given back when it has run.
    place: OwnedSemaphorePermit,
}

impl<S> Task<S> {
    pub(super) fn new(run: impl FnOnce(&mut S) + Send + 'static, place: OwnedSemaphorePermit) -> Self {
        Self { run: Box::new(run), place }
    }

    /// Runs it. Should it panic, it is over: the panic goes no further than this, its caller gets an error, and what it has
    /// done to the state by then remains.
    pub fn run(self, state: &mut S) {
        let Self { run, place } = self;
        // What the author's own code leaves behind is theirs to judge, as with handlers, which do not end the program either.
        if panic::catch_unwind(AssertUnwindSafe(|| run(state))).is_err() {
            tracing::error!("a task of the machine's loop panicked");
        }
        drop(place);
    }
}

impl<S> fmt::Debug for Task<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").finish_non_exhaustive()
    }
}

/// The calls of a machine whose state `S` lives in one thread, which takes them in its own loop.
///
/// The descriptor ([`as_fd`](AsFd::as_fd)) is readable exactly as long as a call waits: it goes into the loop's epoll set, level- or
/// edge-triggered, and whoever finds it readable calls [`try_next`](Self::try_next) until there is none. Nothing else may be
/// done with the descriptor.
///
/// Calls come in the order in which they were made, and may be completed in any order, from any thread. Of those that change
/// the machine a plane has one open at a time.
///
/// When the queue is dropped, calls that wait or come later fail at once. Those that were taken are open until they are completed or
/// dropped. With them dropped before its plane is closed, nothing waits for a loop that has ended.
///
/// ```
/// use vmm_control::hosting::{Call, MachineFacts, MachineQueue, MachineRequest};
/// use vmm_control::{CommandError, ControlPlane, RunState};
///
/// let mut calls = MachineQueue::<u32>::new(MachineFacts::new(RunState::Running))?;
/// let machine = calls.handle();
/// let plane = ControlPlane::builder(calls.handle()).start()?;
/// let session = plane.connect();
/// let client = std::thread::spawn(move || session.call("stop", &()));
///
/// let mut state = 7;
/// while !client.is_finished() {
///     // A real loop waits for the descriptor.
///     match calls.try_next() {
///         Some(Call::Machine(MachineRequest::Stop, completion)) => {
///             machine.publish(|facts| facts.run_state = RunState::Paused);
///             completion.complete(Ok(()));
///         }
///         Some(Call::Machine(..)) => {}
///         Some(Call::Task(task)) => task.run(&mut state),
///         None => std::thread::yield_now(),
///     }
/// }
/// client.join().unwrap()?;
/// drop(calls);
/// plane.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct MachineQueue<S> {
    shared: Arc<Shared<S>>,
    driver: Driver,
}

/// What a queue and its handles share.
pub(super) struct Shared<S> {
    calls: Mutex<Calls<S>>,
    /// An eventfd that holds 1 while a call waits. Read and written under the lock: what it says is always true, at the
    /// price of a system call of a microsecond under it, for the first and the last call of a burst.
    ready: OwnedFd,
    pub(super) places: Arc<Semaphore>,
    pub(super) facts: Published,
}

struct Calls<S> {
    waiting: VecDeque<Call<S>>,
    ended: bool,
}

impl<S> Shared<S> {
    fn lock(&self) -> MutexGuard<'_, Calls<S>> {
        // Nothing under this lock can panic half-way.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a call, and hands it back when nobody will take it.
    pub(super) fn push(&self, call: Call<S>) -> Result<(), Call<S>> {
        let mut calls = self.lock();
        if calls.ended {
            return Err(call);
        }
        calls.waiting.push_back(call);
        if calls.waiting.len() == 1 {
            // It holds 0, so there is room for 1: this cannot fail.
            let _ = rustix::io::write(&self.ready, &1_u64.to_ne_bytes());
        }
        Ok(())
    }

    fn pop(&self) -> Option<Call<S>> {
        let mut calls = self.lock();
        let call = calls.waiting.pop_front()?;
        if calls.waiting.is_empty() {
            // It holds 1: this cannot fail.
            let _ = rustix::io::read(&self.ready, &mut [0; 8]);
        }
        Some(call)
    }

    /// No more calls; those that wait are dropped outside the lock, which answers them.
    fn end(&self) {
        let waiting = {
            let mut calls = self.lock();
            calls.ended = true;
            if !calls.waiting.is_empty() {
                // It stays open, and in the loop's epoll set, as long as there is a handle. It holds 1: this cannot fail.
                let _ = rustix::io::read(&self.ready, &mut [0; 8]);
            }
            std::mem::take(&mut calls.waiting)
        };
        // Only now, so that who finds no place finds the end too.
        self.places.close();
        drop(waiting);
    }

    /// What is said of a call that was dropped.
    pub(super) fn unanswered(&self) -> CommandError {
        let ended = self.lock().ended;
        CommandError::generic(if ended {
            "The machine's loop has ended"
        } else {
            "The machine gave no answer"
        })
    }
}

impl<S> MachineQueue<S> {
    /// A queue for a machine of which this is known at first.
    ///
    /// # Errors
    /// The system has no descriptor left, or no memory.
    pub fn new(facts: MachineFacts) -> io::Result<Self> {
        let shared = Shared {
            calls: Mutex::new(Calls { waiting: VecDeque::new(), ended: false }),
            ready: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            places: Arc::new(Semaphore::new(TASKS)),
            facts: Published::new(facts),
        };
        Ok(Self { shared: Arc::new(shared), driver: Driver::default() })
    }

    /// The other end: the machine for [`ControlPlane::builder`](crate::ControlPlane::builder), and what own commands use to run
    /// something in the loop.
    pub fn handle(&self) -> LoopHandle<S> {
        LoopHandle::new(self.shared.clone())
    }

    /// The next call, if one waits. Never waits itself.
    ///
    /// From the first call on, the calling thread is the one that must not wait for a plane, and is refused
    /// ([`HostingError::InLoop`](super::HostingError::InLoop)). Before that it is not known: a thread that is going to take the
    /// calls must not wait for one that ends up here (an initial `cont`, say), as nobody takes it.
    pub fn try_next(&mut self) -> Option<Call<S>> {
        drive(&self.driver);
        self.shared.pop()
    }
}

impl<S> AsFd for MachineQueue<S> {
    /// Readable as long as a call waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.shared.ready.as_fd()
    }
}

impl<S> AsRawFd for MachineQueue<S> {
    /// The same, for loops that want a number.
    fn as_raw_fd(&self) -> RawFd {
        self.shared.ready.as_raw_fd()
    }
}

impl<S> Drop for MachineQueue<S> {
    fn drop(&mut self) {
        self.shared.end();
    }
}

impl<S> fmt::Debug for MachineQueue<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.shared.lock().waiting.len();
        f.debug_struct("MachineQueue").field("waiting", &waiting).finish_non_exhaustive()
    }
}
