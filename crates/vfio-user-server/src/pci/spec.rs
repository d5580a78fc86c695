//! The description of a device, and its builder.

use super::capability::Capability;
use super::check::{SpecError, check};
use super::layout::Layout;
use super::registers::{CONVENTIONAL_END, ROM_LEAST};
use super::{Bar, Express, Msi, Msix};

/// What a PCI device shows of itself: a description that holds together, as [`SpecBuilder::build`] has checked.
#[derive(Debug, Clone)]
pub struct PciSpec {
    pub(super) parts: Parts,
    pub(super) layout: Layout,
}

impl PciSpec {
    /// Starts a description.
    pub fn builder(vendor: u16, device: u16) -> SpecBuilder {
        SpecBuilder { parts: Parts { vendor, device, resettable: true, ..Parts::default() } }
    }

    /// Bytes of configuration space: 256, or 4096 with PCI Express.
    pub fn config_size(&self) -> u16 {
        self.layout.size()
    }

    /// Size of a BAR in bytes; 0 if there is none at this index.
    pub fn bar_size(&self, bar: u8) -> u64 {
        self.parts.bars.get(usize::from(bar)).and_then(Option::as_ref).map_or(0, |bar| bar.size)
    }

    /// Interrupts of each type: the pin (0 or 1).
    pub fn intx(&self) -> u32 {
        u32::from(self.parts.pin)
    }

    /// Vectors of MSI, 0 to 32.
    pub fn msi_vectors(&self) -> u32 {
        self.parts.msi.map_or(0, |msi| msi.vectors.into())
    }

    /// Each MSI vector has a mask bit.
    pub fn msi_maskable(&self) -> bool {
        self.parts.msi.is_some_and(|msi| msi.maskable)
    }

    /// Vectors of MSI-X, 0 to 2048.
    pub fn msix_vectors(&self) -> u32 {
        self.parts.msix.map_or(0, |msix| msix.vectors.into())
    }

    /// `DEVICE_RESET` does something.
    pub fn resettable(&self) -> bool {
        self.parts.resettable
    }
}

/// What a description is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    pub(super) vendor: u16,
    pub(super) device: u16,
    pub(super) revision: u8,
    pub(super) class: u32,
    pub(super) subsystem: (u16, u16),
    pub(super) pin: bool,
    pub(super) bars: [Option<Bar>; 6],
    /// As large as its region: a power of two.
    pub(super) rom: Vec<u8>,
    pub(super) msi: Option<Msi>,
    pub(super) msix: Option<Msix>,
    pub(super) express: bool,
    pub(super) resettable: bool,
    /// In their order in configuration space.
    pub(super) capabilities: Vec<Capability>,
    /// A BAR at an index that there is not, or at one that has one.
    pub(super) misplaced: Option<SpecError>,
}

/// Describes a device. Capabilities have the order in which they are called for, from offset 0x40 on.
#[derive(Debug, Clone)]
pub struct SpecBuilder {
    parts: Parts,
}

impl SpecBuilder {
    /// The device's revision; 0 if this is not called.
    pub fn revision(mut self, revision: u8) -> Self {
        self.parts.revision = revision;
        self
    }

    /// 24 bits: class, subclass, programming interface. A network card is `0x020000`.
    pub fn class(mut self, class: u32) -> Self {
        self.parts.class = class;
        self
    }

    /// Who made the card; 0 and 0 if this is not called.
    pub fn subsystem(mut self, vendor: u16, id: u16) -> Self {
        self.parts.subsystem = (vendor, id);
        self
    }

    /// The device has the interrupt pin INTA.
    pub fn interrupt_pin(mut self) -> Self {
        self.parts.pin = true;
        self
    }

    /// A base address register, 0 to 5.
    pub fn bar(mut self, index: u8, bar: Bar) -> Self {
        match self.parts.bars.get_mut(usize::from(index)) {
            Some(place @ None) => *place = Some(bar),
            Some(Some(_)) => self.misplaced(SpecError::Twice("BAR")),
            None => self.misplaced(SpecError::BarIndex(index)),
        }
        self
    }

    /// An expansion ROM. It is filled up with zeroes to a power of two, at least 2048 bytes; at most 16 MiB.
    pub fn rom(mut self, mut rom: Vec<u8>) -> Self {
        let size = rom.len().max(ROM_LEAST).checked_next_power_of_two();
        rom.resize(size.filter(|size| *size <= super::check::ROM_MOST).unwrap_or(rom.len()), 0);
        self.parts.rom = rom;
        self
    }

    /// Message-signalled interrupts.
    pub fn msi(self, msi: Msi) -> Self {
        let mut this = self.capability(Capability::msi(&msi));
        this.parts.msi = Some(msi);
        this
    }

    /// MSI-X.
    pub fn msix(self, msix: Msix) -> Self {
        let mut this = self.capability(Capability::msix(&msix));
        this.parts.msix = Some(msix);
        this
    }

    /// Power management: D0 and D3hot, without events; going back to D0 loses nothing.
    pub fn power_management(self) -> Self {
        self.capability(Capability::power())
    }

    /// PCI Express: its capability, and 4096 bytes of configuration space (without extended capabilities).
    pub fn express(self, kind: Express) -> Self {
        let mut this = self.capability(Capability::express(kind));
        this.parts.express = true;
        this
    }

    /// A capability of the vendor's own: `data` follows its length byte. Read-only.
    pub fn vendor_capability(self, data: &[u8]) -> Self {
        self.capability(Capability::vendor(data, &[]))
    }

    /// The same, with a mask of writable bits for each byte of `data`; those that are missing are 0.
    pub fn writable_vendor_capability(self, data: &[u8], writable: &[u8]) -> Self {
        self.capability(Capability::vendor(data, writable))
    }

    /// `DEVICE_RESET` is not offered. (Clients that send it all the same are answered, and the device is reset.)
    pub fn not_resettable(mut self) -> Self {
        self.parts.resettable = false;
        self
    }

    /// Checks the description.
    ///
    /// # Errors
    /// The first thing that does not hold together.
    pub fn build(self) -> Result<PciSpec, SpecError> {
        check(&self.parts)?;
        let layout = Layout::of(&self.parts);
        debug_assert!(usize::from(layout.size()) >= CONVENTIONAL_END);
        Ok(PciSpec { parts: self.parts, layout })
    }

    fn capability(mut self, capability: Capability) -> Self {
        self.parts.capabilities.push(capability);
        self
    }

    fn misplaced(&mut self, error: SpecError) {
        self.parts.misplaced.get_or_insert(error);
    }
}
