//! A session for threads without a runtime.

use std::os::fd::OwnedFd;
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use qmp_monitor::{LocalSession, QmpSession};
use qmp_protocol::Event;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wait::{HostingError, block_on, block_on_until, may_wait};

/// A session of the process's own whose calls wait for their replies: a [`LocalSession`] for threads without a runtime.
///
/// Clients of other sessions do not wait for it. From a blocking handler it can be used as from any other thread; only that
/// a handler which runs alone waits for ever for a command that does, too.
#[derive(Debug)]
pub struct BlockingSession {
    session: LocalSession,
    plane: ThreadId,
}

impl BlockingSession {
    pub(super) fn new(session: LocalSession, plane: ThreadId) -> Self {
        Self { session, plane }
    }

    /// What handlers see of it.
    pub fn state(&self) -> &QmpSession {
        self.session.state()
    }

    /// Executes a command and waits for what it returns; `()` for no arguments.
    ///
    /// # Errors
    /// The command's, or one of types; or that this thread must not wait, or the plane has ended.
    pub fn execute<A, R>(&self, command: &str, arguments: &A) -> Result<R, HostingError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        self.execute_with_fds(command, arguments, Vec::new())
    }

    /// Executes a command that returns nothing of interest, and waits until it has.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn call<A>(&self, command: &str, arguments: &A) -> Result<(), HostingError>
    where
        A: Serialize + ?Sized,
    {
        may_wait(self.plane)?;
        Ok(block_on(self.session.call(command, arguments))?)
    }

    /// Executes a command that takes an fd, the first of `fds`.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn execute_with_fds<A, R>(
        &self,
        command: &str,
        arguments: &A,
        fds: Vec<OwnedFd>,
    ) -> Result<R, HostingError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        may_wait(self.plane)?;
        Ok(block_on(self.session.execute_with_fds(command, arguments, fds))?)
    }

    /// Has events wait from now on, if they do not already. As many may wait as for a client's session
    /// ([`SessionLimits::events`](crate::SessionLimits::events)); of more, all that wait are lost,
    /// [`lost_events`](Self::lost_events) counts them, and the next call waits for new ones.
    pub fn watch(&mut self) {
        self.session.watch();
    }

    /// Events that were lost so far, because nobody asked for them and too many waited. Those that the session would not have got
    /// are among them; those that were raised after that and before the next call are not.
    pub fn lost_events(&self) -> u64 {
        self.session.lost_events()
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The plane has closed and there is none left, or this thread must not wait.
    pub fn next_event(&mut self) -> Result<Event, HostingError> {
        may_wait(self.plane)?;
        block_on(self.session.next_event()).ok_or(HostingError::Closed)
    }

    /// Waits for the next event, for as long as this; `None` when none has come.
    ///
    /// # Errors
    /// As [`next_event`](Self::next_event).
    pub fn next_event_timeout(&mut self, limit: Duration) -> Result<Option<Event>, HostingError> {
        may_wait(self.plane)?;
        let Some(deadline) = Instant::now().checked_add(limit) else { return self.next_event().map(Some) };
        match block_on_until(self.session.next_event(), deadline) {
            Some(event) => event.map(Some).ok_or(HostingError::Closed),
            None => Ok(None),
        }
    }

    /// An event that is there already. Never waits.
    pub fn try_next_event(&mut self) -> Option<Event> {
        self.session.try_next_event()
    }
}
