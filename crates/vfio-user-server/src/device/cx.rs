//! What a device's methods are given.

use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::time::Instant;

use crate::Errno;
use crate::dma::DmaError;
use crate::pci::ConfigSpace;
use crate::protocol::AccessToken;

/// The surroundings of a device during a call of it.
#[derive(Debug)]
pub struct DeviceContext<'a>(PhantomData<&'a mut ()>);

#[allow(clippy::unused_self, missing_docs, clippy::todo, unused_variables, clippy::missing_errors_doc)]
impl DeviceContext<'_> {
    /// The time of this turn.
    pub fn now(&self) -> Instant {
        todo!()
    }
    /// Whether a client is there.
    pub fn attached(&self) -> bool {
        todo!()
    }
    /// Answers the access that is going on later. To be called in `read` and `write` only, once.
    pub fn defer(&mut self) -> AccessToken {
        todo!()
    }
    /// Completes a deferred read; `data` must be as long as the access was. Unknown tokens (client gone) are ignored.
    pub fn complete_read(&mut self, token: AccessToken, data: &[u8]) {
        todo!()
    }
    pub fn complete_write(&mut self, token: AccessToken) {
        todo!()
    }
    pub fn fail(&mut self, token: AccessToken, error: Errno) {
        todo!()
    }
    /// The client has given MSI an eventfd: the guest's driver uses MSI.
    pub fn msi_enabled(&self) -> bool {
        todo!()
    }
    pub fn msix_enabled(&self) -> bool {
        todo!()
    }
    /// Fires a vector; one that the client has not set up is dropped, a masked one is kept pending.
    pub fn raise_msi(&mut self, vector: u16) {
        todo!()
    }
    pub fn raise_msix(&mut self, vector: u16) {
        todo!()
    }
    /// The level of the interrupt pin.
    pub fn set_intx(&mut self, high: bool) {
        todo!()
    }
    pub fn config(&self) -> &ConfigSpace {
        todo!()
    }
    pub fn config_mut(&mut self) -> &mut ConfigSpace {
        todo!()
    }
    /// Reads memory of a BAR (Bar::memory, Bar::shared, and shared areas).
    pub fn bar_read(&mut self, bar: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        todo!()
    }
    pub fn bar_write(&mut self, bar: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        todo!()
    }
    /// DMA at once; `DmaError::NotLocal` if part of the range has no descriptor and so needs the form with completion.
    pub fn dma_read(&mut self, iova: u64, data: &mut [u8]) -> Result<(), DmaError> {
        todo!()
    }
    pub fn dma_write(&mut self, iova: u64, data: &[u8]) -> Result<(), DmaError> {
        todo!()
    }
    /// DMA of any memory; `PciDevice::dma_done` is called with `tag` once it has ended, never from inside this call.
    pub fn start_dma_read(&mut self, iova: u64, buffer: Vec<u8>, tag: u64) {
        todo!()
    }
    pub fn start_dma_write(&mut self, iova: u64, buffer: Vec<u8>, tag: u64) {
        todo!()
    }
    /// One timer per tag; setting it again replaces it. Cancelled by reset and hang-up.
    pub fn set_timer(&mut self, tag: u64, due: Instant) {
        todo!()
    }
    /// The same, but it outlives a client that goes.
    pub fn set_lasting_timer(&mut self, tag: u64, due: Instant) {
        todo!()
    }
    pub fn cancel_timer(&mut self, tag: u64) {
        todo!()
    }
    /// Calls `PciDevice::work` in a later turn, after other clients of the thread had theirs.
    pub fn work_later(&mut self, tag: u64) {
        todo!()
    }
    /// Calls `PciDevice::fd_ready` while `fd` is readable. Owned until unwatch.
    pub fn watch(&mut self, fd: OwnedFd, tag: u64) -> Result<(), Errno> {
        todo!()
    }
    pub fn unwatch(&mut self, tag: u64) -> Option<OwnedFd> {
        todo!()
    }
}
