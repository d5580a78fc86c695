//! Building a control plane.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use fd_registry::FdSets;
use iothread::IoThreads;
use qmp_command::layers::authorize::Authority;
use qmp_command::layers::permit::Permit;
use qmp_command::{Command, Router};
use qmp_monitor::{Budgets, Core, DeclareError, EventHub, EventSpec, SessionLimits};
use qmp_protocol::Version;
use thread_start::{Starter, ThreadKind};
use tokio::sync::watch;

use crate::chardevs::Chardevs;
use crate::commands::{self, CommandLineOption};
use crate::display::{Acceptor, DisplayProtocol};
#[cfg(feature = "hmp")]
use crate::hmp::{Human, HumanCommand, HumanShell, HumanTableError};
use crate::introspect::{DescribeError, Interface, names};
use crate::machine::{AnyMachine, Machine};
use crate::monitors::Monitors;
use crate::objects::{ObjectType, Objects, Registry, TypeError, builtin};
use crate::phase::{Phase, PhaseAuthority};
use crate::plane::{AbortOnDrop, ControlPlane, PlaneHandle, Shared};

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
    #[cfg(feature = "hmp")]
    #[error(transparent)]
    Human(#[from] HumanTableError),
    /// A type of objects or devices is wrong.
    #[error(transparent)]
    Type(#[from] TypeError),
    /// `build` was called outside a tokio runtime.
    #[error("a control plane is built inside a tokio runtime")]
    NoRuntime,
}

/// The part of clients' fds that may be in sets, where nobody can be told to give them.
const SETS_SHARE: usize = 2;

/// The part of the memory that notes on fds in sets may take up: what lists them is as long as all of them.
const NOTES_SHARE: usize = 16;

type MakeCommand = Box<dyn FnOnce(&PlaneHandle) -> Command>;
#[cfg(feature = "hmp")]
type MakeHumanCommand = Box<dyn FnOnce(&PlaneHandle) -> HumanCommand>;

/// Collects what a plane is made of. See [`ControlPlane::builder`].
pub struct Builder {
    machine: Arc<dyn AnyMachine>,
    version: Version,
    limits: SessionLimits,
    budgets: Budgets,
    no_reboot: bool,
    no_shutdown: bool,
    #[cfg(feature = "vfio-user")]
    auto_shutdown: bool,
    preconfig: bool,
    start_paused: bool,
    authority: Option<Arc<dyn Authority>>,
    command_timeout: Option<std::time::Duration>,
    commands: Vec<MakeCommand>,
    #[cfg(feature = "hmp")]
    human_commands: Vec<MakeHumanCommand>,
    events: Vec<EventSpec>,
    acceptors: HashMap<DisplayProtocol, Arc<dyn Acceptor>>,
    test_commands: bool,
    object_types: Vec<ObjectType>,
    device_types: Vec<ObjectType>,
    command_line_options: Vec<CommandLineOption>,
    pub(crate) starter: Starter,
    pub(crate) thread_name: String,
}

impl Builder {
    pub(crate) fn new(machine: impl Machine) -> Self {
        Self {
            machine: Arc::new(machine),
            version: Version {
                major: 7,
                minor: 2,
                micro: 0,
                package: concat!("vmm-control ", env!("CARGO_PKG_VERSION")).to_owned(),
            },
            limits: SessionLimits::default(),
            budgets: Budgets::default(),
            no_reboot: false,
            no_shutdown: false,
            #[cfg(feature = "vfio-user")]
            auto_shutdown: false,
            preconfig: false,
            start_paused: false,
            authority: None,
            command_timeout: None,
            commands: Vec::new(),
            #[cfg(feature = "hmp")]
            human_commands: Vec::new(),
            events: Vec::new(),
            acceptors: HashMap::new(),
            test_commands: false,
            object_types: Vec::new(),
            device_types: Vec::new(),
            command_line_options: Vec::new(),
            starter: Starter::default(),
            thread_name: "vmm-control".to_owned(),
        }
    }

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

    /// Runs `hook` on each thread that the plane starts, before anything else, with what the thread is for and its name: for
    /// seccomp, affinity, cgroups. It may start no thread through the plane. One that panics keeps its thread from being.
    ///
    /// Threads that close received descriptors serve the whole process: on those the hooks of all planes run. The threads
    /// of a runtime that the program has made itself are its own affair.
    #[must_use]
    pub fn on_thread_start(mut self, hook: impl Fn(ThreadKind, &str) + Send + Sync + 'static) -> Self {
        self.starter = Starter::new(hook);
        self
    }

    /// What the thread is called that [`start`](Self::start) makes, `vmm-control` by default. Its threads that may block are called
    /// the same with `-io` behind. The kernel shows the first 15 bytes.
    #[must_use]
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = name.into();
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

    /// Adds a command of the author's own. Names without a prefix are QEMU's: call it `__com.example_name`, with your
    /// domain, or `x-name` while it may change. Another name works, and building the plane logs a warning.
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
    #[cfg(feature = "hmp")]
    #[must_use]
    pub fn human_command(self, command: HumanCommand) -> Self {
        self.human_command_with(move |_| command)
    }

    /// Adds a command to the human monitor that uses the plane.
    #[cfg(feature = "hmp")]
    #[must_use]
    pub fn human_command_with(mut self, make: impl FnOnce(&PlaneHandle) -> HumanCommand + 'static) -> Self {
        self.human_commands.push(Box::new(make));
        self
    }

    /// Declares an event of the author's own: `__COM.EXAMPLE_NAME`, or `X_NAME` while it may change.
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

    /// What all sessions together may make the plane hold: over it, the one that holds most gives. By default 256 MiB of
    /// memory, and a quarter of the fds that the process may have open. Of what clients may have in fds, half may be in
    /// fd sets, whose notes may take up a 16th of the memory.
    #[must_use]
    pub fn budgets(mut self, budgets: Budgets) -> Self {
        self.budgets = budgets;
        self
    }

    /// Who decides which command may run. Everything may by default.
    #[must_use]
    pub fn authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.authority = Some(authority);
        self
    }

    /// How long a command that is cancel-safe, and whose handler does not block, may take. No limit by default, as in QEMU.
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

    /// The machine shuts down when the last `x-vfio-user-server` object goes, as QEMU's `-machine
    /// x-remote,auto-shutdown=on`. Off by default, other than in QEMU.
    #[cfg(feature = "vfio-user")]
    #[must_use]
    pub fn auto_shutdown(mut self, auto_shutdown: bool) -> Self {
        self.auto_shutdown = auto_shutdown;
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

    /// Builds the plane, on the current tokio runtime, which must have I/O and time
    /// ([`enable_all`](tokio::runtime::Builder::enable_all)): without a clock, tokio panics in the plane's tasks, and in
    /// [`close`](ControlPlane::close); without I/O, in [`open_chardev`](ControlPlane::open_chardev). Without a runtime, [`start`](Self::start) makes it a thread.
    ///
    /// # Errors
    /// A name that is illegal or taken, or a type that QAPI cannot express, with the field that is wrong; or no
    /// runtime.
    pub fn build(self) -> Result<ControlPlane, BuildError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| BuildError::NoRuntime)?;
        let starter = self.starter.apart_name(&format!("{}-io", self.thread_name));
        let own_events: Vec<_> = self.events.iter().map(EventSpec::name).collect();
        let events: Vec<_> = commands::events().into_iter().chain(self.events).collect();
        let hub = EventHub::new(events.iter().cloned())?;
        let iothreads = Arc::new(IoThreads::new());
        let (chardevs, monitors): (Arc<Chardevs>, Arc<Monitors>) = Default::default();
        let built_in = [
            builtin::iothread(&iothreads),
            builtin::memory_backend_ram(),
            builtin::memory_backend_memfd(),
            builtin::monitor_qmp(&monitors, &chardevs),
            #[cfg(feature = "hmp")]
            builtin::monitor_hmp(&monitors, &chardevs),
            #[cfg(feature = "vfio-user")]
            builtin::vfio_user_server(),
        ];
        let types =
            Registry::new(built_in.into_iter().chain(self.object_types).collect(), self.device_types)?;
        let objects = Objects::new(types, self.machine.machine_type());
        let shared = Arc::new(Shared {
            chardevs,
            monitors,
            acceptors: self.acceptors,
            test_commands: self.test_commands,
            _announced: fd_closer::announce_to(starter.clone()),
            starter: starter.clone(),
            objects,
            iothreads,
            machine: self.machine,
            events: hub.sender(),
            hub: hub.clone(),
            fd_sets: FdSets::bounded(self.budgets.fds / SETS_SHARE, self.budgets.memory / NOTES_SHARE),
            version: self.version,
            no_reboot: self.no_reboot,
            no_shutdown: self.no_shutdown,
            #[cfg(feature = "vfio-user")]
            auto_shutdown: self.auto_shutdown,
            phase: Arc::new(Phase::new(self.preconfig)),
            start_paused: self.start_paused,
            command_line_options: self.command_line_options,
            command_names: OnceLock::new(),
            schema: OnceLock::new(),
            router: OnceLock::new(),
            shutting_down: AtomicBool::new(false),
            shutdown: watch::Sender::new(None),
            shutdown_fd: OnceLock::new(),
        });
        let handle = PlaneHandle::of(&shared);
        let authority = PhaseAuthority { phase: shared.phase.clone(), next: self.authority };
        let permit = Permit::new();
        #[cfg(feature = "hmp")]
        let human_commands = self.human_commands.into_iter().map(|make| make(&handle)).collect();
        #[cfg(feature = "hmp")]
        let human = Human::new(shared.clone(), permit.clone(), human_commands)?;
        let router = Router::builder()
            .authority(Arc::new(authority))
            .permit(permit.clone())
            .starter(starter)
            .commands(commands::commands(&shared));
        #[cfg(feature = "hmp")]
        let router = router.command(commands::human_monitor_command(&human));
        let own: Vec<_> = self.commands.into_iter().map(|make| make(&handle)).collect();
        warn_of_names(own.iter().map(|command| command.metadata().name), &own_events);
        let mut router = router.commands(own);
        if let Some(limit) = self.command_timeout {
            router = router.timeout(limit);
        }
        let router = Arc::new(router.build()?);
        shared.router.get_or_init(|| Arc::downgrade(&router));
        shared.command_names.get_or_init(|| router.commands().map(|command| command.name).collect());
        let interface = Interface::new(&router, events)?;
        let schema = interface.encoded()?;
        shared.schema.get_or_init(|| schema);
        let core = Core::with_budgets(router, hub.clone(), &shared.version, self.limits, &self.budgets);
        shared.monitors.connect(&core, &shared.objects, permit);
        shared.chardevs.connect(&shared.objects);
        #[cfg(feature = "hmp")]
        core.set_shell(Arc::new(HumanShell::new(human.clone())));
        let fan_out = runtime.spawn(async move { hub.run().await });
        Ok(ControlPlane {
            handle,
            core,
            #[cfg(feature = "hmp")]
            human,
            interface,
            _fan_out: AbortOnDrop(fan_out),
        })
    }
}

/// Says once which of an author's names QEMU may use for something else one day. They work all the same.
fn warn_of_names<'a>(commands: impl Iterator<Item = &'a str>, events: &[&'a str]) {
    let events = events.iter().copied().filter(|name| !names::is_event_name(name));
    let names: Vec<&str> = commands.filter(|name| !names::is_command_name(name)).chain(events).collect();
    if !names.is_empty() {
        tracing::warn!(
            ?names,
            "these may become QEMU's: call them __RFQDN_name (__com.example_name), or x-name for now"
        );
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("version", &self.version).finish_non_exhaustive()
    }
}
