//! Configuration space after power-on, and its masks, made of a description.

use super::registers::*;
use super::spec::Parts;

/// What configuration space is after power-on, and what of it can change.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// The values.
    pub(super) initial: Box<[u8]>,
    /// Bits that software may write.
    pub(super) writable: Box<[u8]>,
    /// Bits that writing 1 clears. None of them is writable.
    pub(super) cleared: Box<[u8]>,
    /// Where each capability starts; 0 if there is none.
    pub(super) msi: usize,
    pub(super) msix: usize,
    pub(super) power: usize,
    pub(super) bars: [Address; 6],
}

/// What kind of address a BAR's register holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Address {
    /// None: there is no such BAR, or it is the upper half of the one before.
    #[default]
    None,
    Ports,
    Memory,
    Memory64,
}

impl Layout {
    /// Bytes of configuration space.
    pub(super) fn size(&self) -> u16 {
        // 256 or 4096.
        u16::try_from(self.initial.len()).unwrap_or(u16::MAX)
    }

    pub(super) fn of(parts: &Parts) -> Self {
        let size = if parts.express { EXTENDED_END } else { CONVENTIONAL_END };
        let zeroes = || vec![0; size].into_boxed_slice();
        let (initial, writable, cleared) = (zeroes(), zeroes(), zeroes());
        let (msi, msix, power) = (0, 0, 0);
        let mut layout = Self { initial, writable, cleared, msi, msix, power, bars: Default::default() };
        layout.header(parts);
        layout.bars(parts);
        layout.capabilities(parts);
        layout
    }

    fn header(&mut self, parts: &Parts) {
        put16(&mut self.initial, VENDOR_ID, parts.vendor);
        put16(&mut self.initial, DEVICE_ID, parts.device);
        self.initial[REVISION] = parts.revision;
        self.initial[CLASS..CLASS + 3].copy_from_slice(&parts.class.to_le_bytes()[..3]);
        put16(&mut self.initial, SUBSYSTEM_VENDOR, parts.subsystem.0);
        put16(&mut self.initial, SUBSYSTEM_ID, parts.subsystem.1);
        self.initial[INTERRUPT_PIN] = u8::from(parts.pin);
        put16(&mut self.writable, COMMAND, COMMAND_WRITABLE);
        put16(&mut self.cleared, STATUS, STATUS_CLEARED);
        self.writable[CACHE_LINE_SIZE] = 0xff;
        self.writable[INTERRUPT_LINE] = 0xff;
    }

    fn bars(&mut self, parts: &Parts) {
        for (index, bar) in parts.bars.iter().enumerate() {
            let Some(bar) = bar else { continue };
            let at = BAR0 + 4 * index;
            let mask = !(bar.size - 1);
            let (kind, flags) = match (bar.io, bar.address64) {
                (true, _) => (Address::Ports, BAR_IO),
                (false, false) => (Address::Memory, 0),
                (false, true) => (Address::Memory64, BAR_64),
            };
            self.bars[index] = kind;
            put32(&mut self.initial, at, flags | if bar.prefetchable { BAR_PREFETCHABLE } else { 0 });
            // Sizes are at least 4 for ports and 16 for memory: the flags' bits are not in the mask.
            let bytes = mask.to_le_bytes();
            let width = if bar.address64 { 8 } else { 4 };
            self.writable[at..at + width].copy_from_slice(&bytes[..width]);
        }
        if let Some(last) = u32::try_from(parts.rom.len()).ok().and_then(|size| size.checked_sub(1)) {
            put32(&mut self.writable, ROM, !last | ROM_ENABLE);
        }
    }

    fn capabilities(&mut self, parts: &Parts) {
        let mut pointer = CAPABILITIES;
        let mut at = HEADER_END;
        for one in &parts.capabilities {
            let range = at..at + one.bytes.len();
            self.initial[range.clone()].copy_from_slice(&one.bytes);
            self.writable[range.clone()].copy_from_slice(&one.writable);
            self.cleared[range].copy_from_slice(&one.cleared);
            // Checked to be below 0x100.
            self.initial[pointer] = u8::try_from(at).unwrap_or(0);
            pointer = at + 1;
            match one.id() {
                ID_MSI => self.msi = at,
                ID_MSIX => self.msix = at,
                ID_POWER => self.power = at,
                _ => {}
            }
            at += one.bytes.len().next_multiple_of(4);
        }
        if !parts.capabilities.is_empty() {
            put16(&mut self.initial, STATUS, STATUS_CAPABILITIES);
        }
    }
}

pub(super) fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}
