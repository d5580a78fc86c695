//! A session without a socket, for the process itself.

use std::fmt;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use qmp_command::policy::Policy;
use qmp_command::{Context, PendingFds};
use qmp_protocol::{Error, Event, Payload, Value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::Core;
use crate::events::{WakeHandle, Watched};
use crate::session::{Mode, QmpSession};

/// A session of the process's own: commands without bytes in between, through the same stacks as any client's.
///
/// It has negotiated. Requests run when they are made, so several may run at once. Events wait for it from the first
/// call of [`next_event`](Self::next_event), [`try_next_event`](Self::try_next_event) or [`watch`](Self::watch) on. As
/// many may wait as for a client's session ([`SessionLimits::events`](crate::SessionLimits::events)); of more, all that wait are lost,
/// [`lost_events`](Self::lost_events) counts them, and the next call waits for new ones.
pub struct LocalSession {
    core: Arc<Core>,
    state: Arc<QmpSession>,
    /// Only when it wants events.
    events: Option<Arc<Watched>>,
    wake: WakeHandle,
}

/// Why a request of a [`LocalSession`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalError {
    /// The command failed, as a client would see it.
    #[error(transparent)]
    Command(#[from] Error),
    /// The arguments are not an object, or do not serialize.
    #[error("the arguments cannot be sent: {0}")]
    Arguments(String),
    /// The runtime that the command ran on is shutting down.
    #[error("the runtime is shutting down")]
    Closed,
    /// What the command returned is not of the type that was asked for.
    #[error("the return value does not fit: {0}")]
    Return(#[from] serde_json::Error),
}

impl LocalSession {
    /// A session of `core`, on a monitor called `monitor` in logs.
    pub fn new(core: Arc<Core>, monitor: &str) -> Self {
        Self::with_policy(core, monitor, Policy::UNRESTRICTED)
    }

    /// The same, which may do only what `policy` allows.
    pub fn with_policy(core: Arc<Core>, monitor: &str, policy: Policy) -> Self {
        let state = QmpSession::new(monitor.into(), None, Mode::InBand, None, policy);
        Self { events: None, wake: core.events.sleeper(), core, state: Arc::new(state) }
    }

    /// What handlers see of it.
    pub fn state(&self) -> &QmpSession {
        &self.state
    }

    /// Executes a command; `()` for no arguments.
    ///
    /// # Errors
    /// The command's, or one of types.
    ///
    /// Cancel-safety: the command goes on when the future is dropped; only its result is lost.
    pub async fn execute<A, R>(&self, command: &str, arguments: &A) -> Result<R, LocalError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let payload = self.payload(command, arguments, Vec::new()).await?;
        Ok(serde_json::from_slice(payload.as_bytes())?)
    }

    /// Executes a command that returns nothing of interest.
    ///
    /// # Errors
    /// As [`execute`](Self::execute), whose cancel-safety it shares.
    pub async fn call<A>(&self, command: &str, arguments: &A) -> Result<(), LocalError>
    where
        A: Serialize + ?Sized,
    {
        self.payload(command, arguments, Vec::new()).await.map(drop)
    }

    /// Executes a command that takes an fd, the first of `fds`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub async fn execute_with_fds<A, R>(
        &self,
        command: &str,
        arguments: &A,
        fds: Vec<OwnedFd>,
    ) -> Result<R, LocalError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let payload = self.payload(command, arguments, fds).await?;
        Ok(serde_json::from_slice(payload.as_bytes())?)
    }

    async fn payload<A>(&self, command: &str, arguments: &A, fds: Vec<OwnedFd>) -> Result<Payload, LocalError>
    where
        A: Serialize + ?Sized,
    {
        let arguments = match to_value(arguments).map_err(|e| LocalError::Arguments(e.to_string()))? {
            Value::Null => None,
            Value::Object(arguments) => Some(arguments),
            _ => return Err(LocalError::Arguments("they must be an object".to_owned())),
        };
        let context = Context::new(self.state.clone()).with_fds(PendingFds::new(fds));
        let (router, command) = (self.core.router.clone(), command.to_owned());
        // A task of its own: whoever stops waiting for the reply does not stop the handler.
        let task = self.core.runtime.spawn(async move { router.call(&command, arguments, context).await });
        let outcome = task.await.map_err(|_| LocalError::Closed)?;
        self.state.count(outcome.is_ok());
        Ok(outcome?)
    }

    /// Has events wait from now on, if they do not already.
    pub fn watch(&mut self) {
        let _ = self.watched();
    }

    fn watched(&mut self) -> Arc<Watched> {
        self.events.get_or_insert_with(|| Watched::new(&self.core.events)).clone()
    }

    /// Events that were lost so far, because nobody asked for them and too many waited. Those that the session would not have got
    /// are among them; those that were raised after that and before the next call are not.
    pub fn lost_events(&self) -> u64 {
        self.events.as_ref().map_or(0, |events| events.lost())
    }

    /// The next event; `None` when the plane has closed and there is none left.
    ///
    /// Cancel-safe.
    pub async fn next_event(&mut self) -> Option<Event> {
        let events = self.watched();
        std::future::poll_fn(|cx| {
            self.wake.register(cx.waker());
            let closing = self.core.events.is_closing();
            let next = events.next(|raised| {
                let wanted = !raised.is_extension() || self.state.wants_extension(raised.name());
                wanted.then(|| raised.event().clone())
            });
            if next.is_some() || closing { Poll::Ready(next) } else { Poll::Pending }
        })
        .await
    }

    /// An event that is there already.
    pub fn try_next_event(&mut self) -> Option<Event> {
        let mut next = pin!(self.next_event());
        match next.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            Poll::Ready(event) => event,
            Poll::Pending => None,
        }
    }
}

impl fmt::Debug for LocalSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSession").field("state", &self.state).finish_non_exhaustive()
    }
}
