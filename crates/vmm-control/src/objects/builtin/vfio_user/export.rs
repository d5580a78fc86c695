//! A device that is being exported, from the moment it is borrowed until it is back.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use iothread::{IoThread, IoThreadRef};
use qmp_command::{CommandError, CommandResult};
use thread_start::Starter;
use vfio_user_server::PciDevice;
use vfio_user_server::context::{Context, Event, Exported, Handle, Listen};

use super::properties::{VfioUserServerProperties, not_created};
use crate::objects::pci::Slot;

/// The iothread that serves it.
#[derive(Debug)]
pub(crate) enum Thread {
    /// Its own, which goes with it.
    Own(Box<IoThread>),
    /// One that others may use too.
    Shared(IoThreadRef),
}

impl Deref for Thread {
    type Target = IoThread;

    fn deref(&self) -> &IoThread {
        match self {
            Self::Own(thread) => thread,
            Self::Shared(thread) => thread,
        }
    }
}

/// What an export is started with.
pub(super) struct Setup {
    pub(super) id: String,
    pub(super) slot: Arc<Slot>,
    /// `None`: one of its own.
    pub(super) thread: Option<IoThreadRef>,
    /// Starts that one.
    pub(super) starter: Starter,
    pub(super) listen: Listen,
    pub(super) properties: VfioUserServerProperties,
    pub(super) on_event: Box<dyn FnMut(Event) + Send>,
}

/// An export. Its drop stops serving, waits until the iothread has let go, and gives the device back; not to be done
/// where waiting matters.
pub(super) struct Export {
    /// `None` only while it is dropped.
    exported: Option<Exported>,
    handle: Handle,
    /// Before the thread: it is given back while that still runs.
    loan: Loan,
    thread: Thread,
}

/// The right to a device, which goes back when this is dropped.
struct Loan {
    slot: Arc<Slot>,
    device: Option<Box<dyn PciDevice>>,
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.slot.give_back(self.device.take());
    }
}

impl Export {
    /// Starts to serve. What fails leaves nothing behind. Blocks for moments.
    pub(super) fn start(setup: Setup) -> CommandResult<Self> {
        let Setup { id, slot, thread, starter, listen, properties, on_event } = setup;
        let thread = match thread {
            Some(thread) => Thread::Shared(thread),
            None => {
                Thread::Own(Box::new(IoThread::builder(format!("IO {id}")).starter(starter.clone()).start()?))
            }
        };
        let device = slot.lend(&id).map_err(|error| CommandError::generic(error.to_string()))?;
        let mut loan = Loan { slot, device: None };
        let mut builder = Context::builder(device)
            .dma(properties.dma.unwrap_or_default().into())
            .reconnect(properties.reconnect.unwrap_or(false))
            .on_event(on_event)
            .starter(starter);
        if let Some(uids) = properties.allowed_uids {
            builder = builder.allowed_uids(uids);
        }
        if let Some(gids) = properties.allowed_gids {
            builder = builder.allowed_gids(gids);
        }
        let context = match builder.listen(listen) {
            Ok(context) => context,
            Err((error, device)) => {
                loan.device = Some(device);
                return Err(not_created(error.io_error()));
            }
        };
        let exported = match context.spawn_or_return(&thread.handle()) {
            Ok(exported) => exported,
            Err((error, device)) => {
                loan.device = device;
                return Err(error.into());
            }
        };
        Ok(Self { handle: exported.handle().clone(), exported: Some(exported), loan, thread })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(super) fn thread(&self) -> &Thread {
        &self.thread
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.loan.device = self.exported.take().and_then(Exported::finish);
    }
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export")
            .field("slot", &self.loan.slot)
            .field("thread", &self.thread)
            .finish_non_exhaustive()
    }
}
