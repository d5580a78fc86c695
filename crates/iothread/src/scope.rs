//! The iothread as code that runs on it sees it.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::event_loop::{EventLoop, Running};
use crate::handler::{Handler, Ready};
use crate::handlers::Entry;
use crate::timers::TimerFn;
use crate::{Error, Events, Handle, HandlerId, Interest, TimerId};

/// Passed to every handler, timer and closure: changes made through it take effect at once, without a lock.
///
/// A [`Handle`] used on the iothread itself does the same by way of the inbox, and its changes take effect before the
/// next call of anything.
pub struct Scope<'a> {
    pub(crate) event_loop: &'a mut EventLoop,
}

impl Scope<'_> {
    /// A handle to this iothread.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.event_loop.shared))
    }

    /// The handler that is being called, if it is one.
    #[must_use]
    pub fn current_handler(&self) -> Option<HandlerId> {
        match self.event_loop.running {
            Some(Running::Handler(id)) => Some(id),
            _ => None,
        }
    }

    /// The timer that is being called, if it is one.
    #[must_use]
    pub fn current_timer(&self) -> Option<TimerId> {
        match self.event_loop.running {
            Some(Running::Timer(id)) => Some(id),
            _ => None,
        }
    }

    /// As [`Handle::add_handler`].
    ///
    /// # Errors
    /// [`Error::Watch`].
    pub fn add_handler<F, H>(&mut self, source: F, interest: Interest, handler: H) -> Result<HandlerId, Error>
    where
        F: AsFd + Send + 'static,
        H: FnMut(Events, &mut Scope<'_>) + Send + 'static,
    {
        self.insert_handler(Entry::new(source, interest, false, Ready(handler)))
    }

    /// As [`Handle::add_polled`].
    ///
    /// # Errors
    /// [`Error::Watch`].
    pub fn add_polled<F, H>(&mut self, source: F, interest: Interest, handler: H) -> Result<HandlerId, Error>
    where
        F: AsFd + Send + 'static,
        H: Handler + 'static,
    {
        self.insert_handler(Entry::new(source, interest, true, handler))
    }

    /// Removes a handler, which may be the one that is being called: it and its descriptor are then dropped when the
    /// call returns. Unknown ids are ignored.
    pub fn remove_handler(&mut self, id: HandlerId) {
        self.event_loop.apply_messages();
        self.event_loop.remove_handler(id, None);
    }

    /// Changes what a handler is called for. Unknown ids are ignored.
    pub fn modify_handler(&mut self, id: HandlerId, interest: Interest) {
        self.event_loop.apply_messages();
        self.event_loop.modify_handler(id, interest);
    }

    /// Removes the handler that is being called, if it is one, as [`Scope::remove_handler`] does.
    pub fn remove_current(&mut self) {
        if let Some(id) = self.current_handler() {
            self.remove_handler(id);
        }
    }

    /// Changes what the handler that is being called is called for, if it is one.
    pub fn modify_current(&mut self, interest: Interest) {
        if let Some(id) = self.current_handler() {
            self.modify_handler(id, interest);
        }
    }

    /// Has the handler that is being called called for a second descriptor too, in the place of the one that it has. Which
    /// of the two is ready it finds out by itself. The iothread owns `source`, as with [`Handle::add_handler`].
    ///
    /// For a handler whose own descriptor stands for several things, an epoll instance for example: that something in
    /// such a one is ready is told 1 us later than of a descriptor that is watched by itself, so what matters most is
    /// watched so.
    ///
    /// # Errors
    /// [`Error::Watch`]; the handler has no second descriptor then. `EINVAL` outside a handler's call.
    pub fn watch_second<F>(&mut self, source: F, interest: Interest) -> Result<(), Error>
    where
        F: AsFd + Send + 'static,
    {
        let id = self.current_handler().ok_or_else(|| Error::Watch(Errno::INVAL.into()))?;
        let event_loop = &mut *self.event_loop;
        event_loop
            .handlers
            .set_second(&event_loop.shared.epoll, id, Some((Box::new(source), interest)))
            .map_err(|error| Error::Watch(error.into()))
    }

    /// Changes what the second descriptor of the handler that is being called is watched for. Ignored if it has none.
    pub fn modify_second(&mut self, interest: Interest) {
        if let Some(id) = self.current_handler() {
            let event_loop = &mut *self.event_loop;
            event_loop.handlers.modify_second(&event_loop.shared.epoll, id, interest);
        }
    }

    /// Lets go of the second descriptor of the handler that is being called. Ignored if it has none.
    pub fn unwatch_second(&mut self) {
        if let Some(id) = self.current_handler() {
            let event_loop = &mut *self.event_loop;
            // Only adding one fails.
            let _ = event_loop.handlers.set_second(&event_loop.shared.epoll, id, None);
        }
    }

    /// As [`Handle::add_timer`].
    pub fn add_timer(&mut self, due: Instant, call: impl FnOnce(&mut Scope<'_>) + Send + 'static) -> TimerId {
        self.insert_timer(due, TimerFn::Once(Box::new(call)))
    }

    /// As [`Handle::add_periodic_timer`].
    pub fn add_periodic_timer(
        &mut self,
        first: Instant,
        interval: Duration,
        call: impl FnMut(&mut Scope<'_>) + Send + 'static,
    ) -> TimerId {
        self.insert_timer(first, TimerFn::Every(interval, Box::new(call)))
    }

    /// Cancels a timer, which may be the one that is being called. Unknown ids are ignored.
    pub fn cancel_timer(&mut self, id: TimerId) {
        self.event_loop.apply_messages();
        self.event_loop.cancel_timer(id, None);
    }

    /// Runs a closure in a later turn of the loop, after the closures that wait already.
    pub fn run(&mut self, closure: impl FnOnce(&mut Scope<'_>) + Send + 'static) {
        self.event_loop.apply_messages();
        self.event_loop.closures.push_back(Box::new(closure));
    }

    fn insert_handler(&mut self, entry: Entry) -> Result<HandlerId, Error> {
        let shared = &self.event_loop.shared;
        entry.register(&shared.epoll).map_err(|error| Error::Watch(error.into()))?;
        let id = HandlerId(shared.next_id());
        self.event_loop.add_handler(id, entry);
        Ok(id)
    }

    fn insert_timer(&mut self, due: Instant, call: TimerFn) -> TimerId {
        let id = TimerId(self.event_loop.shared.next_id());
        self.event_loop.timers.insert(id, due, call);
        id
    }
}

impl fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope").field("running", &self.event_loop.running).finish_non_exhaustive()
    }
}
