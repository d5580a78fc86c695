//! The iothread as other threads see it.

use std::fmt;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::ack::{Ack, ack};
use crate::handler::{Handler, Ready};
use crate::handlers::Entry;
use crate::shared::{Message, Shared};
use crate::timers::TimerFn;
use crate::{Error, Events, HandlerId, Interest, Scope, TimerId};

/// Adds, removes and runs things on an iothread, from any thread. Cheap to clone; does not keep the thread running.
///
/// No call blocks but [`Handle::remove_handler`] and [`Handle::cancel_timer`] from another thread, which wait for a
/// call that is going on: whoever holds a lock that such a call may want, or runs on an iothread whose own calls may
/// be waited for in turn, must not wait so.
#[derive(Clone)]
pub struct Handle(pub(crate) Arc<Shared>);

impl Handle {
    /// Runs a closure on the thread. Closures of one caller run in the order in which they were given; those that
    /// have not run when the thread stops are dropped there.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn run(&self, closure: impl FnOnce(&mut Scope<'_>) + Send + 'static) -> Result<(), Error> {
        self.send(Message::Run(Box::new(closure)))
    }

    /// Has `handler` called on the thread whenever `source` is ready for what `interest` says.
    ///
    /// The iothread owns `source` from here on: an `OwnedFd`, a socket, or an `Arc` of one if the handler wants to use
    /// it too. It and the handler are dropped on the iothread. A handler that panics is removed.
    ///
    /// # Errors
    /// [`Error::Watch`] if epoll refuses the descriptor, [`Error::Stopped`].
    pub fn add_handler<F, H>(&self, source: F, interest: Interest, handler: H) -> Result<HandlerId, Error>
    where
        F: AsFd + Send + 'static,
        H: FnMut(Events, &mut Scope<'_>) + Send + 'static,
    {
        self.insert_handler(Entry::new(source, interest, false, Ready(handler)))
    }

    /// As [`Handle::add_handler`], for a handler with a hook, [`Handler::poll`]: where that pays, the thread calls the
    /// hook again and again for a while before it blocks, so that work which comes soon is found without a wake-up.
    ///
    /// # Errors
    /// [`Error::Watch`] if epoll refuses the descriptor, [`Error::Stopped`].
    pub fn add_polled<F, H>(&self, source: F, interest: Interest, handler: H) -> Result<HandlerId, Error>
    where
        F: AsFd + Send + 'static,
        H: Handler + 'static,
    {
        self.insert_handler(Entry::new(source, interest, true, handler))
    }

    /// Removes a handler. Once this returns it is never called again, and it has been dropped; a call that is going on
    /// is waited for. On the iothread itself this returns at once, and the handler is dropped before anything else
    /// is called. Unknown ids are ignored.
    pub fn remove_handler(&self, id: HandlerId) {
        self.send_and_wait(|ack| Message::RemoveHandler(id, ack));
    }

    /// Changes what a handler is called for, soon. Unknown ids are ignored.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn modify_handler(&self, id: HandlerId, interest: Interest) -> Result<(), Error> {
        self.send(Message::Modify(id, interest))
    }

    /// Calls `call` once, not before `due` and within about a millisecond of it if the thread is idle.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn add_timer(
        &self,
        due: Instant,
        call: impl FnOnce(&mut Scope<'_>) + Send + 'static,
    ) -> Result<TimerId, Error> {
        self.insert_timer(due, TimerFn::Once(Box::new(call)))
    }

    /// Calls `call` at `first` and then at every `interval` after it, until it is cancelled or panics. Times that were
    /// missed because the thread was busy are skipped, not made up for.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn add_periodic_timer(
        &self,
        first: Instant,
        interval: Duration,
        call: impl FnMut(&mut Scope<'_>) + Send + 'static,
    ) -> Result<TimerId, Error> {
        self.insert_timer(first, TimerFn::Every(interval, Box::new(call)))
    }

    /// Cancels a timer, with the promises of [`Handle::remove_handler`].
    pub fn cancel_timer(&self, id: TimerId) {
        self.send_and_wait(|ack| Message::CancelTimer(id, ack));
    }

    /// Makes the thread go round its loop once, now or after the call that is going on.
    pub fn wake(&self) {
        self.0.nudge();
    }

    /// Whether the caller runs on the iothread.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.0.on_thread()
    }

    fn insert_handler(&self, entry: Entry) -> Result<HandlerId, Error> {
        entry.register(&self.0.epoll).map_err(|error| Error::Watch(error.into()))?;
        let id = HandlerId(self.0.next_id());
        match self.0.send(Message::AddHandler(id, entry)) {
            Ok(()) => Ok(id),
            Err(message) => {
                if let Message::AddHandler(_, entry) = &message {
                    entry.unregister(&self.0.epoll);
                }
                Err(Error::Stopped)
            }
        }
    }

    fn insert_timer(&self, due: Instant, call: TimerFn) -> Result<TimerId, Error> {
        let id = TimerId(self.0.next_id());
        self.send(Message::AddTimer(id, due, call)).map(|()| id)
    }

    fn send(&self, message: Message) -> Result<(), Error> {
        self.0.send(message).map_err(|_| Error::Stopped)
    }

    /// A thread that has ended has dropped everything, so there is nothing to wait for then.
    fn send_and_wait(&self, message: impl FnOnce(Option<Ack>) -> Message) {
        if self.0.on_thread() {
            let _ = self.0.send(message(None));
        } else {
            let (ack, waiter) = ack();
            let _ = self.0.send(message(Some(ack)));
            waiter.wait();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("thread", &self.0.thread.get()).finish_non_exhaustive()
    }
}
