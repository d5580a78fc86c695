//! Configuration space.

use super::PciSpec;
use super::layout::{Address, Layout, put16};
use super::registers::*;

/// Configuration space: 256 or 4096 bytes, little endian.
///
/// What software writes goes through the registers' masks: BARs are sized by writing ones, error bits of the status register
/// are cleared by writing 1, identifiers do not change. Everything that no register or capability claims is 0 and stays 0.
#[derive(Debug)]
pub struct ConfigSpace {
    bytes: Box<[u8]>,
    layout: Layout,
}

impl ConfigSpace {
    /// Configuration space after power-on.
    pub fn new(spec: &PciSpec) -> Self {
        Self { bytes: spec.layout.initial.clone(), layout: spec.layout.clone() }
    }

    /// Bytes in all: 256 or 4096.
    pub fn size(&self) -> u16 {
        self.layout.size()
    }

    /// Reads any number of bytes from anywhere. Bytes past the end are 0.
    pub fn read(&self, offset: u16, data: &mut [u8]) {
        let there = self.bytes.get(offset.into()..).unwrap_or_default();
        let count = data.len().min(there.len());
        data[..count].copy_from_slice(&there[..count]);
        data[count..].fill(0);
    }

    /// Writes as software does, through the masks. Bytes past the end are dropped.
    ///
    /// Two fields know more than masks: MSI's number of vectors in use becomes at most what is offered, and a power state
    /// that the device does not have (D1, D2) is not taken.
    pub fn write(&mut self, offset: u16, data: &[u8]) {
        let start = usize::from(offset);
        let power = self.power_bits();
        let masks = self.layout.writable.iter().zip(&self.layout.cleared).skip(start);
        for ((byte, (writable, cleared)), value) in self.bytes.iter_mut().skip(start).zip(masks).zip(data) {
            *byte = (*byte & !writable | value & writable) & !(value & cleared);
        }
        self.limit_msi();
        if matches!(self.power_bits(), 1 | 2) {
            let at = self.layout.power + 4;
            self.bytes[at] = self.bytes[at] & !3 | power;
        }
    }

    /// Back to the state after power-on; what was poked is gone, too.
    pub fn reset(&mut self) {
        self.bytes.copy_from_slice(&self.layout.initial);
    }

    /// The command register.
    pub fn command(&self) -> u16 {
        self.get16(COMMAND)
    }

    /// The status register.
    pub fn status(&self) -> u16 {
        self.get16(STATUS)
    }

    /// The driver lets the device do DMA.
    pub fn bus_master(&self) -> bool {
        self.command() & COMMAND_MASTER != 0
    }

    /// BARs of memory addresses are switched on.
    pub fn memory_enabled(&self) -> bool {
        self.command() & COMMAND_MEMORY != 0
    }

    /// BARs of ports are switched on.
    pub fn io_enabled(&self) -> bool {
        self.command() & COMMAND_IO != 0
    }

    /// The driver does not want the interrupt pin.
    pub fn intx_disabled(&self) -> bool {
        self.command() & COMMAND_INTX_DISABLE != 0
    }

    /// Shows the level of the interrupt pin in the status register. It is shown even while the driver does not want the pin:
    /// that is how it finds out whose interrupt it was.
    pub(crate) fn show_interrupt(&mut self, high: bool) {
        let others = self.status() & !STATUS_INTERRUPT;
        put16(&mut self.bytes, STATUS, others | if high { STATUS_INTERRUPT } else { 0 });
    }

    /// MSI is switched on, as the capability says. (Clients that handle MSI themselves need not show it here.)
    pub fn msi_enabled(&self) -> bool {
        self.msi_control() & MSI_ENABLE != 0
    }

    /// MSI vectors that the driver uses: 1 to what the device has; 0 without MSI.
    pub fn msi_in_use(&self) -> u16 {
        if self.layout.msi == 0 { 0 } else { 1 << (self.msi_control() >> MSI_IN_USE_SHIFT & 7) }
    }

    /// MSI-X is switched on, as the capability says.
    pub fn msix_enabled(&self) -> bool {
        self.msix_control() & MSIX_ENABLE != 0
    }

    /// All of MSI-X is masked.
    pub fn msix_masked(&self) -> bool {
        self.msix_control() & MSIX_MASK != 0
    }

    /// 0 for D0 to 3 for D3hot; 0 without power management.
    pub fn power_state(&self) -> u8 {
        self.power_bits()
    }

    /// Where the client has put a BAR; `None` if there is no such BAR. After power-on, and while it is being sized, this is
    /// no address that counts.
    pub fn bar_address(&self, bar: u8) -> Option<u64> {
        let at = BAR0 + 4 * usize::from(bar);
        match self.layout.bars.get(usize::from(bar))? {
            Address::None => None,
            Address::Ports => Some(u64::from(self.get32(at) & !3)),
            Address::Memory => Some(u64::from(self.get32(at) & !15)),
            Address::Memory64 => Some(u64::from(self.get32(at) & !15) | u64::from(self.get32(at + 4)) << 32),
        }
    }

    /// Where the first capability with this identifier starts.
    pub fn capability(&self, id: u8) -> Option<u16> {
        let mut at = usize::from(self.layout.initial[CAPABILITIES]);
        while at != 0 && self.layout.initial[at] != id {
            at = self.layout.initial[at + 1].into();
        }
        u16::try_from(at).ok().filter(|at| *at != 0)
    }

    /// A byte; 0 past the end.
    pub fn peek_u8(&self, offset: u16) -> u8 {
        let mut data = [0];
        self.read(offset, &mut data);
        data[0]
    }

    /// Two bytes, from anywhere.
    pub fn peek_u16(&self, offset: u16) -> u16 {
        let mut data = [0; 2];
        self.read(offset, &mut data);
        u16::from_le_bytes(data)
    }

    /// Four bytes, from anywhere.
    pub fn peek_u32(&self, offset: u16) -> u32 {
        let mut data = [0; 4];
        self.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    /// Sets a byte, whatever its mask: for status bits, pending bits, a vendor's registers. Until the next reset.
    pub fn poke_u8(&mut self, offset: u16, value: u8) {
        self.poke(offset, &[value]);
    }

    /// Sets two bytes, whatever their masks.
    pub fn poke_u16(&mut self, offset: u16, value: u16) {
        self.poke(offset, &value.to_le_bytes());
    }

    /// Sets four bytes, whatever their masks.
    pub fn poke_u32(&mut self, offset: u16, value: u32) {
        self.poke(offset, &value.to_le_bytes());
    }

    fn poke(&mut self, offset: u16, data: &[u8]) {
        for (byte, value) in self.bytes.iter_mut().skip(offset.into()).zip(data) {
            *byte = *value;
        }
    }

    /// As on QEMU's devices, more vectors in use than there are become all that there are.
    fn limit_msi(&mut self) {
        if self.layout.msi == 0 {
            return;
        }
        let control = self.msi_control();
        let offered = control >> MSI_OFFERED_SHIFT & 7;
        if control >> MSI_IN_USE_SHIFT & 7 > offered {
            let limited = control & !MSI_IN_USE | offered << MSI_IN_USE_SHIFT;
            put16(&mut self.bytes, self.layout.msi + 2, limited);
        }
    }

    fn msi_control(&self) -> u16 {
        if self.layout.msi == 0 { 0 } else { self.get16(self.layout.msi + 2) }
    }

    fn msix_control(&self) -> u16 {
        if self.layout.msix == 0 { 0 } else { self.get16(self.layout.msix + 2) }
    }

    fn power_bits(&self) -> u8 {
        if self.layout.power == 0 { 0 } else { self.bytes[self.layout.power + 4] & 3 }
    }

    fn get16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn get32(&self, at: usize) -> u32 {
        u32::from(self.get16(at)) | u32::from(self.get16(at + 2)) << 16
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Bar, Express, Msi, Msix, PciSpec};
    use super::*;
    use proptest::prelude::*;

    fn edu() -> PciSpec {
        PciSpec::builder(0x1234, 0x11e8)
            .revision(0x10)
            .class(0x00ff00)
            .subsystem(0x1af4, 0x1100)
            .interrupt_pin()
            .msi(Msi { vectors: 1, address64: true, maskable: false })
            .bar(0, Bar::registers(0x10_0000))
            .build()
            .unwrap()
    }

    /// One of everything.
    fn full() -> PciSpec {
        PciSpec::builder(0xfedc, 0xba98)
            .class(0x01_0802)
            .interrupt_pin()
            .bar(0, Bar::registers(0x4000))
            .bar(1, Bar::registers(0x20).io())
            .bar(2, Bar::memory(8 << 30).address64().prefetchable())
            .bar(4, Bar::shared(0x1_0000).address64())
            .rom(vec![0x55; 5000])
            .power_management()
            .msi(Msi { vectors: 8, address64: false, maskable: true })
            .msix(Msix { vectors: 70, table: (0, 0x1000), pba: (0, 0x2000) })
            .express(Express::Endpoint)
            .writable_vendor_capability(&[1, 2, 3, 4, 5], &[0, 0xff, 0x0f])
            .build()
            .unwrap()
    }

    fn bytes(space: &ConfigSpace) -> Vec<u8> {
        let mut all = vec![0; space.size().into()];
        space.read(0, &mut all);
        all
    }

    /// Recorded from QEMU 7.2.22, `-device edu` on q35 and pc alike, before any firmware has run.
    #[test]
    fn edu_looks_as_qemus_edu() {
        let mut wanted = [0; 256];
        wanted[..16].copy_from_slice(&[0x34, 0x12, 0xe8, 0x11, 0, 0, 0x10, 0, 0x10, 0, 0xff, 0, 0, 0, 0, 0]);
        wanted[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
        wanted[0x34] = 0x40;
        wanted[0x3d] = 1;
        wanted[0x40..0x44].copy_from_slice(&[0x05, 0, 0x80, 0]);
        assert_eq!(bytes(&ConfigSpace::new(&edu())), wanted);
    }

    /// What the same QEMU shows after a dword of ones has been written to each dword. It leaves bytes that no capability
    /// claims writable; here they are reserved.
    #[test]
    fn edu_takes_what_qemus_edu_takes() {
        let mut space = ConfigSpace::new(&edu());
        for at in (0..256).step_by(4) {
            space.write(at, &[0xff; 4]);
        }
        let wanted = [
            (0x00, 0x11e8_1234),
            (0x04, 0x0010_0507),
            (0x08, 0x00ff_0010),
            (0x0c, 0x0000_00ff),
            (0x10, 0xfff0_0000),
            (0x14, 0),
            (0x30, 0),
            (0x3c, 0x0000_01ff),
            (0x40, 0x0081_0005),
            (0x44, 0xffff_fffc),
            (0x48, 0xffff_ffff),
            (0x4c, 0x0000_ffff),
            (0x50, 0),
        ];
        for (at, value) in wanted {
            assert_eq!(space.peek_u32(at), value, "at {at:#x}");
        }
    }

    #[test]
    fn bars_are_sized_and_placed() {
        let mut space = ConfigSpace::new(&full());
        let sized = [
            (0x10, 0xffff_c000),
            (0x14, 0xffff_ffe1),
            (0x18, 0x0000_000c),
            (0x1c, 0xffff_fffe),
            (0x20, 0xffff_0004),
            (0x24, 0xffff_ffff),
            (0x30, 0xffff_e001),
        ];
        for (at, value) in sized {
            space.write(at, &[0xff; 4]);
            assert_eq!(space.peek_u32(at), value, "at {at:#x}");
        }
        space.write(0x10, &0xfebf_1234_u32.to_le_bytes());
        space.write(0x14, &0xc05f_u32.to_le_bytes());
        space.write(0x18, &0x0000_0006_1234_5678_u64.to_le_bytes());
        let placed: Vec<_> = (0..7).map(|bar| space.bar_address(bar)).collect();
        let wanted = [Some(0xfebf_0000), Some(0xc040), Some(0x6_0000_0000), None, Some(!0xffff), None, None];
        assert_eq!(placed, wanted);
    }

    #[test]
    fn getters_follow_what_software_writes() {
        let mut space = ConfigSpace::new(&full());
        assert!(
            !space.bus_master() && !space.memory_enabled() && !space.io_enabled() && !space.intx_disabled()
        );
        space.write(4, &[0x07, 0x04]);
        assert!(space.bus_master() && space.memory_enabled() && space.io_enabled() && space.intx_disabled());
        let msi = space.capability(5).unwrap();
        assert!(!space.msi_enabled());
        assert_eq!(space.msi_in_use(), 1);
        space.write(msi + 2, &[0x21]);
        assert!(space.msi_enabled());
        assert_eq!(space.msi_in_use(), 4);
        space.write(msi + 2, &[0x71]);
        assert_eq!(space.msi_in_use(), 8);
        let msix = space.capability(0x11).unwrap();
        space.write(msix + 3, &[0xc0]);
        assert!(space.msix_enabled() && space.msix_masked());
        assert_eq!(space.peek_u16(msix + 2), 0xc045);
        let power = space.capability(1).unwrap() + 4;
        space.write(power, &[3]);
        assert_eq!(space.power_state(), 3);
        space.write(power, &[2]);
        assert_eq!(space.power_state(), 3);
        space.write(power, &[0]);
        assert_eq!(space.power_state(), 0);
        assert_eq!(space.capability(0x12), None);
        space.reset();
        assert_eq!(bytes(&space), bytes(&ConfigSpace::new(&full())));
    }

    #[test]
    fn error_bits_are_cleared_by_ones() {
        let mut space = ConfigSpace::new(&full());
        space.poke_u16(6, 0xf910);
        space.write(6, &[0, 0]);
        assert_eq!(space.status(), 0xf910);
        space.write(6, &[0xff, 0x28]);
        assert_eq!(space.status(), 0xd110);
        space.show_interrupt(true);
        space.write(6, &[0xff, 0]);
        assert_eq!(space.status(), 0xd118);
        space.show_interrupt(false);
        assert_eq!(space.status(), 0xd110);
        let errors = space.capability(0x10).unwrap() + 10;
        space.poke_u8(errors, 0x1f);
        space.write(errors, &[0x05]);
        assert_eq!(space.peek_u8(errors), 0x1a);
    }

    #[test]
    fn capabilities_are_one_list() {
        let space = ConfigSpace::new(&full());
        let mut at = space.peek_u8(0x34);
        let mut ids = Vec::new();
        while at != 0 {
            assert_eq!(at % 4, 0);
            ids.push(space.peek_u8(at.into()));
            at = space.peek_u8(u16::from(at) + 1);
        }
        assert_eq!(ids, [0x01, 0x05, 0x11, 0x10, 0x09]);
        let vendor = space.capability(9).unwrap();
        assert_eq!(space.peek_u8(vendor + 2), 8);
        assert_eq!(space.peek_u32(vendor + 3), 0x0403_0201);
        assert_eq!(space.size(), 4096);
    }

    /// What a byte may become, without regard to the fields that know more.
    fn model(layout: &Layout, at: usize, old: u8, value: u8) -> u8 {
        let (writable, cleared) = (layout.writable[at], layout.cleared[at]);
        let mut new = old;
        for bit in (0..8).map(|n| 1 << n) {
            if writable & bit != 0 {
                new = new & !bit | value & bit;
            } else if cleared & value & bit != 0 {
                new &= !bit;
            }
        }
        new
    }

    proptest! {
        /// Writes of any width, anywhere, do to each byte what its masks say, and reads of any width show it.
        #[test]
        fn every_write_goes_through_the_masks(
            accesses in prop::collection::vec(
                (0_u16..5000, prop::collection::vec(any::<u8>(), 0..12), any::<bool>()), 1..60),
            express in any::<bool>(),
        ) {
            let spec = if express { full() } else { edu() };
            let mut space = ConfigSpace::new(&spec);
            let mut shadow = space.layout.initial.to_vec();
            let (msi, power) = (space.layout.msi, space.layout.power);
            for (offset, data, poked) in accesses {
                // Most of what matters is in the first 256 bytes.
                let offset = if offset < 4500 { offset % 260 } else { offset };
                let old_state = if power == 0 { 0 } else { shadow[power + 4] & 3 };
                for (at, value) in (usize::from(offset)..shadow.len()).zip(&data) {
                    shadow[at] = if poked && at == 6 { *value } else { model(&space.layout, at, shadow[at], *value) };
                }
                let offered = (shadow[msi + 2] >> 1) & 7;
                if (shadow[msi + 2] >> 4) & 7 > offered {
                    shadow[msi + 2] = shadow[msi + 2] & 0x8f | offered << 4;
                }
                if power != 0 && matches!(shadow[power + 4] & 3, 1 | 2) {
                    shadow[power + 4] = shadow[power + 4] & !3 | old_state;
                }
                space.write(offset, &data);
                if poked && let Some(value) = 6_usize.checked_sub(offset.into()).and_then(|n| data.get(n)) {
                    space.poke_u8(6, *value);
                }
                let mut read = vec![0xee; data.len()];
                space.read(offset, &mut read);
                let there: Vec<u8> = shadow.iter().skip(offset.into()).take(data.len()).copied().collect();
                prop_assert_eq!(&read[..there.len()], &there[..]);
                prop_assert!(read[there.len()..].iter().all(|byte| *byte == 0));
                prop_assert_eq!(&bytes(&space), &shadow);
            }
        }

        /// Whatever is written, identifiers and the capabilities' list stay, and what needs a size still has one.
        #[test]
        fn nothing_fixed_changes(writes in prop::collection::vec((0_u16..4096, any::<u32>()), 0..200)) {
            let spec = full();
            let mut space = ConfigSpace::new(&spec);
            let first = bytes(&space);
            writes.iter().for_each(|(offset, value)| space.write(*offset, &value.to_le_bytes()));
            let last = bytes(&space);
            for at in [0, 1, 2, 3, 8, 9, 10, 11, 0x0d, 0x0e, 0x0f, 0x34, 0x3d] {
                prop_assert_eq!(first[at], last[at]);
            }
            for id in [1, 5, 0x10, 0x11, 9] {
                prop_assert!(space.capability(id).is_some());
            }
            space.write(0x18, &[0xff; 8]);
            prop_assert_eq!(space.bar_address(2), Some(!((8 << 30) - 1)));
        }
    }
}
