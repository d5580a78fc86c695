//! The loop, as other threads see it.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use qmp_command::{CommandError, CommandResult};

use super::completion::Completion;
use super::facts::MachineFacts;
use super::queue::{Call, MachineRequest, Shared, Task};
use super::wait::{block_on, drives_a_queue, is_planes};
use crate::hardware::{IoPorts, Kvm, Target, Vcpu};
use crate::machine::Machine;
use crate::run_state::RunState;

/// A loop that owns a machine's state `S`, as all others see it: a [`Machine`] for the plane, and a way to run something in the
/// loop. Clones are the same loop. `S` need not be `Send`: it stays where it is.
///
/// ```
/// use vmm_control::hosting::LoopHandle;
/// use vmm_control::{Command, CommandError, Context, QapiType};
///
/// struct Vmm {
///     balloon: u64,
/// }
///
/// /// How much memory the guest shall have.
/// #[derive(serde::Deserialize, QapiType)]
/// struct Balloon {
///     /// In bytes.
///     target: u64,
/// }
///
/// fn balloon(vmm: LoopHandle<Vmm>) -> Command {
///     Command::new("x-balloon").handler(move |_: Context, balloon: Balloon| {
///         vmm.run(move |vmm| {
///             vmm.balloon = balloon.target;
///             Ok(())
///         })
///     })
/// }
/// ```
pub struct LoopHandle<S> {
    shared: Arc<Shared<S>>,
}

impl<S> LoopHandle<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        Self { shared }
    }

    /// What the plane knows of the machine.
    pub fn facts(&self) -> Arc<MachineFacts> {
        self.shared.facts.get()
    }

    /// Changes what the plane knows of the machine: what it is told in one call it sees at once. It may be called from any thread,
    /// and must be before a call is completed that changes something. `change` must not publish anything itself.
    ///
    /// Events are not raised by this. Those of a command the plane raises, when it is completed, by what the state was before and
    /// is then; others the VMM raises itself.
    pub fn publish(&self, change: impl FnOnce(&mut MachineFacts)) {
        self.shared.facts.change(change);
    }

    async fn ask(&self, request: MachineRequest) -> CommandResult<()> {
        let (completion, answer) = Completion::new();
        // A call that comes back is dropped, which ends the wait.
        let _ = self.shared.push(Call::Machine(request, completion));
        answer.await.unwrap_or_else(|_| Err(self.shared.unanswered()))
    }
}

impl<S: 'static> LoopHandle<S> {
    /// Runs `task` in the loop and returns what it returns.
    ///
    /// # Errors
    /// The task's own, or that the loop has ended.
    ///
    /// Cancel-safety: a future that is dropped before it was polled, or while 1024 other tasks wait, does nothing; later the
    /// task runs all the same, and only its result is lost.
    pub fn run<T, F>(&self, task: F) -> impl Future<Output = CommandResult<T>> + Send + use<S, T, F>
    where
        F: FnOnce(&mut S) -> CommandResult<T> + Send + 'static,
        T: Send + 'static,
    {
        self.call(move |state, completion| completion.complete(task(state)))
    }

    /// Runs `task` in the loop, which answers when it likes, then or later, in the loop or elsewhere.
    ///
    /// # Errors
    /// What the completion is given, that it was dropped, or that the loop has ended.
    ///
    /// Cancel-safety: as [`run`](Self::run).
    pub fn call<T, F>(&self, task: F) -> impl Future<Output = CommandResult<T>> + Send + use<S, T, F>
    where
        F: FnOnce(&mut S, Completion<T>) + Send + 'static,
        T: Send + 'static,
    {
        let shared = self.shared.clone();
        async move {
            let (completion, answer) = Completion::new();
            // An error is the end of the loop.
            if let Ok(place) = shared.places.clone().acquire_owned().await {
                let _ = shared.push(Call::Task(Task::new(|state| task(state, completion), place)));
            } else {
                drop(completion);
            }
            answer.await.unwrap_or_else(|_| Err(shared.unanswered()))
        }
    }

    /// The same as [`run`](Self::run) for a thread that may block: a blocking handler, [`Object::set`](crate::Object::set).
    ///
    /// # Errors
    /// As [`run`](Self::run); on the thread that takes the calls, that it cannot wait for itself, and on a [`PlaneThread`](super::PlaneThread)'s
    /// own (an async handler), that its clients would wait too.
    pub fn blocking_run<T, F>(&self, task: F) -> CommandResult<T>
    where
        F: FnOnce(&mut S) -> CommandResult<T> + Send + 'static,
        T: Send + 'static,
    {
        if drives_a_queue() {
            return Err(CommandError::generic("The machine's loop cannot wait for itself"));
        }
        if is_planes() {
            return Err(CommandError::generic(
                "A plane's own thread cannot wait for the machine's loop: await it",
            ));
        }
        block_on(self.run(task))
    }
}

impl<S: 'static> Machine for LoopHandle<S> {
    fn name(&self) -> Option<String> {
        self.facts().name.clone()
    }

    fn run_state(&self) -> RunState {
        self.facts().run_state
    }

    fn machine_type(&self) -> &str {
        self.facts().machine_type
    }

    fn uuid(&self) -> [u8; 16] {
        self.facts().uuid
    }

    fn target(&self) -> Target {
        self.facts().target
    }

    fn kvm(&self) -> Kvm {
        self.facts().kvm
    }

    fn vcpus(&self) -> Vec<Vcpu> {
        self.facts().vcpus.clone()
    }

    fn status_note(&self) -> Option<String> {
        self.facts().status_note.clone()
    }

    fn io_ports(&self) -> Option<Arc<dyn IoPorts>> {
        self.facts().io_ports.clone()
    }

    async fn wakeup(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Wakeup).await
    }

    async fn initialize(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Initialize).await
    }

    async fn stop(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Stop).await
    }

    async fn cont(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Cont).await
    }

    async fn reset(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Reset).await
    }

    async fn shut_down(&self) -> CommandResult<()> {
        self.ask(MachineRequest::ShutDown).await
    }

    async fn powerdown(&self) -> CommandResult<()> {
        self.ask(MachineRequest::Powerdown).await
    }
}

impl<S> Clone for LoopHandle<S> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<S> fmt::Debug for LoopHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoopHandle").field("facts", &self.facts()).finish_non_exhaustive()
    }
}
