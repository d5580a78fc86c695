//! What the control plane asks of a VMM.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::hardware::{IoPorts, Kvm, Target, Vcpu};
use crate::run_state::{RunState, RunStateCell};
use crate::{CommandError, CommandResult};

/// A VMM, as its control plane sees it.
///
/// The plane calls the methods that change something one at a time, across all monitors, and never drops one before
/// it has ended. It raises the events that go with them (STOP, RESUME, RESET, POWERDOWN) by what
/// [`run_state`](Self::run_state) says before and after, so an implementation only acts. A change of state that no
/// command asked for (the guest paused itself) is announced by the VMM, with an
/// [`EventSender`](crate::EventSender).
///
/// [`RunStateCell`](crate::RunStateCell) keeps the state by QEMU's rules for those who have no such state machine.
pub trait Machine: Send + Sync + 'static {
    /// The guest's name, for `query-name`.
    fn name(&self) -> Option<String> {
        None
    }

    /// The state the machine is in now. It is asked often and must not block.
    fn run_state(&self) -> RunState;

    /// What the machine is called, for the type of `/machine`: `none` makes it `none-machine`.
    fn machine_type(&self) -> &str {
        "none"
    }

    /// The guest's UUID, for `query-uuid`. All zeros when it has none.
    fn uuid(&self) -> [u8; 16] {
        [0; 16]
    }

    /// The architecture that the guest sees, for `query-target` and `query-cpus-fast`.
    fn target(&self) -> Target {
        Target::X86_64
    }

    /// Whether KVM is there and used, for `query-kvm`.
    fn kvm(&self) -> Kvm {
        Kvm::default()
    }

    /// The virtual CPUs, in the order of their indices. Empty while there is no machine.
    fn vcpus(&self) -> Vec<Vcpu> {
        Vec::new()
    }

    /// What a person who asks for the state should know besides, in one line: `info status` shows it below the state.
    /// `None`: nothing, which is QEMU's output.
    fn status_note(&self) -> Option<String> {
        None
    }

    /// The I/O ports of the machine, for the human monitor's `o` and `i`. `None`: it has none.
    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        None
    }

    /// Wakes a suspended guest.
    ///
    /// # Errors
    /// By default, QEMU's answer of a machine that cannot be woken.
    fn wakeup(&self) -> impl Future<Output = CommandResult<()>> + Send {
        async { Err(CommandError::generic("wake-up from suspend is not supported by this guest")) }
    }

    /// Initialises the machine: `x-exit-preconfig` on a plane that was built with
    /// [`preconfig`](crate::Builder::preconfig). The plane then lets the guest run, unless it is to start paused.
    ///
    /// # Errors
    /// Whatever keeps the machine from being; the client sees it and may try again.
    fn initialize(&self) -> impl Future<Output = CommandResult<()>> + Send {
        async { Ok(()) }
    }

    /// Pauses the guest. Called whatever the state is, and succeeds when there is nothing to do. While a migration
    /// comes in, it asks that the guest stay paused when that ends.
    ///
    /// # Errors
    /// Whatever keeps the machine from stopping; the client sees it.
    fn stop(&self) -> impl Future<Output = CommandResult<()>> + Send;

    /// Lets the guest run (on). Not called when the guest runs already, nor when it needs a reset first.
    ///
    /// # Errors
    /// Whatever keeps the machine from going on; the client sees it.
    fn cont(&self) -> impl Future<Output = CommandResult<()>> + Send;

    /// Resets the machine. The guest runs on, or stays stopped.
    ///
    /// # Errors
    /// By default, that the machine cannot be reset.
    fn reset(&self) -> impl Future<Output = CommandResult<()>> + Send {
        async { Err(CommandError::generic("this machine cannot be reset")) }
    }

    /// The guest has shut down, or was reset where that ends it, and the machine stays
    /// ([`no_shutdown`](crate::Builder::no_shutdown)): stops it until it is reset.
    ///
    /// # Errors
    /// Those of [`stop`](Self::stop), which is what happens by default.
    fn shut_down(&self) -> impl Future<Output = CommandResult<()>> + Send {
        self.stop()
    }

    /// Presses the power button: the guest may react to it, or not.
    ///
    /// # Errors
    /// By default none: nothing reacts.
    fn powerdown(&self) -> impl Future<Output = CommandResult<()>> + Send {
        async { Ok(()) }
    }
}

/// A machine that has nothing but a run state: QEMU's `-machine none`. It is what tests and tools without a guest need.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use vmm_control::{ControlPlane, RunState, RunStateCell};
///
/// let machine = Arc::new(RunStateCell::new(RunState::Running));
/// let plane = ControlPlane::builder(machine.clone()).build()?;
/// plane.connect().call("stop", &()).await?;
/// assert_eq!(machine.get(), RunState::Paused);
/// # Ok(())
/// # }
/// ```
impl Machine for RunStateCell {
    fn run_state(&self) -> RunState {
        self.get()
    }

    async fn stop(&self) -> CommandResult<()> {
        self.stop();
        Ok(())
    }

    async fn cont(&self) -> CommandResult<()> {
        self.cont();
        Ok(())
    }

    async fn reset(&self) -> CommandResult<()> {
        self.reset();
        Ok(())
    }

    async fn shut_down(&self) -> CommandResult<()> {
        self.shut_down();
        Ok(())
    }
}

/// For those who keep a hand on their machine: the same machine.
impl<M: Machine> Machine for Arc<M> {
    fn name(&self) -> Option<String> {
        (**self).name()
    }

    fn run_state(&self) -> RunState {
        (**self).run_state()
    }

    fn machine_type(&self) -> &str {
        (**self).machine_type()
    }

    fn uuid(&self) -> [u8; 16] {
        (**self).uuid()
    }

    fn target(&self) -> Target {
        (**self).target()
    }

    fn kvm(&self) -> Kvm {
        (**self).kvm()
    }

    fn vcpus(&self) -> Vec<Vcpu> {
        (**self).vcpus()
    }

    fn status_note(&self) -> Option<String> {
        (**self).status_note()
    }

    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        (**self).io_ports()
    }

    fn wakeup(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::wakeup(self)
    }

    fn initialize(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::initialize(self)
    }

    fn stop(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::stop(self)
    }

    fn cont(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::cont(self)
    }

    fn reset(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::reset(self)
    }

    fn shut_down(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::shut_down(self)
    }

    fn powerdown(&self) -> impl Future<Output = CommandResult<()>> + Send {
        M::powerdown(self)
    }
}

type Done<'a> = Pin<Box<dyn Future<Output = CommandResult<()>> + Send + 'a>>;

/// A [`Machine`] whose type is forgotten.
pub(crate) trait AnyMachine: Send + Sync + 'static {
    fn name(&self) -> Option<String>;
    fn run_state(&self) -> RunState;
    fn machine_type(&self) -> &str;
    fn uuid(&self) -> [u8; 16];
    fn target(&self) -> Target;
    fn kvm(&self) -> Kvm;
    fn vcpus(&self) -> Vec<Vcpu>;
    #[cfg(feature = "hmp")]
    fn status_note(&self) -> Option<String>;
    #[cfg(feature = "hmp")]
    fn io_ports(&self) -> Option<Arc<dyn IoPorts>>;
    fn wakeup(&self) -> Done<'_>;
    fn initialize(&self) -> Done<'_>;
    fn stop(&self) -> Done<'_>;
    fn cont(&self) -> Done<'_>;
    fn reset(&self) -> Done<'_>;
    fn shut_down(&self) -> Done<'_>;
    fn powerdown(&self) -> Done<'_>;
}

impl<M: Machine> AnyMachine for M {
    fn name(&self) -> Option<String> {
        Machine::name(self)
    }

    fn run_state(&self) -> RunState {
        Machine::run_state(self)
    }

    fn machine_type(&self) -> &str {
        Machine::machine_type(self)
    }

    fn uuid(&self) -> [u8; 16] {
        Machine::uuid(self)
    }

    fn target(&self) -> Target {
        Machine::target(self)
    }

    fn kvm(&self) -> Kvm {
        Machine::kvm(self)
    }

    fn vcpus(&self) -> Vec<Vcpu> {
        Machine::vcpus(self)
    }

    #[cfg(feature = "hmp")]
    fn status_note(&self) -> Option<String> {
        Machine::status_note(self)
    }

    #[cfg(feature = "hmp")]
    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        Machine::io_ports(self)
    }

    fn wakeup(&self) -> Done<'_> {
        Box::pin(Machine::wakeup(self))
    }

    fn initialize(&self) -> Done<'_> {
        Box::pin(Machine::initialize(self))
    }

    fn stop(&self) -> Done<'_> {
        Box::pin(Machine::stop(self))
    }

    fn cont(&self) -> Done<'_> {
        Box::pin(Machine::cont(self))
    }

    fn reset(&self) -> Done<'_> {
        Box::pin(Machine::reset(self))
    }

    fn shut_down(&self) -> Done<'_> {
        Box::pin(Machine::shut_down(self))
    }

    fn powerdown(&self) -> Done<'_> {
        Box::pin(Machine::powerdown(self))
    }
}
