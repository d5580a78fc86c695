//! A context on an iothread.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use iothread::{Events, HandlerId, Interest, Scope};

use super::poller::Poller;
use super::{Context, Event, Handle};
use crate::PciDevice;

/// Where the device goes when its context does.
type Slot = Arc<Mutex<Option<Box<dyn PciDevice>>>>;

/// The context as the iothread's handler.
struct Polled {
    /// Taken when dropped.
    context: Option<Context>,
    slot: Slot,
}

/// The context's descriptor, for the iothread to watch.
struct Source(Arc<Poller>);

impl AsFd for Source {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl iothread::Handler for Polled {
    fn ready(&mut self, _: Events, _: &mut Scope<'_>) {
        if let Some(context) = &mut self.context {
            context.turn();
        }
    }

    fn poll(&mut self, _: &mut Scope<'_>) -> bool {
        self.context.as_mut().is_some_and(Context::poll)
    }
}

impl Drop for Polled {
    /// On the iothread: its handler was removed, or the device has panicked.
    fn drop(&mut self) {
        let Some(mut context) = self.context.take() else { return };
        if context.device_has_panicked() {
            (context.settings.on_event)(Event::Hangup("the device has panicked".to_owned()));
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
        let handle = self.handle();
        let source = Source(Arc::clone(&self.poller));
        let slot = Slot::default();
        let polled = Polled { context: Some(self), slot: Arc::clone(&slot) };
        let handler = iothread.add_polled(source, Interest::READ, polled)?;
        Ok(Exported { handle, iothread: iothread.clone(), handler, slot })
    }
}

/// A context that an iothread polls. Its drop stops it, and waits for a call of the device that is going on.
pub struct Exported {
    handle: Handle,
    iothread: iothread::Handle,
    handler: HandlerId,
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
    pub fn finish(self) -> Option<Box<dyn PciDevice>> {
        self.iothread.remove_handler(self.handler);
        self.slot.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Drop for Exported {
    fn drop(&mut self) {
        // Once more does no harm.
        self.iothread.remove_handler(self.handler);
    }
}

impl fmt::Debug for Exported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exported").field("handle", &self.handle).finish_non_exhaustive()
    }
}
