//! What a human command's handler gets, and what its session keeps.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use qmp_command::layers::authorize::log_refusal;
use qmp_command::{CommandError, CommandResult, Concurrency, Context, Router};
use qmp_monitor::QmpSession;
use qmp_protocol::{Format, Object, Value, to_value};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::shell::Human;

/// What a session of a human monitor remembers from line to line.
#[derive(Debug, Default)]
pub(crate) struct HumanSession {
    cpu: Mutex<Option<u32>>,
}

impl HumanSession {
    /// What the session remembers that `context` is of; nothing, when it is none of a monitor's.
    pub(crate) fn of(context: &Context) -> Arc<Self> {
        context.session::<QmpSession>().and_then(QmpSession::attached).unwrap_or_default()
    }

    pub(crate) fn choose_cpu(&self, index: u32) {
        *self.cpu.lock().unwrap_or_else(PoisonError::into_inner) = Some(index);
    }

    fn cpu(&self) -> Option<u32> {
        *self.cpu.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a line came from, and the plane as its user may use it. Cheap to clone.
#[derive(Clone)]
pub struct HumanContext {
    human: Arc<Human>,
    session: Arc<HumanSession>,
    context: Context,
    /// The line's command holds the permit.
    exclusive: bool,
    output: Arc<Mutex<String>>,
}

impl HumanContext {
    pub(super) fn new(human: Arc<Human>, context: Context, exclusive: bool) -> Self {
        let session = HumanSession::of(&context);
        Self { human, session, context, exclusive, output: Arc::default() }
    }

    /// Who sent the line.
    #[must_use]
    pub fn context(&self) -> &Context {
        &self.context
    }

    pub(super) fn human(&self) -> &Human {
        &self.human
    }

    /// Writes in front of what the handler returns, or of its error.
    pub fn print(&self, text: &str) {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).push_str(text);
    }

    pub(super) fn take_output(&self) -> String {
        std::mem::take(&mut *self.output.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The index of the CPU that this session's user has chosen with `cpu`, the first one if none; `None` without CPUs.
    #[must_use]
    pub fn cpu(&self) -> Option<u32> {
        let present = self.human.plane().machine.vcpus();
        let chosen = self.session.cpu().filter(|&index| present.iter().any(|cpu| cpu.index == index));
        chosen.or_else(|| present.first().map(|cpu| cpu.index))
    }

    /// Chooses a CPU for this session. `false` when there is none of this index; nothing has changed then.
    pub fn choose_cpu(&self, index: u32) -> bool {
        let present = self.human.has_cpu(index);
        if present {
            self.session.choose_cpu(index);
        }
        present
    }

    /// Calls a QMP command as the line's sender, and gives what it returns.
    ///
    /// # Errors
    /// The command's; or that arguments or return value do not fit, or that the plane is going.
    ///
    /// Cancel-safety: dropping the future drops the command where it is.
    pub async fn query<A, R>(&self, command: &str, arguments: &A) -> CommandResult<R>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let arguments = match to_value(arguments)? {
            Value::Null => None,
            Value::Object(arguments) => Some(arguments),
            _ => return Err(CommandError::generic("arguments must be an object")),
        };
        self.query_object(command, arguments).await
    }

    /// Calls a QMP command that returns nothing of interest.
    ///
    /// # Errors
    /// As [`query`](Self::query), whose cancel-safety it shares.
    pub async fn call<A>(&self, command: &str, arguments: &A) -> CommandResult<()>
    where
        A: Serialize + ?Sized,
    {
        self.query::<A, IgnoredAny>(command, arguments).await.map(drop)
    }

    async fn query_object<R>(&self, command: &str, arguments: Option<Object>) -> CommandResult<R>
    where
        R: DeserializeOwned,
    {
        let router = self.router()?;
        let would_wait = |concurrency| self.exclusive && concurrency == Concurrency::Exclusive;
        if router.metadata(command).is_some_and(|metadata| would_wait(metadata.concurrency)) {
            return Err(CommandError::generic(format!(
                "The command {command} cannot be used by an exclusive one"
            )));
        }
        let context = self.context.clone().with_format(Format::Compact);
        let payload = router.call(command, arguments, context).await?;
        Ok(serde_json::from_slice(payload.as_bytes())?)
    }

    /// The commands and their types.
    pub(super) fn router(&self) -> CommandResult<Arc<Router>> {
        let router = self.human.plane().router.get().and_then(std::sync::Weak::upgrade);
        router.ok_or_else(|| CommandError::generic("the control plane is closing"))
    }

    /// Whether the line's sender may use a QMP command, for who does the same without calling it.
    pub(super) fn permit(&self, command: &str) -> CommandResult<()> {
        let router = self.router()?;
        let Some(metadata) = router.metadata(command) else { return Ok(()) };
        let verdict = self.context.policy().check_command(metadata);
        verdict.inspect_err(|refusal| log_refusal(&self.context, refusal))
    }

    /// Whether the plane has a QMP command.
    pub(super) fn has(&self, command: &str) -> bool {
        self.router().is_ok_and(|router| router.metadata(command).is_some())
    }

    /// Whether the session's policy lets it use a QMP command.
    pub(super) fn is_permitted(&self, command: &str) -> bool {
        let Ok(router) = self.router() else { return false };
        let metadata = router.metadata(command);
        metadata.is_some_and(|metadata| self.context.policy().check_command(metadata).is_ok())
    }
}

impl fmt::Debug for HumanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanContext").field("context", &self.context).finish_non_exhaustive()
    }
}
