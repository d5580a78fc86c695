//! What a device's methods are given.

use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Instant;

use super::core::{Completion, Core};
use crate::Errno;
use crate::context::Handle;
use crate::dma::DmaError;
use crate::irq::Interrupts;
use crate::pci::{ConfigSpace, Handled};
use crate::protocol::{AccessToken, IrqIndex};

/// The surroundings of a device during a call of it: interrupts, the client's memory, configuration space, timers.
///
/// Nothing here blocks, and nothing calls the device: what follows from a call is told in a later one.
pub struct DeviceContext<'a> {
    pub(crate) core: &'a mut Core,
}

impl DeviceContext<'_> {
    /// The time at which this turn began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// Whether a client is there that has negotiated.
    #[must_use]
    pub fn attached(&self) -> bool {
        self.core.attached
    }

    /// A handle with which any thread raises interrupts and runs closures here.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.core.handle.clone()
    }

    /// Has the access that is going on answered later, by one of the three methods below; what `read` or `write` returns
    /// then does not matter, unless it is an error.
    ///
    /// Other accesses are served meanwhile; those of a client that wants no reply to this one wait.
    ///
    /// # Panics
    /// If no access is going on: outside [`PciDevice::read`](super::PciDevice::read) and
    /// [`PciDevice::write`](super::PciDevice::write).
    pub fn defer(&mut self) -> AccessToken {
        let Some(access) = &mut self.core.access else {
            panic!("no access is going on that could be deferred")
        };
        access.deferred = true;
        access.token
    }

    /// Completes a deferred read. `data` must be as long as the read; else it fails with `EIO`. The token of a client that
    /// has gone is ignored, as is one that was completed.
    pub fn complete_read(&mut self, token: AccessToken, data: &[u8]) {
        self.core.completed(token);
        self.core.completions.read(token, data);
    }

    /// Completes a deferred write, likewise.
    pub fn complete_write(&mut self, token: AccessToken) {
        self.core.completed(token);
        self.core.completions.list.push_back(Completion::Write(token));
    }

    /// Fails a deferred access, likewise.
    pub fn fail(&mut self, token: AccessToken, error: Errno) {
        self.core.completed(token);
        self.core.completions.list.push_back(Completion::Failed(token, error));
    }

    /// Whether the guest's driver uses MSI: the client has given it an eventfd.
    #[must_use]
    pub fn msi_enabled(&self) -> bool {
        self.irqs().enabled(IrqIndex::Msi)
    }

    /// The same for MSI-X.
    #[must_use]
    pub fn msix_enabled(&self) -> bool {
        self.irqs().enabled(IrqIndex::Msix)
    }

    /// Fires an MSI vector. One that the client has not set up is dropped; a masked one is kept until it is unmasked.
    pub fn raise_msi(&mut self, vector: u16) {
        self.core.irqs.raise(IrqIndex::Msi, vector.into());
    }

    /// Fires an MSI-X vector, likewise.
    pub fn raise_msix(&mut self, vector: u16) {
        self.core.irqs.raise(IrqIndex::Msix, vector.into());
    }

    /// Sets the level of the interrupt pin. While it is high the client is interrupted, again each time that its guest
    /// has served the interrupt. The status register shows it.
    pub fn set_intx(&mut self, high: bool) {
        self.core.config.show_interrupt(high);
        self.core.irqs.set_intx(high);
    }

    /// Tells the client that the device has met an error that it cannot recover from.
    pub fn raise_error(&mut self) {
        self.core.irqs.raise(IrqIndex::Err, 0);
    }

    /// Configuration space.
    #[must_use]
    pub fn config(&self) -> &ConfigSpace {
        &self.core.config
    }

    /// Configuration space, to be changed by the device.
    pub fn config_mut(&mut self) -> &mut ConfigSpace {
        &mut self.core.config
    }

    /// Reads a part of a BAR that is memory, wherever the client has it mapped as well.
    ///
    /// # Errors
    /// `EINVAL` if it is not memory, or not within the BAR.
    pub fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        memory(self.core.bars.read(bar, offset, data))
    }

    /// Writes it.
    ///
    /// # Errors
    /// `EINVAL` if it is not memory, or not within the BAR.
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        memory(self.core.bars.write(bar, offset, data))
    }

    /// Reads the client's memory at once.
    ///
    /// # Errors
    /// [`DmaError::NotLocal`] if a part of it is reached by messages only: [`start_dma_read`](Self::start_dma_read) reads
    /// it. Else what is wrong with the range, of which nothing was read, or [`DmaError::Gone`].
    pub fn dma_read(&mut self, iova: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.core.dma.read(iova, data)
    }

    /// Writes the client's memory at once.
    ///
    /// # Errors
    /// As for [`dma_read`](Self::dma_read); after [`DmaError::Gone`] a part may have been written.
    pub fn dma_write(&mut self, iova: u64, data: &[u8]) -> Result<(), DmaError> {
        self.core.dma.write(iova, data)
    }

    /// Fills `buffer` from the client's memory, whatever kind it is, and then calls
    /// [`PciDevice::dma_done`](super::PciDevice::dma_done) with `tag` and the buffer: in this turn if the memory is local,
    /// never from inside this call. A reset or a hang-up ends it without a word.
    pub fn start_dma_read(&mut self, iova: u64, buffer: Vec<u8>, tag: u64) {
        self.core.transfers.start(&self.core.dma, false, iova, buffer, tag);
    }

    /// Writes `buffer` to the client's memory, likewise.
    pub fn start_dma_write(&mut self, iova: u64, buffer: Vec<u8>, tag: u64) {
        self.core.transfers.start(&self.core.dma, true, iova, buffer, tag);
    }

    /// Calls [`PciDevice::timer`](super::PciDevice::timer) with `tag`, once, not before `due`. A tag has one timer: setting
    /// it again moves it. A reset or a hang-up cancels it.
    pub fn set_timer(&mut self, tag: u64, due: Instant) {
        self.core.timers.set(tag, due, false);
    }

    /// The same, but a hang-up does not cancel it.
    pub fn set_lasting_timer(&mut self, tag: u64, due: Instant) {
        self.core.timers.set(tag, due, true);
    }

    /// Cancels a timer.
    pub fn cancel_timer(&mut self, tag: u64) {
        self.core.timers.cancel(tag);
    }

    /// Calls [`PciDevice::work`](super::PciDevice::work) with `tag` in a later turn, after the thread's other devices had
    /// theirs: what takes long is cut up so. A reset or a hang-up cancels it.
    pub fn work_later(&mut self, tag: u64) {
        self.core.work.add(tag);
    }

    /// Calls [`PciDevice::fd_ready`](super::PciDevice::fd_ready) with `tag` as long as `fd` can be read, in the place of the
    /// descriptor that had this tag. Its file must be one that does not block.
    ///
    /// # Errors
    /// `EPERM` for a file that cannot be watched, `ENOSPC` or `ENOMEM` of the kernel's.
    pub fn watch(&mut self, fd: OwnedFd, tag: u64) -> Result<(), Errno> {
        self.core.watches.add(&self.core.poller, fd, tag)
    }

    /// Watches it no more.
    pub fn unwatch(&mut self, tag: u64) -> Option<OwnedFd> {
        self.core.watches.remove(&self.core.poller, tag)
    }

    fn irqs(&self) -> &Interrupts {
        &self.core.irqs
    }
}

/// Only memory is reached so: the device itself answers for its registers.
fn memory(handled: Result<Handled, Errno>) -> Result<(), Errno> {
    match handled? {
        Handled::All => Ok(()),
        Handled::None => Err(Errno::INVAL),
    }
}

impl fmt::Debug for DeviceContext<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceContext").field("attached", &self.core.attached).finish_non_exhaustive()
    }
}
