//! How the crates of `vmm-control` start threads in a process that is not theirs.
//!
//! A thread that a [`Starter`] starts
//!
//! * has a name,
//! * blocks all signals from its first instruction on, so that the program's handlers run on the program's own threads. Signals
//!   that the thread's own faults raise ([`FAULTS`]) cannot be put off and are not blocked;
//! * runs the program's hook before anything else, which is told what [kind](ThreadKind) of thread it is on.
//!
//! What system calls each kind of thread makes, for a seccomp filter that the hook may put on, is in [`SYSTEM_CALLS`].
//!
//! Nothing is global: a program can have any number of starters.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle, Scope, ScopedJoinHandle};

mod apart;
pub mod system_calls;

pub use apart::Apart;
pub use system_calls::{SYSTEM_CALLS, SystemCall};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

const NOT_BLOCKED: [Signal; 6] =
    [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGTRAP, Signal::SIGSYS];

/// The numbers of the signals that a thread's own faults raise (and `SIGSYS`, which a seccomp filter raises). If they were
/// blocked, the kernel would end the process without asking the handler that it has for them.
pub const FAULTS: [i32; 6] = {
    let [segv, bus, fpe, ill, trap, sys] = NOT_BLOCKED;
    [segv as i32, bus as i32, fpe as i32, ill as i32, trap as i32, sys as i32]
};

/// What a thread is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ThreadKind {
    /// Runs a whole control plane, where the program has no runtime for it.
    Plane,
    /// Runs what may block: opens the files of chardevs, runs blocking handlers, resolves names, and so on.
    Blocking,
    /// An iothread: serves devices.
    IoThread,
    /// Closes descriptors that came from clients. These threads are the process's, and serve all its planes.
    FdCloser,
    /// Accepts one client of a listener that came from somebody who can still make it block, and ends.
    Acceptor,
    /// Does one thing and ends: takes a plane's objects down, allocates a memory backend.
    Helper,
}

impl ThreadKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Plane, Self::Blocking, Self::IoThread, Self::FdCloser, Self::Acceptor, Self::Helper];
}

impl fmt::Display for ThreadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plane => "plane",
            Self::Blocking => "blocking",
            Self::IoThread => "iothread",
            Self::FdCloser => "fd-closer",
            Self::Acceptor => "acceptor",
            Self::Helper => "helper",
        })
    }
}

type Hook = Arc<dyn Fn(ThreadKind, &str) + Send + Sync>;

/// Starts threads, all with one hook. Clones share it.
///
/// ```
/// use std::sync::mpsc;
/// use thread_start::{Starter, ThreadKind};
///
/// let (sender, started) = mpsc::channel();
/// let starter = Starter::new(move |kind, name| sender.send((kind, name.to_owned())).unwrap());
/// let thread = starter.start(ThreadKind::Helper, "adds", || 1 + 1)?;
/// assert_eq!(thread.join().unwrap(), 2);
/// assert_eq!(started.recv()?, (ThreadKind::Helper, "adds".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Starter {
    hook: Option<Hook>,
    apart_name: Arc<str>,
    apart: Arc<apart::Threads>,
}

impl Default for Starter {
    /// Without a hook.
    fn default() -> Self {
        Self { hook: None, apart_name: "blocking".into(), apart: Arc::default() }
    }
}

impl Starter {
    /// Threads that run `hook` as they start, with their kind and their name (of which the kernel shows the first 15 bytes).
    ///
    /// A hook that panics ends the thread before it has begun; whoever joins it is told. The thread keeps nothing of the hook once
    /// that has returned.
    pub fn new(hook: impl Fn(ThreadKind, &str) + Send + Sync + 'static) -> Self {
        Self { hook: Some(Arc::new(hook)), ..Self::default() }
    }

    /// What the threads of [`apart`](Self::apart) are called: `blocking` by default.
    #[must_use]
    pub fn apart_name(mut self, name: &str) -> Self {
        self.apart_name = name.into();
        self
    }

    /// Starts a thread.
    ///
    /// # Errors
    /// What the system says: `EAGAIN` when there may be no more threads, `ENOMEM`; and `InvalidInput` for a name with a NUL
    /// character in it.
    pub fn start<T, F>(&self, kind: ThreadKind, name: &str, body: F) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.start_with(Builder::new(), kind, name, body)
    }

    /// Starts a thread with what else `builder` says, such as the size of its stack. The name is set here.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with<T, F>(
        &self,
        builder: Builder,
        kind: ThreadKind,
        name: &str,
        body: F,
    ) -> io::Result<JoinHandle<T>>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let (builder, announced) = self.prepare(builder, kind, name, body)?;
        without_signals(|| builder.spawn(announced))
    }

    /// Starts a thread of a scope.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_scoped<'scope, T, F>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        kind: ThreadKind,
        name: &str,
        body: F,
    ) -> io::Result<ScopedJoinHandle<'scope, T>>
    where
        F: FnOnce() -> T + Send + 'scope,
        T: Send + 'scope,
    {
        let (builder, announced) = self.prepare(Builder::new(), kind, name, body)?;
        without_signals(|| builder.spawn_scoped(scope, announced))
    }

    fn prepare<T, F>(
        &self,
        builder: Builder,
        kind: ThreadKind,
        name: &str,
        body: F,
    ) -> io::Result<(Builder, impl FnOnce() -> T + Send + use<T, F>)>
    where
        F: FnOnce() -> T + Send,
    {
        if name.contains('\0') {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a thread's name holds a NUL character"));
        }
        let (starter, own_name) = (self.clone(), name.to_owned());
        let announced = move || {
            starter.announce(kind, &own_name);
            // What the hook has is not kept for as long as the thread lives.
            drop((starter, own_name));
            body()
        };
        Ok((builder.name(name.to_owned()), announced))
    }

    /// Runs the hook on the calling thread: for threads that somebody else starts, such as those of a runtime.
    pub fn announce(&self, kind: ThreadKind, name: &str) {
        if let Some(hook) = &self.hook {
            hook(kind, name);
        }
    }
}

impl fmt::Debug for Starter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starter").field("hook", &self.hook.is_some()).finish()
    }
}

/// Calls `start` with all signals blocked, which a thread that it starts inherits. The caller's mask is as before after
/// that, also when `start` panics.
pub fn without_signals<R>(start: impl FnOnce() -> R) -> R {
    struct Restore(Option<SigSet>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(mask) = &self.0 {
                // It was the mask before, so it is a valid one.
                let _ = mask.thread_set_mask();
            }
        }
    }
    let _restore = Restore(block());
    start()
}

/// Blocks all signals on the calling thread, but those that its own faults raise. For threads that somebody else starts, such as
/// those of a runtime: before this a signal may still be handled there.
pub fn block_signals() {
    block();
}

/// Returns the mask as it was.
fn block() -> Option<SigSet> {
    let mut all = SigSet::all();
    NOT_BLOCKED.iter().for_each(|fault| all.remove(*fault));
    // Blocking a valid set cannot fail.
    all.thread_swap_mask(SigmaskHow::SIG_SETMASK).ok()
}
