//! The answer to a call, given later.

use std::fmt;

use qmp_command::CommandResult;
use tokio::sync::oneshot;

/// Answers a call, from any thread, whenever that is. Until then its command runs, and if that is one of those that run
/// alone, others of that kind wait. One that is dropped answers with an error.
///
/// Events that a thread has raised before it completes a call precede the command's reply, on every session.
#[must_use = "a completion that is dropped answers with an error"]
pub struct Completion<T>(oneshot::Sender<CommandResult<T>>);

impl<T> Completion<T> {
    pub(super) fn new() -> (Self, oneshot::Receiver<CommandResult<T>>) {
        let (sender, answer) = oneshot::channel();
        (Self(sender), answer)
    }

    /// Gives the answer. Never waits, and needs no runtime. What the machine's facts are by now must have been
    /// [published](super::LoopHandle::publish) before.
    ///
    /// Nobody need be there any more: then it does nothing.
    pub fn complete(self, result: CommandResult<T>) {
        let _ = self.0.send(result);
    }
}

impl<T> fmt::Debug for Completion<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("is_awaited", &!self.0.is_closed()).finish()
    }
}
