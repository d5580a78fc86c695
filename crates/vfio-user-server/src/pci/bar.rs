//! A base address register, described.

use crate::protocol::Area;

/// What answers accesses of a BAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The device.
    Registers,
    /// Memory of ours.
    Memory,
    /// Memory that clients may map.
    Shared,
}

/// A base address register: its size, and what is behind it.
///
/// Memory is committed when it is first touched: a large BAR that nobody uses costs nothing. Reset keeps its contents,
/// unless it is said to be [cleared](Self::cleared_by_reset).
#[derive(Debug, Clone)]
pub struct Bar {
    pub(super) size: u64,
    pub(super) kind: Kind,
    pub(super) io: bool,
    pub(super) address64: bool,
    pub(super) prefetchable: bool,
    pub(super) cleared: bool,
    pub(super) msix_mappable: bool,
    pub(super) areas: Vec<Area>,
    pub(super) doorbells: Vec<Doorbell>,
}

impl Bar {
    /// `size` bytes of registers: [`PciDevice::read`](crate::PciDevice::read) and `write` are called.
    ///
    /// Sizes are powers of two: 4 bytes to 64 KiB of ports, 16 bytes to 2 GiB of memory, with
    /// [64-bit addresses](Self::address64) up to 2^62 bytes.
    pub fn registers(size: u64) -> Self {
        Self::new(size, Kind::Registers)
    }

    /// `size` bytes of memory, which the device's code is not asked for. The device reaches it with
    /// [`DeviceContext::bar_read`](crate::DeviceContext::bar_read) and `bar_write`.
    pub fn memory(size: u64) -> Self {
        Self::new(size, Kind::Memory)
    }

    /// The same, and clients may map it: then their accesses cost no message and are not seen at all. At least a page.
    ///
    /// The pages that hold an MSI-X table or its pending bits are left out of what may be mapped, unless that is
    /// [wanted](Self::msix_mappable). A client that has gone keeps what it has mapped: with one after another, each can see
    /// and change the next one's.
    pub fn shared(size: u64) -> Self {
        Self::new(size, Kind::Shared)
    }

    fn new(size: u64, kind: Kind) -> Self {
        let (areas, doorbells) = (Vec::new(), Vec::new());
        Self {
            size,
            kind,
            io: false,
            address64: false,
            prefetchable: false,
            cleared: false,
            msix_mappable: false,
            areas,
            doorbells,
        }
    }

    /// Clients may map shared memory whole though it holds the MSI-X table: their own table is what counts, and the memory
    /// under it is memory. They are told so by a capability of the region.
    pub fn msix_mappable(mut self) -> Self {
        self.msix_mappable = true;
        self
    }

    /// Ports in place of memory addresses.
    pub fn io(mut self) -> Self {
        self.io = true;
        self
    }

    /// Can be placed above 4 GiB. Takes the next index, too.
    pub fn address64(mut self) -> Self {
        self.address64 = true;
        self
    }

    /// Reads have no side effects.
    pub fn prefetchable(mut self) -> Self {
        self.prefetchable = true;
        self
    }

    /// Reset zeroes its memory. Takes time in proportion to what of it is committed.
    pub fn cleared_by_reset(mut self) -> Self {
        self.cleared = true;
        self
    }

    /// Pages in the midst of registers that are memory, and that clients may map. Both numbers are multiples of the
    /// host's page size.
    pub fn shared_area(mut self, offset: u64, size: u64) -> Self {
        self.areas.push(Area { offset, size });
        self
    }

    /// A register whose writes clients can have signalled with an eventfd, without a message.
    pub fn doorbell(mut self, doorbell: Doorbell) -> Self {
        self.doorbells.push(doorbell);
        self
    }
}

/// A register whose writes can come as counts of an eventfd.
///
/// [`PciDevice::doorbell`](crate::PciDevice::doorbell) is told of those. A client is free to write by message as
/// ever (QEMU and Cloud Hypervisor do): `PciDevice::write` has to do the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Doorbell {
    /// From the BAR's start, in bytes.
    pub offset: u64,
    /// Of the write: 1, 2, 4 or 8 bytes; 0 for any.
    pub size: u64,
    /// The value that counts; `None` for any. Needs a size.
    pub datamatch: Option<u64>,
    /// The device's own name for it.
    pub tag: u64,
}
