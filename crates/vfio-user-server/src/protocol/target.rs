//! What the protocol calls: the device, its memory and its interrupts, seen from the wire.

use std::os::fd::{BorrowedFd, OwnedFd};

use fd_closer::Received;
use rustix::io::Errno;

use super::{Access, Area, DeviceInfo, DmaMap, DmaUnmap, IrqInfo, SetIrqs};

/// A region, as `DEVICE_GET_REGION_INFO` shows it. An absent one has size 0 and no flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegionDescription<'a> {
    /// In bytes; 0 if the device has no such region.
    pub size: u64,
    /// Can be read.
    pub readable: bool,
    /// Can be written.
    pub writable: bool,
    /// What of it the client may map: `None` for nothing, and no areas for all of it.
    pub mmap: Option<Mmap<'a>>,
    /// It holds the MSI-X table and may be mapped all the same.
    pub msix_mappable: bool,
}

/// How a client maps a region.
#[derive(Debug, Clone, Copy)]
pub struct Mmap<'a> {
    /// The file.
    pub fd: BorrowedFd<'a>,
    /// Where the region starts in the file.
    pub offset: u64,
    /// The parts that may be mapped; all of it if there are none.
    pub areas: &'a [Area],
}

/// A part of a region whose writes can be had through a descriptor, for `DEVICE_GET_REGION_IO_FDS`.
#[derive(Debug, Clone, Copy)]
pub struct IoFd<'a> {
    /// From the region's start.
    pub offset: u64,
    /// Of the access, in bytes; 0 for any.
    pub size: u64,
    /// The eventfd that a write signals.
    pub fd: BorrowedFd<'a>,
    /// `KVM_IOEVENTFD_*`: 1 if only [`datamatch`](Self::datamatch) counts, 2 for a port.
    pub flags: u32,
    /// The value that counts.
    pub datamatch: u64,
}

/// How an access has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is done: the data is there, or has been taken.
    Done,
    /// Its token is completed later.
    Deferred,
    /// It has failed.
    Failed(Errno),
}

/// The device, as the protocol calls it. Calls are made one at a time, in the order of the commands.
pub trait Target {
    /// What `DEVICE_GET_INFO` says.
    fn device_info(&self) -> DeviceInfo;

    /// A region below [`DeviceInfo::regions`].
    fn region(&self, index: u32) -> RegionDescription<'_>;

    /// The parts of a region with descriptors of their own. At most 16 are shown.
    fn io_fds(&self, index: u32) -> Vec<IoFd<'_>>;

    /// An interrupt type below [`DeviceInfo::irqs`].
    fn irq_info(&self, index: u32) -> IrqInfo;

    /// Does what the command says.
    ///
    /// # Errors
    /// Whatever keeps it from being done; then nothing has changed.
    fn set_irqs(&mut self, command: SetIrqs<'_>) -> Result<(), Errno>;

    /// Adds a map. `fd` is closed by its drop.
    ///
    /// # Errors
    /// `EEXIST` for an overlap, `ENOSPC` over a limit, and what the descriptor says.
    fn dma_map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno>;

    /// Removes a map; nothing uses it once this returns.
    ///
    /// # Errors
    /// `ENOENT`.
    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<(), Errno>;

    /// Reads a region into `data`, which is zeroed and as long as the access.
    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome;

    /// Writes `data` to a region.
    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome;

    /// Whether a part of a region is plain memory: a large write to it is given in pieces as they arrive, each answered at
    /// once. Not if this is not implemented.
    fn is_memory(&self, region: u32, offset: u64, size: u64) -> bool {
        let _ = (region, offset, size);
        false
    }

    /// Resets the device.
    ///
    /// # Errors
    /// The device's.
    fn reset(&mut self) -> Result<(), Errno>;

    /// The client has answered a command of ours: `DMA_READ` with data, `DMA_WRITE` with none. The ids are those that
    /// [`Session::dma_read`](super::Session::dma_read) and its like have returned; replies to others do not come here.
    fn dma_reply(&mut self, id: u16, result: Result<&[u8], Errno>);

    /// The client offers a socket of its own for our commands. `None` declines; else the end that is sent to the client.
    fn twin_socket(&mut self) -> Option<OwnedFd>;
}
