//! What an author implements, and what they are given to do it with.

mod core;
mod cx;
mod endpoint;
mod timers;
mod transfer;
mod watches;

use std::any::Any;

pub(crate) use self::core::{Completion, Completions};
pub use cx::DeviceContext;
pub(crate) use endpoint::PciEndpoint;
pub(crate) use transfer::{Messenger, deadline};

use crate::Errno;
use crate::dma::DmaError;
use crate::pci::PciSpec;

/// A PCI device, exported to one client at a time.
///
/// All methods are called on one thread, one at a time and never from inside one another: a device is `Send` and needs
/// no lock. They must not block: whoever waits is every client of the same iothread. What takes long is cut into turns
/// ([`DeviceContext::work_later`]), done at a time ([`DeviceContext::set_timer`]), or done elsewhere and brought back
/// through a [handle](DeviceContext::handle).
///
/// An access is answered when its method returns, unless that has called [`DeviceContext::defer`].
pub trait PciDevice: Any + Send {
    /// What the device shows of itself. Called once, when it is exported.
    fn spec(&self) -> PciSpec;

    /// Reads registers of a BAR. `data` is zeroed; `offset + data.len()` is within the BAR. Not called for parts of a BAR
    /// that are memory or MSI-X tables.
    ///
    /// # Errors
    /// What the client is told.
    fn read(
        &mut self,
        cx: &mut DeviceContext<'_>,
        bar: u8,
        offset: u64,
        data: &mut [u8],
    ) -> Result<(), Errno>;

    /// Writes registers of a BAR.
    ///
    /// # Errors
    /// What the client is told, unless it wants no reply.
    fn write(&mut self, cx: &mut DeviceContext<'_>, bar: u8, offset: u64, data: &[u8]) -> Result<(), Errno>;

    /// The client has written to configuration space, which has changed as its masks allow.
    fn config_written(&mut self, cx: &mut DeviceContext<'_>, offset: u16, length: u16) {
        let _ = (cx, offset, length);
    }

    /// Back to the state after power-on. Configuration space, memory BARs' contents aside, has been reset already; what
    /// was deferred is to be completed or failed by the device; timers and work are cancelled.
    fn reset(&mut self, cx: &mut DeviceContext<'_>);

    /// A client has negotiated.
    fn attached(&mut self, cx: &mut DeviceContext<'_>) {
        let _ = cx;
    }

    /// The client has gone. Its memory and interrupts are gone already; so are deferred accesses, DMA that was under way
    /// (nothing is told of either), work and timers, except those that were set with
    /// [`DeviceContext::set_lasting_timer`]. The device's state stays for the next client.
    fn hangup(&mut self, cx: &mut DeviceContext<'_>) {
        let _ = cx;
    }

    /// A timer is due.
    fn timer(&mut self, cx: &mut DeviceContext<'_>, tag: u64) {
        let _ = (cx, tag);
    }

    /// It is the turn of work that was put off.
    fn work(&mut self, cx: &mut DeviceContext<'_>, tag: u64) {
        let _ = (cx, tag);
    }

    /// DMA has ended that was begun with [`DeviceContext::start_dma_read`] or [`DeviceContext::start_dma_write`].
    fn dma_done(&mut self, cx: &mut DeviceContext<'_>, done: DmaDone) {
        let _ = (cx, done);
    }

    /// A descriptor is ready that was given to [`DeviceContext::watch`].
    fn fd_ready(&mut self, cx: &mut DeviceContext<'_>, tag: u64) {
        let _ = (cx, tag);
    }

    /// A doorbell's eventfd was signalled, `count` times since the last call.
    fn doorbell(&mut self, cx: &mut DeviceContext<'_>, tag: u64, count: u64) {
        let _ = (cx, tag, count);
    }
}

/// DMA that has ended.
#[derive(Debug)]
pub struct DmaDone {
    /// As it was given.
    pub tag: u64,
    /// Whether all of it was done. After an error of a write, some may have been.
    pub result: Result<(), DmaError>,
    /// The buffer that was given; after a successful read it holds the data.
    pub buffer: Vec<u8>,
}
