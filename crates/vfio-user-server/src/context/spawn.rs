//! A context on an iothread.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use iothread::{Events, HandlerId, Interest, Scope};

use super::connection::Stream;
use super::{Context, Event, Handle, State};
use crate::PciDevice;

/// Where the device goes when its context does.
type Slot = Arc<Mutex<Option<Box<dyn PciDevice>>>>;

/// The context as the iothread's handler.
///
/// The client's socket is watched by the iothread itself, beside the context's descriptor: readiness inside that one is
/// told 1 us later.
struct Polled {
    /// Taken when dropped.
    context: Option<Context>,
    slot: Slot,
    /// The socket that the iothread watches, and what for.
    watched: Option<(Arc<Stream>, (bool, bool))>,
}

fn interest((read, write): (bool, bool)) -> Interest {
    match (read, write) {
        (false, false) => Interest::NONE,
        (true, false) => Interest::READ,
        (false, true) => Interest::WRITE,
        (true, true) => Interest::READ_WRITE,
    }
}

impl Polled {
    /// Has the iothread watch what the context wants watched, after a turn. Quick if nothing has changed.
    fn sync(&mut self, scope: &mut Scope<'_>) {
        let Some(context) = &mut self.context else { return };
        let wanted = context.connection_source();
        match (&mut self.watched, wanted) {
            (None, None) => {}
            (Some((stream, now)), Some((other, wanted))) if Arc::ptr_eq(stream, other) => {
                if *now != wanted {
                    *now = wanted;
                    scope.modify_second(interest(wanted));
                }
            }
            (watched, Some((stream, wanted))) => {
                let stream = Arc::clone(stream);
                if let Err(error) = scope.watch_second(Source(Arc::clone(&stream)), interest(wanted)) {
                    context.refuse_connection(&format!("it cannot be watched: {error}"));
                    *watched = None;
                } else {
                    *watched = Some((stream, wanted));
                }
            }
            (watched, None) => {
                scope.unwatch_second();
                *watched = None;
            }
        }
    }
}

/// A descriptor that the iothread watches and the context has, too.
struct Source<T>(Arc<T>);

impl<T: AsFd> AsFd for Source<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl iothread::Handler for Polled {
    fn ready(&mut self, events: Events, scope: &mut Scope<'_>) {
        if let Some(context) = &mut self.context {
            context.hung_up = events.hangup() || events.error();
            context.turn();
            self.sync(scope);
        }
    }

    fn poll(&mut self, scope: &mut Scope<'_>) -> bool {
        let worked = self.context.as_mut().is_some_and(Context::poll);
        if worked {
            self.sync(scope);
        }
        worked
    }
}

impl Drop for Polled {
    /// On the iothread: its handler was removed, or the device has panicked.
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else { return };
        if context.device_has_panicked() {
            let reason = "the device has panicked".to_owned();
            // Not by the connection, which has gone already if it was the hang-up that the device could not stand.
            let served = context.state() == State::Serving;
            context.shared.set_state(State::Ended);
            let event = if served { Event::Hangup { reason, ended: true } } else { Event::Ended { reason } };
            (context.settings.on_event)(event);
        }
        *self.slot.lock().unwrap_or_else(PoisonError::into_inner) = context.into_device();
    }
}

impl Context {
    /// Hands the context to an iothread, which polls it from now on.
    ///
    /// # Errors
    /// Those of [`iothread::Handle::add_polled`]; the context is dropped then, and with it the device.
    pub fn spawn(self, iothread: &iothread::Handle) -> Result<Exported, iothread::Error> {
        self.spawn_or_return(iothread).map_err(|(error, _)| error)
    }

    /// The same, but the device comes back with the error; `None` if it has panicked, or is an adapted one.
    ///
    /// # Errors
    /// Those of [`iothread::Handle::add_polled`].
    pub fn spawn_or_return(
        mut self,
        iothread: &iothread::Handle,
    ) -> Result<Exported, (iothread::Error, Option<Box<dyn PciDevice>>)> {
        self.watch_connection_elsewhere();
        let handle = self.handle();
        let source = Source(Arc::clone(&self.poller));
        let slot = Slot::default();
        let polled = Polled { context: Some(self), slot: Arc::clone(&slot), watched: None };
        let handler = match iothread.add_polled(source, Interest::READ, polled) {
            Ok(handler) => handler,
            Err(error) => {
                let device = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
                return Err((error, device));
            }
        };
        Ok(Exported { handle, iothread: iothread.clone(), handler: Some(handler), slot })
    }
}

/// A context that an iothread polls. Its drop stops it, and waits for a call of the device that is going on.
pub struct Exported {
    handle: Handle,
    iothread: iothread::Handle,
    /// Taken when it is removed.
    handler: Option<HandlerId>,
    slot: Slot,
}

impl Exported {
    /// A handle to the context.
    #[must_use]
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Stops it: the client is let go, the socket closed and its file unlinked. Gives the device back, `None` if it has
    /// panicked. Waits for a call of the device that is going on; not to be called on the iothread, nor on a runtime's
    /// worker.
    #[must_use]
    pub fn finish(mut self) -> Option<Box<dyn PciDevice>> {
        self.stop();
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Exported {
    fn stop(&mut self) {
        if let Some(handler) = self.handler.take() {
            self.iothread.remove_handler(handler);
        }
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        self.stop();
    }
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exported").field("handle", &self.handle).finish_non_exhaustive()
    }
}
