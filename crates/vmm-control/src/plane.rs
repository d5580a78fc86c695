//! The control plane: what an author builds around their machine.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use chardev::{Chardev, Opener};
use fd_registry::FdSets;
use iothread::IoThreads;
use qmp_command::layers::authorize::Authority;
use qmp_command::layers::permit::Permit;
use qmp_command::policy::Policy;
use qmp_command::{Command, CommandError, Router};
use qmp_monitor::{
    Core, DeclareError, EventHub, EventSender, EventSpec, LocalSession, Monitor, MonitorConfig, SessionLimits,
};
use qmp_protocol::Version;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::access;
use crate::chardevs::Chardevs;
use crate::commands::{self, CommandLineOption, ShutdownData};
use crate::display::{Acceptor, DisplayProtocol};
use crate::hmp::{Human, HumanCommand, HumanShell, HumanTableError};
use crate::introspect::{DescribeError, Interface, SchemaReply};
use crate::machine::{AnyMachine, Machine};
use crate::monitors::{MonitorError, Monitors};
use crate::objects::{ObjectType, Objects, Registry, TypeError, builtin};
use crate::phase::{Phase, PhaseAuthority};
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
    pub(crate) objects: Objects,
    pub(crate) iothreads: Arc<IoThreads>,
    pub(crate) version: Version,
    pub(crate) no_reboot: bool,
    pub(crate) no_shutdown: bool,
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
    shutting_down: AtomicBool,
    /// The cause, once the event is out.
    shutdown: watch::Sender<Option<ShutdownCause>>,
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
    }
}

/// What an author's own commands, objects and devices may keep of the plane. Cheap to clone.
#[derive(Clone)]
pub struct PlaneHandle(Arc<Shared>);

impl PlaneHandle {
    pub(crate) fn of(plane: &Arc<Shared>) -> Self {
        Self(plane.clone())
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

    /// The object tree.
    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// The iothreads, those of `object-add` among them.
    pub fn iothreads(&self) -> &Arc<IoThreads> {
        &self.0.iothreads
    }

    /// Raises SHUTDOWN with this cause and asks the program to end, as `quit` does. Later causes are ignored.
    pub fn shut_down(&self, cause: ShutdownCause) {
        self.0.shut_down(cause);
    }

    /// The guest has shut down: raises SHUTDOWN and asks the program to end, or, with
    /// [`no_shutdown`](Builder::no_shutdown), stops the machine until it is reset.
    ///
    /// # Errors
    /// What the machine's [`shut_down`](Machine::shut_down) fails with.
    pub async fn guest_shut_down(&self, cause: ShutdownCause) -> Result<(), CommandError> {
        commands::power_off(&self.0, cause).await
    }

    /// Waits until somebody asks the program to end. Cancel-safe.
    pub async fn shutdown_requested(&self) -> ShutdownCause {
        let mut shutdown = self.0.shutdown.subscribe();
        // The sender is in `self`, so it cannot go away meanwhile.
        match shutdown.wait_for(Option::is_some).await {
            Ok(cause) => cause.unwrap_or(ShutdownCause::None),
            Err(_) => ShutdownCause::None,
        }
    }
}

impl fmt::Debug for PlaneHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PlaneHandle").finish_non_exhaustive()
    }
}

/// Why a plane cannot be built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A command is wrong.
    #[error(transparent)]
    Command(#[from] qmp_command::BuildError),
    /// An event is wrong.
    #[error(transparent)]
    Event(#[from] DeclareError),
    /// A command's type and an event's have one name, or the interface cannot be encoded.
    #[error("the interface cannot be described: {0}")]
    Interface(#[from] DescribeError),
    /// A human command is wrong.
    #[error(transparent)]
    Human(#[from] HumanTableError),
    /// A type of objects or devices is wrong.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// `build` was called outside a tokio runtime.
    #[error("a control plane is built inside a tokio runtime")]
    NoRuntime,
}

type MakeCommand = Box<dyn FnOnce(&PlaneHandle) -> Command>;
type MakeHumanCommand = Box<dyn FnOnce(&PlaneHandle) -> HumanCommand>;

/// Collects what a plane is made of. See [`ControlPlane::builder`].
pub struct Builder {
    machine: Arc<dyn AnyMachine>,
    version: Version,
    limits: SessionLimits,
    no_reboot: bool,
    no_shutdown: bool,
    preconfig: bool,
    start_paused: bool,
    authority: Option<Arc<dyn Authority>>,
    command_timeout: Option<std::time::Duration>,
    commands: Vec<MakeCommand>,
    human_commands: Vec<MakeHumanCommand>,
    events: Vec<EventSpec>,
    acceptors: HashMap<DisplayProtocol, Arc<dyn Acceptor>>,
    test_commands: bool,
    object_types: Vec<ObjectType>,
    device_types: Vec<ObjectType>,
    command_line_options: Vec<CommandLineOption>,
}

impl Builder {
    /// What `query-command-line-options` says of the program's command line. Nothing by default.
    #[must_use]
    pub fn command_line_options(mut self, options: Vec<CommandLineOption>) -> Self {
        self.command_line_options = options;
        self
    }

    /// Whom `add_client` hands the clients of a display to. Without one it answers as QEMU without such a display.
    #[must_use]
    pub fn display_acceptor(mut self, protocol: DisplayProtocol, acceptor: Arc<dyn Acceptor>) -> Self {
        self.acceptors.insert(protocol, acceptor);
        self
    }

    /// Adds `x-test-block`, with which tests hold a session up from outside. Not for anything else.
    #[must_use]
    pub fn test_commands(mut self, on: bool) -> Self {
        self.test_commands = on;
        self
    }

    /// Adds a type of which clients can make objects with `object-add`.
    #[must_use]
    pub fn object_type(mut self, ty: ObjectType) -> Self {
        self.object_types.push(ty);
        self
    }

    /// Adds a type of which clients can make devices with `device_add`.
    #[must_use]
    pub fn device_type(mut self, ty: ObjectType) -> Self {
        self.device_types.push(ty);
        self
    }

    /// Adds a command of the author's own.
    #[must_use]
    pub fn command(self, command: Command) -> Self {
        self.command_with(move |_| command)
    }

    /// Adds a command that uses the plane: raises events, opens fd sets.
    #[must_use]
    pub fn command_with(mut self, make: impl FnOnce(&PlaneHandle) -> Command + 'static) -> Self {
        self.commands.push(Box::new(make));
        self
    }

    /// Adds a command of the author's own to the human monitor.
    #[must_use]
    pub fn human_command(self, command: HumanCommand) -> Self {
        self.human_command_with(move |_| command)
    }

    /// Adds a command to the human monitor that uses the plane.
    #[must_use]
    pub fn human_command_with(mut self, make: impl FnOnce(&PlaneHandle) -> HumanCommand + 'static) -> Self {
        self.human_commands.push(Box::new(make));
        self
    }

    /// Declares an event of the author's own.
    #[must_use]
    pub fn event(mut self, event: EventSpec) -> Self {
        self.events.push(event);
        self
    }

    /// The version that the greeting and `query-version` give. Clients choose their dialect by its numbers, so they
    /// should be QEMU's; the default is 7.2.0 with this library's name and version as the package.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// What clients may make their sessions hold.
    #[must_use]
    pub fn limits(mut self, limits: SessionLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Who decides which command may run. Everything may by default.
    #[must_use]
    pub fn authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// How long a command that is cancel-safe may take. No limit by default, as in QEMU.
    #[must_use]
    pub fn command_timeout(mut self, limit: std::time::Duration) -> Self {
        self.command_timeout = Some(limit);
        self
    }

    /// `system_reset` shuts down instead, as QEMU's `-no-reboot`.
    #[must_use]
    pub fn no_reboot(mut self, no_reboot: bool) -> Self {
        self.no_reboot = no_reboot;
        self
    }

    /// A guest that shuts down leaves the machine stopped until it is reset, as QEMU's `-no-shutdown`; `quit` and
    /// [`ControlPlane::shut_down`] end the program all the same.
    #[must_use]
    pub fn no_shutdown(mut self, no_shutdown: bool) -> Self {
        self.no_shutdown = no_shutdown;
        self
    }

    /// The machine is not initialised yet, as with QEMU's `--preconfig`: only commands that allow it can be used until
    /// `x-exit-preconfig` has called [`Machine::initialize`].
    #[must_use]
    pub fn preconfig(mut self, preconfig: bool) -> Self {
        self.preconfig = preconfig;
        self
    }

    /// `x-exit-preconfig` does not let the guest run, as with QEMU's `-S`.
    #[must_use]
    pub fn start_paused(mut self, start_paused: bool) -> Self {
        self.start_paused = start_paused;
        self
    }

    /// Builds the plane, on the current tokio runtime.
    ///
    /// # Errors
    /// A name that is illegal or taken, or a type that QAPI cannot express, with the field that is wrong; or no
    /// runtime.
    pub fn build(self) -> Result<ControlPlane, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let events: Vec<_> = commands::events().into_iter().chain(self.events).collect();
        let hub = EventHub::new(events.iter().cloned())?;
        let iothreads = Arc::new(IoThreads::new());
        let (chardevs, monitors): (Arc<Chardevs>, Arc<Monitors>) = Default::default();
        let built_in = [
            builtin::iothread(&iothreads),
            builtin::memory_backend_ram(),
            builtin::memory_backend_memfd(),
            builtin::monitor_qmp(&monitors, &chardevs),
            builtin::monitor_hmp(&monitors, &chardevs),
        ];
        let types =
            Registry::new(built_in.into_iter().chain(self.object_types).collect(), self.device_types)?;
        let objects = Objects::new(types, self.machine.machine_type());
        let shared = Arc::new(Shared {
            chardevs,
            monitors,
            acceptors: self.acceptors,
            test_commands: self.test_commands,
            objects,
            iothreads,
            machine: self.machine,
            events: hub.sender(),
            hub: hub.clone(),
            fd_sets: FdSets::new(),
            version: self.version,
            no_reboot: self.no_reboot,
            no_shutdown: self.no_shutdown,
            phase: Arc::new(Phase::new(self.preconfig)),
            start_paused: self.start_paused,
            command_line_options: self.command_line_options,
            command_names: OnceLock::new(),
            schema: OnceLock::new(),
            router: OnceLock::new(),
            shutting_down: AtomicBool::new(false),
            shutdown: watch::Sender::new(None),
        });
        let handle = PlaneHandle(shared.clone());
        let authority = PhaseAuthority { phase: shared.phase.clone(), next: self.authority };
        let permit = Permit::new();
        let human_commands = self.human_commands.into_iter().map(|make| make(&handle)).collect();
        let human = Human::new(shared.clone(), permit.clone(), human_commands)?;
        let mut router = Router::builder()
            .authority(Arc::new(authority))
            .permit(permit.clone())
            .commands(commands::commands(&shared))
            .command(commands::human_monitor_command(&human))
            .commands(self.commands.into_iter().map(|make| make(&handle)));
        if let Some(limit) = self.command_timeout {
            router = router.timeout(limit);
        }
        let router = Arc::new(router.build()?);
        shared.router.get_or_init(|| Arc::downgrade(&router));
        shared.command_names.get_or_init(|| router.commands().map(|command| command.name).collect());
        let interface = Interface::new(&router, events)?;
        let schema = interface.encoded()?;
        shared.schema.get_or_init(|| schema);
        let core = Core::new(router, hub.clone(), &shared.version, self.limits);
        shared.monitors.connect(&core, &shared.objects, permit);
        shared.chardevs.connect(&shared.objects);
        core.set_shell(Arc::new(HumanShell::new(human.clone())));
        let fan_out = runtime.spawn(async move { hub.run().await });
        Ok(ControlPlane { handle, core, human, interface, _fan_out: AbortOnDrop(fan_out) })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("version", &self.version).finish_non_exhaustive()
    }
}

/// A control plane: commands, events, fd sets and monitors of one machine. Any number of them fit in one process.
pub struct ControlPlane {
    handle: PlaneHandle,
    core: Arc<Core>,
    human: Arc<Human>,
    interface: Interface,
    _fan_out: AbortOnDrop,
}

impl ControlPlane {
    /// Starts to build a plane around a machine.
    pub fn builder(machine: impl Machine) -> Builder {
        Builder {
            machine: Arc::new(machine),
            version: Version {
                major: 7,
                minor: 2,
                micro: 0,
                package: concat!("vmm-control ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            limits: SessionLimits::default(),
            no_reboot: false,
            no_shutdown: false,
            preconfig: false,
            start_paused: false,
            authority: None,
            command_timeout: None,
            commands: Vec::new(),
            human_commands: Vec::new(),
            events: Vec::new(),
            acceptors: HashMap::new(),
            test_commands: false,
            object_types: Vec::new(),
            device_types: Vec::new(),
            command_line_options: Vec::new(),
        }
    }

    /// Serves QMP to the clients of a chardev, at most `max_clients` at once; the others wait to be accepted. The
    /// chardev is [registered](Self::chardevs), if it is not yet.
    ///
    /// # Errors
    /// When there is a monitor of that id, another chardev of its chardev's id, or the chardev has a user already.
    pub fn add_monitor(
        &self,
        config: MonitorConfig,
        chardev: &Arc<Chardev>,
        max_clients: usize,
    ) -> Result<(), MonitorError> {
        let Shared { monitors, chardevs, .. } = &*self.handle.0;
        monitors.start_own(config, chardevs, chardev, max_clients)
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

    /// The commands that there are.
    pub fn router(&self) -> &Router {
        self.core.router()
    }

    /// All commands, events and types, for those who describe them to others.
    pub fn interface(&self) -> &Interface {
        &self.interface
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
    /// sockets; but a [`Chardev`] that the caller keeps goes on listening until it is dropped. No event is raised.
    pub async fn close(self) {
        self.core.close();
        let monitors = self.handle.0.monitors.take_all();
        // Before the sessions are waited for: one may be waiting for a chardev.
        self.chardevs().close();
        futures_util::future::join_all(monitors.into_iter().map(Monitor::close)).await;
    }
}

impl Drop for ControlPlane {
    /// Everything goes with the plane; [`close`](ControlPlane::close) is for those who want to wait for it.
    fn drop(&mut self) {
        self.core.close();
        self.handle.0.monitors.take_all();
        self.chardevs().close();
        // Objects hold parts of the plane, which hold the tree.
        self.handle.objects().clear();
    }
}

impl fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ControlPlane").field("core", &self.core).finish_non_exhaustive()
    }
}

/// A task that goes with its owner.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
