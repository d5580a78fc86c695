//! What the commands carry, as far as a [`Target`](super::Target) sees it.

use fd_closer::Received;

/// Index of the region that is the configuration space. 0 to 5 are the BARs, 6 the ROM, 8 VGA.
pub const CONFIG_REGION: u32 = 7;
/// Regions of a PCI device.
pub const PCI_REGIONS: u32 = 9;
/// Interrupt types of a PCI device.
pub const PCI_IRQS: u32 = 5;

/// Index of each interrupt type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum IrqIndex {
    /// The pin, a level.
    Intx = 0,
    /// Message-signalled.
    Msi = 1,
    /// The extended form.
    Msix = 2,
    /// The device has met an error.
    Err = 3,
    /// The device would like to be released.
    Req = 4,
}

/// `DEVICE_GET_INFO`'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `DEVICE_RESET` does something.
    pub reset: bool,
    /// Regions, [`PCI_REGIONS`] for a PCI device.
    pub regions: u32,
    /// Interrupt types, [`PCI_IRQS`] for a PCI device.
    pub irqs: u32,
}

/// A part of a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Area {
    /// From the region's start, in bytes.
    pub offset: u64,
    /// In bytes.
    pub size: u64,
}

/// `DEVICE_GET_IRQ_INFO`'s answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IrqInfo {
    /// `VFIO_IRQ_INFO_*`: 1 eventfd, 2 maskable, 4 masked by firing, 8 cannot be resized.
    pub flags: u32,
    /// Vectors; 0 if the device has no such interrupts.
    pub count: u32,
}

/// The action of `DEVICE_SET_IRQS`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IrqAction {
    /// Fire, or set up what is fired.
    Trigger,
    /// Hold back.
    Mask,
    /// Let go, with what was held back.
    Unmask,
}

/// The data of `DEVICE_SET_IRQS`.
#[derive(Debug)]
pub enum IrqData<'a> {
    /// Every vector of the range; with [`IrqAction::Trigger`] and no vectors: the whole index is switched off.
    None,
    /// Those whose byte is not 0; one byte a vector.
    Bool(&'a [u8]),
    /// One descriptor a vector (as many as vectors), or none at all: the range is de-assigned.
    Eventfds(Vec<Received>),
}

/// `DEVICE_SET_IRQS`, with index, range and combination checked against [`IrqInfo`].
#[derive(Debug)]
pub struct SetIrqs<'a> {
    /// The type.
    pub index: IrqIndex,
    /// The first vector.
    pub start: u32,
    /// Vectors.
    pub count: u32,
    /// What to do.
    pub action: IrqAction,
    /// To which of them, or with what.
    pub data: IrqData<'a>,
}

/// `DMA_MAP`, with its sizes and flags checked, its place among the other maps not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaMap {
    /// Where the device sees it; `iova + size` does not wrap.
    pub iova: u64,
    /// In bytes, not 0.
    pub size: u64,
    /// Where it starts in the file, if there is one. Need not be aligned; `offset + size` does not wrap.
    pub offset: u64,
    /// The device may read it.
    pub readable: bool,
    /// The device may write it.
    pub writable: bool,
    /// The client asks for `pread` and `pwrite` in place of a mapping.
    pub file_io: bool,
}

/// `DMA_UNMAP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DmaUnmap {
    /// Exactly this map.
    Range {
        /// Its start.
        iova: u64,
        /// Its size.
        size: u64,
    },
    /// All of them.
    All,
}

/// Names an access that waits for its completion. Not used twice in one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AccessToken(pub(crate) u64);

/// An access of a region that is within its bounds and permitted by its flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// To complete it with, if it is deferred.
    pub token: AccessToken,
    /// The region, below [`DeviceInfo::regions`].
    pub region: u32,
    /// From the region's start; `offset + length` is within its size.
    pub offset: u64,
}

/// What was agreed on, and what the client has said of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The version in force.
    pub version: (u16, u16),
    /// Descriptors that the client takes in a message.
    pub max_msg_fds: u32,
    /// The most bytes that the client takes in an access, DMA included.
    pub max_data_xfer_size: u64,
    /// The most maps that the client will make.
    pub max_dma_maps: u64,
    /// Page sizes of DMA, a bit mask.
    pub pgsizes: u64,
    /// Our commands go over a socket of their own.
    pub twin_socket: bool,
    /// The client understands `REGION_WRITE_MULTI`.
    pub write_multiple: bool,
}
