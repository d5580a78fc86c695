//! The iothread as its owner sees it: start, properties, statistics, stop.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use thread_start::{Starter, ThreadKind};

use crate::affinity::Affinity;
use crate::event_loop::EventLoop;
use crate::shared::{Message, Shared};
use crate::{Error, Handle, Properties, Stats, guard};

type Hook = Box<dyn FnOnce() + Send>;

/// What an iothread is started with.
#[derive(Default)]
pub struct Builder {
    name: String,
    properties: Properties,
    cpu_affinity: Vec<u16>,
    starter: Starter,
    hook: Option<Hook>,
}

impl Builder {
    /// The properties; [`Properties::default`] if this is not called.
    #[must_use]
    pub fn properties(mut self, properties: Properties) -> Self {
        self.properties = properties;
        self
    }

    /// The numbers of the host's CPUs that the thread may run on; none, as when this is not called, for where the host
    /// puts it, or the hook.
    #[must_use]
    pub fn cpu_affinity(mut self, cpus: impl Into<Vec<u16>>) -> Self {
        self.cpu_affinity = cpus.into();
        self
    }

    /// Who starts the thread, as a [`ThreadKind::IoThread`]: its hook runs before the thread's own. By default one without
    /// a hook.
    #[must_use]
    pub fn starter(mut self, starter: Starter) -> Self {
        self.starter = starter;
        self
    }

    /// Runs `hook` on the thread as it starts, before [`Builder::start`] returns: for seccomp, affinity, cgroups. All
    /// signals are blocked there, but for those of the thread's own faults.
    #[must_use]
    pub fn on_start(mut self, hook: impl FnOnce() + Send + 'static) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// Starts the thread, and waits until its hook has run. One thread and two descriptors.
    ///
    /// # Errors
    /// [`Error::ThreadPool`], [`Error::Name`], [`Error::Start`], [`Error::Hook`], [`Error::Affinity`].
    pub fn start(self) -> Result<IoThread, Error> {
        self.properties.check()?;
        if self.name.contains('\0') {
            return Err(Error::Name);
        }
        let shared = Arc::new(Shared::new(&self.properties).map_err(|error| Error::Start(error.into()))?);
        let (started, start) = mpsc::sync_channel(1);
        let on_thread = Arc::clone(&shared);
        let hook = self.hook;
        let body = move || main(on_thread, hook, &started);
        let thread = self.starter.start(ThreadKind::IoThread, &self.name, body).map_err(Error::Start)?;
        // The sender is dropped unused if the hook panics.
        let Ok(thread_id) = start.recv() else {
            let _ = thread.join();
            return Err(Error::Hook);
        };
        let iothread = IoThread {
            name: self.name,
            thread_id,
            shared,
            properties: Mutex::new(self.properties),
            affinity: Mutex::new(Affinity::of(thread_id)),
            thread: Some(thread),
        };
        iothread.set_cpu_affinity(&self.cpu_affinity)?;
        Ok(iothread)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("name", &self.name)
            .field("properties", &self.properties)
            .field("cpu_affinity", &self.cpu_affinity)
            .finish_non_exhaustive()
    }
}

fn main(shared: Arc<Shared>, hook: Option<Hook>, started: &mpsc::SyncSender<i32>) {
    let thread_id = rustix::thread::gettid().as_raw_nonzero().get();
    // Nobody else sets it.
    let _ = shared.thread.set((thread::current().id(), thread_id));
    if let Some(hook) = hook
        && guard::call("start hook", hook).is_none()
    {
        return;
    }
    if started.send(thread_id).is_ok() {
        EventLoop::new(shared).run();
    }
}

/// A thread that serves descriptors, timers and closures. Dropping it stops and joins the thread.
///
/// ```
/// use std::sync::mpsc;
///
/// let iothread = iothread::IoThread::builder("IO demo").start()?;
/// let (sender, receiver) = mpsc::channel();
/// iothread.handle().run(move |_| sender.send(std::thread::current().name().map(str::to_owned)).unwrap())?;
/// assert_eq!(receiver.recv().unwrap().as_deref(), Some("IO demo"));
/// # Ok::<(), iothread::Error>(())
/// ```
pub struct IoThread {
    name: String,
    thread_id: i32,
    shared: Arc<Shared>,
    properties: Mutex<Properties>,
    affinity: Mutex<Affinity>,
    /// Taken when dropped.
    thread: Option<JoinHandle<()>>,
}

impl IoThread {
    /// A thread to be named `name`, of which Linux shows the first 15 bytes.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder { name: name.into(), ..Builder::default() }
    }

    /// The name in full.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The thread's Linux id, as in `/proc/self/task`.
    #[must_use]
    pub fn thread_id(&self) -> i32 {
        self.thread_id
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.counters.read()
    }

    /// All properties as they are stored.
    #[must_use]
    pub fn properties(&self) -> Properties {
        *self.properties.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One property.
    ///
    /// # Errors
    /// [`Error::UnknownProperty`].
    pub fn get(&self, name: &str) -> Result<i64, Error> {
        self.properties().get(name)
    }

    /// Sets a property while the thread runs. It takes effect at once, and adaptive polling starts from nothing.
    ///
    /// # Errors
    /// [`Error::UnknownProperty`]; [`Error::Range`]; [`Error::ThreadPool`], after which the value is stored all the
    /// same (see [`Properties`]).
    pub fn set(&self, name: &str, value: i64) -> Result<(), Error> {
        let mut properties = self.properties.lock().unwrap_or_else(PoisonError::into_inner);
        let set = properties.set_running(name, value);
        // Under the lock, so that the thread has what is stored. What was refused may be stored all the same.
        self.shared.poll.store(&properties);
        set
    }

    /// The host's CPUs that the thread is kept to, ascending; none: it runs where the host puts it.
    #[must_use]
    pub fn cpu_affinity(&self) -> Vec<u16> {
        self.affinity.lock().unwrap_or_else(PoisonError::into_inner).chosen()
    }

    /// Keeps the thread to these CPUs from now on; none: lets it run again where it could when it started.
    ///
    /// # Errors
    /// [`Error::Affinity`] if it cannot run on all of them, after which it runs where it did.
    pub fn set_cpu_affinity(&self, cpus: &[u16]) -> Result<(), Error> {
        self.affinity.lock().unwrap_or_else(PoisonError::into_inner).set(cpus)
    }
}

impl fmt::Debug for IoThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoThread")
            .field("name", &self.name)
            .field("thread_id", &self.thread_id)
            .field("properties", &self.properties())
            .finish_non_exhaustive()
    }
}

impl Drop for IoThread {
    /// Waits for the call that is going on, and for the handlers' destructors. On the thread itself (an iothread
    /// dropped by one of its own handlers) there is no waiting: the thread ends after that call.
    fn drop(&mut self) {
        // An error says that the thread has ended already.
        let _ = self.shared.send(Message::Stop);
        if let Some(thread) = self.thread.take()
            && !self.shared.on_thread()
            && thread.join().is_err()
        {
            tracing::error!(name = self.name, "an iothread has panicked");
        }
    }
}
