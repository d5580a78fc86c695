//! The control plane: what an author builds around their machine.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use chardev::{Backend, Chardev, OpenError, OpenOptions, Opener};
use fd_registry::FdSets;
use iothread::IoThreads;
use qmp_command::policy::Policy;
use qmp_command::{CommandError, Router};
use qmp_monitor::{Core, EventHub, EventSender, LocalSession, Monitor, MonitorConfig, Usage};
use qmp_protocol::Version;
use thread_start::{Starter, ThreadKind};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::access;
use crate::builder::Builder;
use crate::chardevs::Chardevs;
use crate::commands::{self, CommandLineOption, ShutdownData};
use crate::display::{Acceptor, DisplayProtocol};
#[cfg(feature = "hmp")]
use crate::hmp::{Human, HumanShell};
use crate::introspect::schema::{self, SchemaInfo};
use crate::introspect::{Interface, SchemaReply};
use crate::machine::{AnyMachine, Machine};
use crate::monitors::{MonitorError, Monitors};
use crate::objects::Objects;
use crate::phase::Phase;
use crate::run_state::ShutdownCause;

/// What the commands of one plane share.
pub(crate) struct Shared {
    pub(crate) machine: Arc<dyn AnyMachine>,
    pub(crate) hub: EventHub,
    pub(crate) events: EventSender,
    pub(crate) fd_sets: FdSets,
    pub(crate) chardevs: Arc<Chardevs>,
    pub(crate) monitors: Arc<Monitors>,
    pub(crate) acceptors: HashMap<DisplayProtocol, Arc<dyn Acceptor>>,
    pub(crate) test_commands: bool,
    pub(crate) starter: Starter,
    /// The threads that close received descriptors are announced, as long as the plane is there.
    pub(crate) _announced: fd_closer::Announced,
    pub(crate) objects: Objects,
    pub(crate) iothreads: Arc<IoThreads>,
    pub(crate) version: Version,
    pub(crate) no_reboot: bool,
    pub(crate) no_shutdown: bool,
    #[cfg(feature = "vfio-user")]
    pub(crate) auto_shutdown: bool,
    pub(crate) phase: Arc<Phase>,
    pub(crate) start_paused: bool,
    pub(crate) command_line_options: Vec<CommandLineOption>,
    /// Set when the router is built, which the commands in it come before.
    pub(crate) command_names: OnceLock<Arc<[&'static str]>>,
    /// What `query-qmp-schema` returns; set likewise.
    pub(crate) schema: OnceLock<SchemaReply>,
    /// For commands that call others; set likewise.
    pub(crate) router: OnceLock<Weak<Router>>,
    /// Whether a cause was given; the first one counts.
    pub(crate) shutting_down: AtomicBool,
    /// The cause, once the event is out.
    pub(crate) shutdown: watch::Sender<Option<ShutdownCause>>,
    /// Made readable then, if there is one.
    pub(crate) shutdown_fd: OnceLock<Arc<OwnedFd>>,
}

impl Shared {
    /// SHUTDOWN goes out, then every session ends once it has written what it has. Only the first cause counts.
    pub(crate) fn shut_down(&self, cause: ShutdownCause) {
        if self.shutting_down.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Err(error) = self.events.emit("SHUTDOWN", &ShutdownData::new(cause)) {
            tracing::error!(%error, "SHUTDOWN was not raised");
        }
        self.hub.close();
        // Last: whoever waits for this closes the plane at once, on another thread, and no session may end before it
        // has the event.
        self.shutdown.send_replace(Some(cause));
        self.signal_shutdown();
    }

    /// Makes the descriptor readable, if there is one, and somebody has asked the program to end.
    pub(crate) fn signal_shutdown(&self) {
        if self.shutdown.borrow().is_some()
            && let Some(fd) = self.shutdown_fd.get()
        {
            // It holds 2 at most, so there is room for 1: this cannot fail.
            let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
        }
    }
}

/// What an author's own commands, objects and devices may keep of the plane. Cheap to clone.
#[derive(Clone)]
pub struct PlaneHandle(Arc<Shared>);

impl PlaneHandle {
    pub(crate) fn of(plane: &Arc<Shared>) -> Self {
        Self(plane.clone())
    }

    /// The plane itself.
    #[cfg(feature = "vfio-user")]
    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// Raises events.
    pub fn events(&self) -> EventSender {
        self.0.events.clone()
    }

    /// The fd sets that all monitors share.
    pub fn fd_sets(&self) -> &FdSets {
        &self.0.fd_sets
    }

    /// The chardevs.
    pub fn chardevs(&self) -> &Chardevs {
        &self.0.chardevs
    }

    /// Opens the files of chardevs, `/dev/fdset/N` among them.
    pub fn opener(&self) -> Opener {
        access::opener(&self.0.fd_sets)
    }

    /// For chardevs that are opened with more than [`ControlPlane::open_chardev`] says: files are opened as
    /// [`opener`](Self::opener) does, and threads started as [`threads`](Self::threads) does. `backlog` is a listener's: how many
    /// clients may wait besides those that are served.
    pub fn open_options(&self, backlog: u32) -> OpenOptions {
        OpenOptions::new(backlog).opener(self.opener()).starter(self.threads().clone())
    }

    /// The object tree.
    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// The iothreads, those of `object-add` among them.
    pub fn iothreads(&self) -> &Arc<IoThreads> {
        &self.0.iothreads
    }

    /// Starts threads as the plane's own are: for devices and objects that need one. They run the hook of
    /// [`on_thread_start`](Builder::on_thread_start), if there is one, and block all signals
    /// but those that a thread's own faults raise.
    pub fn threads(&self) -> &Starter {
        &self.0.starter
    }

    /// Copies what the plane and its iothreads have to the program's metrics recorder. Of the plane: `plane_monitors`;
    /// `plane_sessions`, with the label `monitor`; `plane_held_bytes` and `plane_held_fds`, what clients' sessions hold of the
    /// [budgets](Builder::budgets), and those, `plane_held_bytes_limit` and `plane_held_fds_limit`. Of iothreads:
    /// `iothread_wakeups_total`, `iothread_poll_hits_total`, `iothread_polling_nanoseconds_total` and the like, with the
    /// label `iothread`. To be called before what the recorder has is rendered; nothing else brings them up to date, but
    /// `x-query-iothread-stats` those of iothreads.
    #[cfg(feature = "metrics")]
    pub fn update_metrics(&self) {
        crate::metrics::update(&self.0.iothreads.list());
        crate::metrics::update_plane(&self.0.monitors);
    }

    /// Raises SHUTDOWN with this cause and asks the program to end, as `quit` does. Later causes are ignored.
    pub fn shut_down(&self, cause: ShutdownCause) {
        self.0.shut_down(cause);
    }

    /// The guest has shut down: raises SHUTDOWN and asks the program to end, or, with
    /// [`no_shutdown`](Builder::no_shutdown), stops the machine until it is reset.
    ///
    /// To stop it, it waits for its turn among the commands that run alone, such as `stop`: what runs as such a command, a method of
    /// the [`Machine`]'s too, must not wait for this. Who drops the future leaves the rest to the plane.
    ///
    /// # Errors
    /// What the machine's [`shut_down`](Machine::shut_down) fails with; with [`no_shutdown`](Builder::no_shutdown) also that the plane
    /// has been closed.
    pub async fn guest_shut_down(&self, cause: ShutdownCause) -> Result<(), CommandError> {
        if !self.0.no_shutdown {
            return commands::power_off(&self.0, cause).await;
        }
        let (done, result) = oneshot::channel();
        let plane = self.0.clone();
        self.0.monitors.soon(async move {
            let _ = done.send(commands::power_off(&plane, cause).await);
        });
        let nobody =
            |_| Err(CommandError::generic("nobody answers: the plane is closed, or the machine panicked"));
        result.await.unwrap_or_else(nobody)
    }

    /// Waits until somebody asks the program to end: for ever, if the plane is closed and nobody has. Cancel-safe.
    pub async fn shutdown_requested(&self) -> ShutdownCause {
        let mut shutdown = self.0.shutdown.subscribe();
        // The sender is in `self`, so it cannot go away meanwhile.
        match shutdown.wait_for(Option::is_some).await {
            Ok(cause) => cause.unwrap_or(ShutdownCause::None),
            Err(_) => ShutdownCause::None,
        }
    }

    /// Has this descriptor made readable when somebody asks the program to end. To be called once.
    pub(crate) fn signal_shutdown_by(&self, fd: Arc<OwnedFd>) {
        self.0.shutdown_fd.get_or_init(|| fd);
        self.0.signal_shutdown();
    }

    /// Why the program is to end, if somebody has asked for it.
    pub fn shutdown_cause(&self) -> Option<ShutdownCause> {
        *self.0.shutdown.borrow()
    }
}

impl fmt::Debug for PlaneHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneHandle").finish_non_exhaustive()
    }
}

/// A control plane: commands, events, fd sets and monitors of one machine. Any number of them fit in one process.
pub struct ControlPlane {
    pub(crate) handle: PlaneHandle,
    pub(crate) core: Arc<Core>,
    #[cfg(feature = "hmp")]
    pub(crate) human: Arc<Human>,
    pub(crate) interface: Interface,
    pub(crate) _fan_out: AbortOnDrop,
}

impl ControlPlane {
    /// Starts to build a plane around a machine.
    pub fn builder(machine: impl Machine) -> Builder {
        Builder::new(machine)
    }

    /// Opens a chardev as the plane does: what may wait is done by threads that run the hook of
    /// [`on_thread_start`](Builder::on_thread_start), and `/dev/fdset/N` is a file. ([`Chardev::open`] knows of neither.) `backlog` is a
    /// listener's: how many clients may wait besides those that are served. It is not [registered](Self::chardevs) yet.
    ///
    /// # Errors
    /// As [`Chardev::open`].
    pub async fn open_chardev(
        &self,
        id: &str,
        backend: Backend,
        backlog: u32,
    ) -> Result<Arc<Chardev>, OpenError> {
        Chardev::open_with(id, backend, self.handle.open_options(backlog)).await.map(Arc::new)
    }

    /// Serves QMP to the clients of a chardev, at most `max_clients` (at least 1) at once; the others wait to be accepted.
    /// The chardev is [registered](Self::chardevs), if it is not yet.
    ///
    /// # Errors
    /// When the id is empty or has a `/`, there is a monitor of that id, another chardev of its chardev's id, or the chardev
    /// has a user already.
    pub fn add_monitor(
        &self,
        config: MonitorConfig,
        chardev: &Arc<Chardev>,
        max_clients: usize,
    ) -> Result<(), MonitorError> {
        let Shared { monitors, chardevs, .. } = &*self.handle.0;
        monitors.start_own(config, chardevs, chardev, max_clients)
    }

    /// Opens a chardev of the monitor's id, and serves the monitor there. Both ids are taken before it is opened: what is at its path
    /// stays if they are not free.
    pub(crate) async fn open_monitor(
        &self,
        config: MonitorConfig,
        backend: Backend,
        backlog: u32,
        max_clients: usize,
    ) -> Result<Arc<Chardev>, MonitorError> {
        let Shared { monitors, chardevs, .. } = &*self.handle.0;
        monitors.is_free(&config.id)?;
        let reserved = chardevs.reserve(&config.id, usize::MAX)?;
        let chardev = self.open_chardev(&config.id, backend, backlog).await?;
        reserved.fill(chardev.clone())?;
        let added = monitors.start_own(config, chardevs, &chardev, max_clients);
        if added.is_err() {
            chardevs.remove_this(&chardev);
        }
        added.map(|()| chardev)
    }

    /// Ends a monitor: no more clients, and its sessions end once they have finished what runs and written what they
    /// have (within two seconds). The chardev can have another monitor afterwards. `false` when there is none of this id.
    pub async fn remove_monitor(&self, id: &str) -> bool {
        let shared = &self.handle.0;
        let Some(monitor) = shared.monitors.take(id) else { return false };
        let path = format!("/objects/{id}");
        if shared.objects.type_of(&path).is_some_and(|ty| ty.starts_with("monitor-")) {
            shared.objects.detach(&path);
        }
        monitor.close().await;
        true
    }

    /// A session of the process's own, without a socket.
    pub fn connect(&self) -> LocalSession {
        LocalSession::new(self.core.clone(), "local")
    }

    /// The same, which may do only what `policy` allows.
    pub fn connect_with(&self, policy: Policy) -> LocalSession {
        LocalSession::with_policy(self.core.clone(), "local", policy)
    }

    /// A new session of the human monitor, for whoever reads lines.
    #[cfg(feature = "hmp")]
    pub fn human_shell(&self) -> HumanShell {
        HumanShell::new(self.human.clone())
    }

    /// What device threads and commands may keep.
    pub fn handle(&self) -> PlaneHandle {
        self.handle.clone()
    }

    /// Raises events.
    pub fn events(&self) -> EventSender {
        self.handle.events()
    }

    /// The fd sets that all monitors share.
    pub fn fd_sets(&self) -> &FdSets {
        self.handle.fd_sets()
    }

    /// The chardevs: those of monitors, and what was registered or added since.
    pub fn chardevs(&self) -> &Chardevs {
        self.handle.chardevs()
    }

    /// The object tree.
    pub fn objects(&self) -> &Objects {
        self.handle.objects()
    }

    /// The iothreads, those of `object-add` among them.
    pub fn iothreads(&self) -> &Arc<IoThreads> {
        self.handle.iothreads()
    }

    /// What clients' sessions hold now, measured against the [budgets](Builder::budgets).
    pub fn usage(&self) -> Usage {
        self.core.usage()
    }

    /// The commands that there are.
    pub fn router(&self) -> &Router {
        self.core.router()
    }

    /// All commands, events and types, for those who describe them to others.
    pub fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What `query-qmp-schema` returns, in a typed form. Types are named by numbers that mean nothing; compare structures, as
    /// [`stability`](crate::introspect::stability) does.
    pub fn schema(&self) -> Vec<SchemaInfo> {
        schema::generate(&self.interface)
    }

    /// Raises SHUTDOWN with this cause and asks the program to end. Later causes are ignored.
    pub fn shut_down(&self, cause: ShutdownCause) {
        self.handle.shut_down(cause);
    }

    /// Waits until somebody asks the program to end: `quit` on a monitor, or [`shut_down`](Self::shut_down).
    /// Cancel-safe.
    pub async fn shutdown_requested(&self) -> ShutdownCause {
        self.handle.shutdown_requested().await
    }

    /// Ends all sessions once they have written what they have (within two seconds), stops listening and removes the
    /// sockets; but a [`Chardev`] that the caller keeps goes on listening until it is dropped. No event is raised. A command that
    /// takes longer goes on by itself, on the runtime; its client is disconnected.
    pub async fn close(self) {
        self.end().await;
    }

    pub(crate) async fn end(&self) {
        self.core.close();
        let monitors = self.handle.0.monitors.take_all();
        // Before the sessions are waited for: one may be waiting for a chardev.
        self.chardevs().close();
        futures_util::future::join_all(monitors.into_iter().map(Monitor::close)).await;
        // An object's end may take as long as it likes, and is waited for so long only.
        let (done, end) = oneshot::channel();
        let cleared = move || {
            let _ = done.send(());
        };
        if let Err(error) = self.handle.clear(cleared) {
            tracing::error!(%error, "there was no thread for the end of the plane's objects");
        } else if !matches!(timeout(CLEARING, end).await, Ok(Ok(()))) {
            tracing::error!("the plane's objects have not ended, or one has panicked");
        }
    }
}

impl PlaneHandle {
    /// Takes out objects and iothreads, and drops them on a thread that may wait for them, which calls `done` then. Where the
    /// system has none, they are waited for here.
    fn clear(&self, done: impl FnOnce() + Send + 'static) -> io::Result<()> {
        let (objects, iothreads) = (self.objects().take_all(), self.iothreads().close());
        if objects.is_empty() && iothreads.is_empty() {
            done();
            return Ok(());
        }
        let clear = move || {
            // Exports use iothreads.
            drop(objects);
            drop(iothreads);
            done();
        };
        self.threads().start(ThreadKind::Helper, "plane-end", clear).map(drop)
    }
}

/// How long [`ControlPlane::close`] waits for objects to end: as long as for sessions.
const CLEARING: Duration = Duration::from_secs(2);

impl Drop for ControlPlane {
    /// Everything goes with the plane; [`close`](ControlPlane::close) is for those who want to wait for it. Only where the system
    /// has no thread to spare, objects and iothreads are waited for here.
    fn drop(&mut self) {
        self.core.close();
        self.handle.0.monitors.take_all();
        self.chardevs().close();
        // Objects hold parts of the plane, which hold the tree; their threads are waited for, where that harms nobody.
        if let Err(error) = self.handle.clear(|| ()) {
            tracing::error!(%error, "there was no thread for the end of the plane's objects");
        }
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("core", &self.core).finish_non_exhaustive()
    }
}

/// A task that goes with its owner.
pub(crate) struct AbortOnDrop(pub(crate) JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
