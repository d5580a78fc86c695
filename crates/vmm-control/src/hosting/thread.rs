//! A plane on a thread of its own, for programs without a runtime.

use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use chardev::{Backend, Chardev};
use futures_util::FutureExt as _;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use qmp_command::policy::Policy;
use qmp_monitor::{Core, EventSender, LocalSession, MonitorConfig};
use rustix::event::{EventfdFlags, eventfd};
use thread_start::ThreadKind;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use super::session::BlockingSession;
use super::wait::{HostingError, become_planes, block_on, block_on_until, may_wait};
use crate::builder::{BuildError, Builder};
use crate::monitors::MonitorError;
use crate::plane::{ControlPlane, PlaneHandle};
use crate::run_state::ShutdownCause;

/// How long a thread of the runtime's that may block stays when it has nothing to do. Only a job asks for one (`spawn_blocking`).
const KEEP_BLOCKING: Duration = Duration::from_secs(1);
/// How long the end of a plane waits for handlers that block, and for such threads: as long as for sessions, and for objects.
const HANDLERS: Duration = Duration::from_secs(2);
/// How long [`PlaneThread::close`] waits for all of that.
const CLOSING: Duration = Duration::from_secs(10);
/// How many clients may wait besides those that a monitor has taken.
const BACKLOG: u32 = 128;

/// Why a plane cannot be started on a thread.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The plane cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The system has no thread, no descriptor or no memory for it; or the thread's name holds a NUL character.
    #[error("the plane's thread cannot be started: {0}")]
    Thread(#[from] io::Error),
    /// The hook of [`on_thread_start`](Builder::on_thread_start) panicked on it.
    #[error("the start hook of the plane's thread panicked")]
    Hook,
}

type Job = Box<dyn for<'a> FnOnce(&'a ControlPlane) -> Pin<Box<dyn Future<Output = ()> + 'a>> + Send>;

/// A plane on a thread that it has started, for programs without tokio. Its methods can be called from any thread.
///
/// The thread has a runtime for itself. What may block (blocking handlers, files, name resolution) is done by further
/// threads, each of which ends with what it does: an idle plane has one thread. All are as
/// [`on_thread_start`](Builder::on_thread_start) says.
///
/// Methods that wait are refused where they might wait for ever: on a plane's own thread
/// ([`HostingError::OnPlaneThread`]), and on one that takes a machine's calls ([`HostingError::InLoop`]).
///
/// A process that is forked from this one has none of its threads: there, every call waits for ever, and nothing is to be done but to
/// execute a program or to end.
///
/// Dropped, it ends its plane as [`close`](Self::close) does, and does not wait for it: it can be dropped anywhere.
///
/// ```
/// use vmm_control::{ControlPlane, RunState, RunStateCell, ShutdownCause};
///
/// let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).start()?;
/// let session = plane.connect();
/// session.call("stop", &())?;
/// let monitors = plane.run(async |plane| plane.chardevs().list().len())?;
/// assert_eq!(monitors, 0);
/// session.call("quit", &())?;
/// assert_eq!(plane.shutdown_requested()?, ShutdownCause::HostQmpQuit);
/// plane.close();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct PlaneThread {
    jobs: UnboundedSender<Job>,
    handle: PlaneHandle,
    core: Arc<Core>,
    /// Readable once the program is asked to end.
    shutdown: Arc<OwnedFd>,
    /// What was opened for monitors.
    opened: Arc<Mutex<Vec<Weak<Chardev>>>>,
    thread: JoinHandle<()>,
    /// Hangs up when the thread ends.
    ended: oneshot::Receiver<()>,
}

impl Builder {
    /// Builds the plane on a thread that it starts. See [`PlaneThread`].
    ///
    /// # Errors
    /// Those of [`build`](Self::build) (but that there is no runtime), or that the thread cannot be started.
    pub fn start(self) -> Result<PlaneThread, StartError> {
        let name = self.thread_name.clone();
        let starter = self.starter.clone();
        let (announce, blocking) = (starter.clone(), format!("{name}-io"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .thread_name(&blocking)
            .thread_keep_alive(KEEP_BLOCKING)
            .on_thread_start(move || {
                thread_start::block_signals();
                announce.announce(ThreadKind::Blocking, &blocking);
            })
            .build()?;
        let mut hosted = Hosted { plane: None, runtime: Some(runtime) };
        let plane = hosted.build(self)?;
        let (handle, core) = (plane.handle(), plane.core.clone());
        let shutdown =
            Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(io::Error::from)?);
        handle.signal_shutdown_by(shutdown.clone());
        let (jobs, queue) = unbounded_channel();
        let ((begun, begins), (ends, ended)) = (mpsc::channel(), oneshot::channel());
        let on_panic = OnPanic(handle.clone());
        let body = move || {
            become_planes();
            // Whoever waits for it may have gone.
            let _ = begun.send(());
            hosted.serve(queue);
            drop((on_panic, ends));
        };
        let thread = starter.start(ThreadKind::Plane, &name, body)?;
        begins.recv().map_err(|_| StartError::Hook)?;
        Ok(PlaneThread { jobs, handle, core, shutdown, opened: Arc::default(), thread, ended })
    }
}

/// A plane and its runtime, wherever they end.
struct Hosted {
    plane: Option<ControlPlane>,
    runtime: Option<Runtime>,
}

impl Hosted {
    fn build(&mut self, builder: Builder) -> Result<&ControlPlane, BuildError> {
        let _inside = self.runtime.as_ref().map(Runtime::enter);
        Ok(self.plane.insert(builder.build()?))
    }

    /// Runs the plane until nobody has jobs for it any more, then ends it.
    fn serve(mut self, queue: UnboundedReceiver<Job>) {
        if let (Some(plane), Some(runtime)) = (&self.plane, &self.runtime) {
            let threads = plane.handle().threads().clone();
            runtime.block_on(async {
                run_jobs(plane, queue).await;
                plane.end().await;
            });
            drop(self.plane.take());
            if let Some(runtime) = self.runtime.take() {
                runtime.shutdown_timeout(HANDLERS);
            }
            if !threads.join_apart(HANDLERS) {
                tracing::error!("a blocking handler of the plane does not end; it is left to itself");
            }
        }
    }
}

/// Tells those who wait for the plane's thread that it dies of a panic that was not caught. When it ends otherwise, nothing.
struct OnPanic(PlaneHandle);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            tracing::error!("the plane's thread panicked");
            self.0.shut_down(ShutdownCause::HostError);
        }
    }
}

impl Drop for Hosted {
    /// Where a thread could not be started, and anywhere else, too: in a runtime's context no other may be waited for.
    fn drop(&mut self) {
        drop(self.plane.take());
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn run_jobs(plane: &ControlPlane, mut queue: UnboundedReceiver<Job>) {
    let mut running: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + '_>>> = FuturesUnordered::new();
    loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(job) => running.push(job(plane)),
                None => return,
            },
            Some(()) = running.next() => {}
        }
    }
}

impl PlaneThread {
    /// Opens a socket, file or the like and serves a monitor there, at most `max_clients` clients (at least 1) at once; the
    /// others wait to be accepted. The chardev is called as the monitor is. Waits until it listens, and for the first client if the backend
    /// says so, for as long as that takes: [`spawn`](Self::spawn) does not wait.
    ///
    /// # Errors
    /// When the id is empty or has a `/`, there is a monitor or a chardev of that id (nothing is opened then), or the chardev
    /// cannot be opened; or that this thread must not wait.
    pub fn add_monitor(
        &self,
        config: MonitorConfig,
        backend: Backend,
        max_clients: usize,
    ) -> Result<(), HostingError> {
        let opened = self.opened.clone();
        let added = self.run(async move |plane| {
            let chardev = plane.open_monitor(config, backend, BACKLOG, max_clients).await?;
            let mut opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            opened.retain(|chardev| chardev.strong_count() > 0);
            opened.push(Arc::downgrade(&chardev));
            Ok::<(), MonitorError>(())
        })?;
        Ok(added?)
    }

    /// Ends a monitor: [`ControlPlane::remove_monitor`], and what [`add_monitor`](Self::add_monitor) has opened for it: its socket
    /// goes. Waits for its sessions, for two seconds at most. `false` when there is none of this id.
    ///
    /// # Errors
    /// That this thread must not wait.
    pub fn remove_monitor(&self, id: &str) -> Result<bool, HostingError> {
        let id = id.to_owned();
        let opened = self.opened.clone();
        self.run(async move |plane| {
            let removed = plane.remove_monitor(&id).await;
            let opened = opened.lock().unwrap_or_else(PoisonError::into_inner);
            let of_it = opened.iter().filter_map(Weak::upgrade).find(|chardev| chardev.id() == id);
            drop(opened);
            // A client may have taken the monitor away before.
            if let Some(chardev) = of_it {
                plane.chardevs().remove_this(&chardev);
            }
            removed
        })
    }

    /// A session of the process's own, without a socket, whose calls wait.
    pub fn connect(&self) -> BlockingSession {
        self.connect_with(Policy::UNRESTRICTED)
    }

    /// The same, which may do only what `policy` allows.
    pub fn connect_with(&self, policy: Policy) -> BlockingSession {
        let session = LocalSession::with_policy(self.core.clone(), "local", policy);
        BlockingSession::new(session, self.thread.thread().id())
    }

    /// Runs `job` on the plane's thread, in its runtime, and waits for what it returns: for all that the plane can do and this type
    /// does not. The job must not block.
    ///
    /// # Errors
    /// That this thread must not wait.
    ///
    /// # Panics
    /// When the job does.
    pub fn run<T, F>(&self, job: F) -> Result<T, HostingError>
    where
        F: AsyncFnOnce(&ControlPlane) -> T + Send + 'static,
        T: Send + 'static,
    {
        may_wait(self.id())?;
        let (done, result) = mpsc::channel();
        self.submit(async move |plane: &ControlPlane| {
            // It may panic before it has a future, too.
            let _ = done.send(AssertUnwindSafe(async { job(plane).await }).catch_unwind().await);
        });
        match result.recv() {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(HostingError::Closed),
        }
    }

    /// Runs `job` on the plane's thread and does not wait: from anywhere. What it returns, or that it panics, is of no
    /// interest to anybody. It is dropped when the plane ends first.
    pub fn spawn<T, F>(&self, job: F)
    where
        F: AsyncFnOnce(&ControlPlane) -> T + Send + 'static,
    {
        self.submit(async move |plane: &ControlPlane| {
            let run = async { drop(job(plane).await) };
            if AssertUnwindSafe(run).catch_unwind().await.is_err() {
                tracing::error!("a job of the plane's thread panicked");
            }
        });
    }

    fn submit(&self, job: impl AsyncFnOnce(&ControlPlane) + Send + 'static) {
        // The thread is there as long as this is.
        let _ = self.jobs.send(Box::new(move |plane| Box::pin(job(plane))));
    }

    /// What device threads and commands may keep.
    pub fn handle(&self) -> PlaneHandle {
        self.handle.clone()
    }

    /// Raises events, from any thread.
    pub fn events(&self) -> EventSender {
        self.handle.events()
    }

    /// Raises SHUTDOWN with this cause and asks the program to end, as `quit` does. Later causes are ignored. Never waits.
    pub fn shut_down(&self, cause: ShutdownCause) {
        self.handle.shut_down(cause);
    }

    /// Waits until somebody asks the program to end: `quit` on a monitor, or [`shut_down`](Self::shut_down). Should the plane's
    /// thread die, that is a [`HostError`](ShutdownCause::HostError).
    ///
    /// # Errors
    /// That this thread must not wait.
    pub fn shutdown_requested(&self) -> Result<ShutdownCause, HostingError> {
        may_wait(self.id())?;
        Ok(block_on(self.handle.shutdown_requested()))
    }

    /// Why the program is to end, if somebody has asked for it. Never waits.
    pub fn shutdown_cause(&self) -> Option<ShutdownCause> {
        self.handle.shutdown_cause()
    }

    /// Readable from when somebody asks the program to end, for good: for an author's own `poll` or epoll.
    pub fn shutdown_fd(&self) -> BorrowedFd<'_> {
        self.shutdown.as_fd()
    }

    fn id(&self) -> ThreadId {
        self.thread.thread().id()
    }

    /// Ends the plane as [`ControlPlane::close`] does, then its threads, and waits until they have gone. It waits for two seconds for
    /// sessions, objects and blocking handlers each, and for ten altogether; what has not ended by then is logged and left to
    /// itself. On the plane's own thread it does not wait.
    pub fn close(self) {
        let Self { jobs, thread, ended, .. } = self;
        drop(jobs);
        if thread::current().id() == thread.thread().id() {
            return;
        }
        match block_on_until(ended, Instant::now() + CLOSING) {
            // It has nothing left to do but to end.
            Some(_) => drop(thread.join()),
            None => tracing::error!("the plane's thread does not end; it is left to itself"),
        }
    }
}

impl fmt::Debug for PlaneThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneThread").field("thread", &self.thread.thread().name()).finish_non_exhaustive()
    }
}
