//! `x-vfio-user-server`: exports a PCI device to another process.
//!
//! The object borrows its device, listens on its socket, and has an iothread serve the client: one of its own, or one
//! that it is told. When a client that had negotiated goes, VFU_CLIENT_HANGUP is raised on the iothread; then the object
//! goes too, as a command would remove it, unless it is to reconnect. Whichever way it goes, the device goes back to
//! where it was borrowed, with the state that it has.

mod export;
mod properties;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmp_command::{CommandError, CommandResult, Context, apart};
use vfio_user_server::context::{Event, Handle};

pub use self::properties::{VfioUserDma, VfioUserServerProperties};

use self::export::{Export, Setup, Thread};
use crate::commands::{ClientHangup, power_off};
use crate::objects::pci::Slot;
use crate::objects::{Creation, Object, ObjectType, Objects};
use crate::plane::{PlaneHandle, Shared};
use crate::run_state::ShutdownCause;

/// The type's name.
const TYPE: &str = "x-vfio-user-server";

/// Tells one object from all others, those of the same id too.
type Mark = Arc<()>;

/// An export, as it stands in the object tree.
#[derive(Debug)]
pub struct VfioUserServer {
    id: String,
    properties: VfioUserServerProperties,
    mark: Mark,
    /// There from its completion until it is deleted.
    export: Arc<Mutex<Option<Export>>>,
    /// For what is done when it goes.
    plane: PlaneHandle,
}

/// The type.
pub(crate) fn vfio_user_server() -> ObjectType {
    ObjectType::new(TYPE, |creation: &Creation, properties: VfioUserServerProperties| {
        properties.check()?;
        Ok(VfioUserServer {
            id: creation.id.clone(),
            properties: properties.settle(),
            mark: Mark::default(),
            export: Arc::default(),
            plane: creation.plane.clone(),
        })
    })
    .doc("Exports a PCI device to another process over vfio-user.")
    .links("iothread", "iothread")
    .unstable()
}

impl Object for VfioUserServer {
    type Properties = VfioUserServerProperties;

    // They can be named, to be told that it is too late.
    const SETTABLE: &'static [&'static str] = &["socket", "device"];

    const WRITE_ONLY: &'static [&'static str] = &["socket", "device"];

    fn properties(&self) -> VfioUserServerProperties {
        self.properties.clone()
    }

    fn may_set(&self, name: &'static str) -> CommandResult<()> {
        // QEMU looks at a device's name before it complains.
        if name == "socket" { Err(busy()) } else { Ok(()) }
    }

    fn set(&self, _: &'static str, _: VfioUserServerProperties) -> CommandResult<()> {
        Err(busy())
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        let slot = find(creation.plane.objects(), &self.properties.device)?;
        let thread = match &self.properties.iothread {
            None => None,
            Some(id) => Some(
                creation
                    .plane
                    .iothreads()
                    .get(id)
                    .ok_or_else(|| CommandError::generic(format!("vfu: iothread '{id}' not found")))?,
            ),
        };
        let listen = self.properties.listen(&creation.context)?;
        let setup = Setup {
            id: self.id.clone(),
            slot: slot.clone(),
            thread,
            starter: creation.plane.threads().clone(),
            listen,
            properties: self.properties.clone(),
            on_event: Box::new(self.listener(creation, &slot)),
        };
        // It binds, and may start a thread.
        let started = apart(creation.plane.threads(), move || Export::start(setup)).await?;
        *self.lock() = Some(started);
        Ok(())
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        self.end().await?;
        shut_down_after_last(self.plane.shared());
        Ok(())
    }
}

impl VfioUserServer {
    /// Its properties, as they are in force.
    pub(crate) fn settings(&self) -> &VfioUserServerProperties {
        &self.properties
    }

    /// Looks at the export, if there is one.
    pub(crate) fn with_export<R>(&self, look: impl FnOnce(&Handle, &Thread) -> R) -> Option<R> {
        self.lock().as_ref().map(|export| look(export.handle(), export.thread()))
    }

    /// Stops serving, and gives the device back. It waits for the iothread; without a thread for that, it goes on as it is.
    async fn end(&self) -> CommandResult<()> {
        let export = self.export.clone();
        let end = move || {
            // Nobody else is kept waiting for the lock.
            let export = export.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(export);
            Ok(())
        };
        apart(self.plane.threads(), end).await
    }

    /// What is done on the iothread when something happens.
    fn listener(&self, creation: &Creation, slot: &Slot) -> impl FnMut(Event) + Send + 'static {
        let plane = Arc::downgrade(creation.plane.shared());
        let events = creation.plane.events();
        let data = ClientHangup {
            vfu_id: self.id.clone(),
            vfu_qom_path: creation.path.clone(),
            dev_id: slot.id().to_owned(),
            dev_qom_path: format!("/machine/peripheral/{}", slot.id()),
        };
        let (id, own_id, mark) = (self.id.clone(), self.id.clone(), self.mark.clone());
        // First of all its turn is taken: whoever answers the event with a command does not find the object any more. It does
        // not go before this call has ended, and so not before the event.
        let go = move || {
            if let Some(plane) = plane.upgrade() {
                delete_soon(&plane, &own_id, &mark);
            }
        };
        move |event| match event {
            Event::Attached(client) => {
                let (pid, uid) = client.map(|client| (client.pid, client.uid)).unzip();
                tracing::info!(id, pid, uid, "a client has attached");
            }
            Event::Hangup { reason, ended } => {
                tracing::info!(id, "the client has gone: {reason}");
                if ended {
                    go();
                }
                if let Err(error) = events.emit("VFU_CLIENT_HANGUP", &data) {
                    tracing::error!(%error, "VFU_CLIENT_HANGUP was not raised");
                }
            }
            Event::Ended { reason } => {
                tracing::warn!(id, "the export has ended: {reason}");
                go();
            }
            _ => {}
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Export>> {
        self.export.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The device of this id, if it is one that can be lent.
fn find(objects: &Objects, id: &str) -> CommandResult<Arc<Slot>> {
    let node = objects.find("/machine/peripheral").and_then(|parent| parent.child(id));
    let node = node.ok_or_else(|| CommandError::generic(format!("vfu: Device {id} not found")))?;
    let not_pci = || CommandError::generic(format!("vfu: {id} not a PCI device"));
    node.object.pci().cloned().ok_or_else(not_pci)
}

/// Removes the object whose client has gone, if it is still the same by then.
fn delete_soon(plane: &Arc<Shared>, id: &str, mark: &Mark) {
    let (objects, id, mark) = (plane.objects.downgrade(), id.to_owned(), mark.clone());
    let weak = Arc::downgrade(plane);
    plane.monitors.soon(async move {
        let Some(objects) = objects.upgrade() else { return };
        let Some(node) = objects.user_created_one(&id) else { return };
        let Ok(server) = node.object.clone().into_any().downcast::<VfioUserServer>() else { return };
        if !Arc::ptr_eq(&server.mark, &mark) {
            return;
        }
        if !node.begin_removal() {
            tracing::warn!(id, "it is in use, and stays without a client");
            return;
        }
        if let Err(error) = server.end().await {
            node.cancel_removal();
            tracing::error!(id, "the export does not end: {error}");
            return;
        }
        if let Ok(parent) = objects.objects() {
            parent.detach(&node);
        }
        if let Some(plane) = weak.upgrade() {
            shut_down_after_last(&plane);
        }
    });
}

/// Has the machine shut down, if it is to do so when the last export has gone, and this was it.
fn shut_down_after_last(plane: &Arc<Shared>) {
    if !plane.auto_shutdown {
        return;
    }
    let weak = Arc::downgrade(plane);
    // After whatever is going on: until then the object that goes is still there.
    plane.monitors.soon(async move {
        let Some(plane) = weak.upgrade() else { return };
        if plane.objects.user_created().iter().any(|node| node.type_name == TYPE) {
            return;
        }
        if let Err(error) = power_off(&plane, ShutdownCause::GuestShutdown).await {
            tracing::error!("the machine did not shut down: {error}");
        }
    });
}

fn busy() -> CommandError {
    CommandError::generic("vfu: Unable to set device property - server busy")
}
