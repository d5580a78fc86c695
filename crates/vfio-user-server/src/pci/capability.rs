//! Capabilities: their bytes, and what of them software may write.

use super::registers::*;

/// Message-signalled interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msi {
    /// 1, 2, 4, 8, 16 or 32.
    pub vectors: u16,
    /// The message can go to addresses above 4 GiB.
    pub address64: bool,
    /// Each vector has a mask bit.
    pub maskable: bool,
}

/// The extended form of message-signalled interrupts. Table and pending bits are a BAR's: they are memory that the device's
/// code is not asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Msix {
    /// 1 to 2048.
    pub vectors: u16,
    /// BAR and offset of the table, 16 bytes a vector. A multiple of 8.
    pub table: (u8, u32),
    /// BAR and offset of the pending bits, 8 bytes for each 64 vectors or part of them. A multiple of 8.
    pub pba: (u8, u32),
}

impl Msix {
    pub(super) fn table_size(&self) -> u64 {
        u64::from(self.vectors) * 16
    }

    pub(super) fn pba_size(&self) -> u64 {
        u64::from(self.vectors).div_ceil(64) * 8
    }
}

/// What a PCI Express device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub enum Express {
    /// An endpoint behind a link.
    Endpoint = 0,
    /// One that needs I/O ports.
    LegacyEndpoint = 1,
    /// An endpoint of the root complex itself, without a link.
    Integrated = 9,
}

/// A capability in its place, as yet without the pointer to the next.
#[derive(Debug, Clone)]
pub(super) struct Capability {
    pub(super) bytes: Vec<u8>,
    /// Bits that software may write.
    pub(super) writable: Vec<u8>,
    /// Bits that writing 1 clears.
    pub(super) cleared: Vec<u8>,
}

impl Capability {
    fn new(id: u8, size: usize) -> Self {
        let mut bytes = vec![0; size];
        bytes[0] = id;
        Self { bytes, writable: vec![0; size], cleared: vec![0; size] }
    }

    pub(super) fn id(&self) -> u8 {
        self.bytes[0]
    }

    fn value16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn value32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn writable16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn writable32(&mut self, at: usize, mask: u32) {
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }

    pub(super) fn msi(msi: &Msi) -> Self {
        let data = if msi.address64 { 12 } else { 8 };
        let size = if msi.maskable { data + 12 } else { data + 2 };
        let mut all = Self::new(ID_MSI, size);
        // Not a power of two: refused later.
        let offered = u16::try_from(msi.vectors.max(1).ilog2()).unwrap_or(0) & 7;
        let control = offered << MSI_OFFERED_SHIFT
            | if msi.address64 { MSI_64 } else { 0 }
            | if msi.maskable { MSI_MASKABLE } else { 0 };
        all.value16(2, control);
        all.writable16(2, MSI_ENABLE | MSI_IN_USE);
        all.writable32(4, !3);
        if msi.address64 {
            all.writable32(8, !0);
        }
        all.writable16(data, !0);
        if msi.maskable {
            let vectors = u32::from(msi.vectors.min(32));
            all.writable32(data + 4, u32::MAX.checked_shr(32 - vectors).unwrap_or(0));
        }
        all
    }

    pub(super) fn msix(msix: &Msix) -> Self {
        let mut all = Self::new(ID_MSIX, 12);
        all.value16(2, msix.vectors.wrapping_sub(1) & 0x7ff);
        all.writable16(2, MSIX_ENABLE | MSIX_MASK);
        all.value32(4, msix.table.1 & !7 | u32::from(msix.table.0 & 7));
        all.value32(8, msix.pba.1 & !7 | u32::from(msix.pba.0 & 7));
        all
    }

    /// Version 3, D0 and D3hot, no power management events.
    pub(super) fn power() -> Self {
        let mut all = Self::new(ID_POWER, 8);
        all.value16(2, 3);
        all.value16(4, POWER_NO_SOFT_RESET);
        all.writable16(4, POWER_STATE);
        all
    }

    /// Version 2 of the structure, 60 bytes: one lane at 2.5 GT/s, payloads of 128 bytes, no function level reset.
    pub(super) fn express(kind: Express) -> Self {
        let mut all = Self::new(ID_EXPRESS, 60);
        all.value16(2, 2 | (kind as u16) << 4);
        // Role-based error reporting.
        all.value32(4, 0x8000);
        // Error reporting of all four kinds is off, relaxed ordering and no-snoop are on, reads are of 512 bytes.
        all.value16(8, 0x2810);
        all.writable16(8, 0x781f);
        all.cleared[10] = 0x0f;
        if kind != Express::Integrated {
            all.value32(12, 0x0000_0411);
            all.writable16(16, 0x00c3);
            all.value16(18, 0x0011);
            // Target link speed.
            all.value16(48, 1);
            all.value32(44, 2);
        }
        all
    }

    /// `data` after the length byte; `writable` has a mask for each byte of it, or is shorter.
    pub(super) fn vendor(data: &[u8], writable: &[u8]) -> Self {
        let size = data.len() + 3;
        let mut all = Self::new(ID_VENDOR, size);
        // Longer ones do not fit and are refused later.
        all.bytes[2] = u8::try_from(size).unwrap_or(u8::MAX);
        all.bytes[3..].copy_from_slice(data);
        for (mask, given) in all.writable[3..].iter_mut().zip(writable) {
            *mask = *given;
        }
        all
    }
}
