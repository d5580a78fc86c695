//! The registers, apart from everything around them.

use super::pieces;
use super::transfer::Transfer;

const IDENTIFICATION: u32 = 0x0100_00ed;

const COMPUTING: u32 = 0x01;
const INTERRUPT_WHEN_COMPUTED: u32 = 0x80;

const RUN: u64 = 1;
const FROM_DEVICE: u64 = 2;
const INTERRUPT_WHEN_TRANSFERRED: u64 = 4;

const COMPUTED: u32 = 0x001;
const TRANSFERRED: u32 = 0x100;

/// What registers ask of their surroundings.
pub(super) trait Surroundings {
    /// The driver uses MSI.
    fn msi(&self) -> bool;
    /// Sends the message.
    fn message(&mut self);
    /// Sets the interrupt pin.
    fn level(&mut self, high: bool);
    /// [`Registers::compute`] is to be called, soon but not now.
    fn compute_later(&mut self);
    /// After the time of a transfer, [`Registers::transfer`] is to be carried out and [`Registers::transferred`] called.
    fn transfer_later(&mut self);
}

/// Values of the registers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Registers {
    /// The inverse of what was written.
    liveness: u32,
    factorial: u32,
    status: u32,
    interrupts: u32,
    source: u64,
    destination: u64,
    count: u64,
    command: u64,
}

impl Registers {
    /// Reads from anywhere, any number of bytes.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) {
        for (start, size) in pieces(offset, data.len()) {
            // Within `data`, whose length is a usize.
            #[allow(clippy::cast_possible_truncation)]
            let at = (start - offset) as usize;
            let value = self.read_piece(start, size).to_le_bytes();
            data[at..at + size].copy_from_slice(&value[..size]);
        }
    }

    fn read_piece(&self, offset: u64, size: usize) -> u64 {
        if size < 4 {
            return 0;
        }
        match offset {
            0x00..0x80 if size != 4 => u64::MAX,
            0x00 => IDENTIFICATION.into(),
            0x04 => self.liveness.into(),
            0x08 => self.factorial.into(),
            0x20 => self.status.into(),
            0x24 => self.interrupts.into(),
            0x80 => self.source,
            0x88 => self.destination,
            0x90 => self.count,
            0x98 => self.command,
            _ => u64::MAX,
        }
    }

    /// Writes anywhere, any number of bytes.
    pub(super) fn write(&mut self, offset: u64, data: &[u8], around: &mut impl Surroundings) {
        for (start, size) in pieces(offset, data.len()) {
            // As in `read`.
            #[allow(clippy::cast_possible_truncation)]
            let at = (start - offset) as usize;
            let mut value = [0; 8];
            value[..size].copy_from_slice(&data[at..at + size]);
            self.write_piece(start, size, u64::from_le_bytes(value), around);
        }
    }

    fn write_piece(&mut self, offset: u64, size: usize, value: u64, around: &mut impl Surroundings) {
        match (offset, size) {
            // A value of four bytes.
            (0x00..0x80, 4) => self.write_low(offset, u32::try_from(value).unwrap_or(0), around),
            (0x80..=0x98, 4 | 8) if self.command & RUN == 0 => self.write_transfer(offset, value, around),
            _ => {}
        }
    }

    fn write_low(&mut self, offset: u64, value: u32, around: &mut impl Surroundings) {
        match offset {
            0x04 => self.liveness = !value,
            0x08 if self.status & COMPUTING == 0 => {
                self.factorial = value;
                self.status |= COMPUTING;
                around.compute_later();
            }
            0x20 => self.status = self.status & COMPUTING | value & INTERRUPT_WHEN_COMPUTED,
            0x60 => self.raise(value, around),
            0x64 => {
                self.interrupts &= !value;
                if self.interrupts == 0 {
                    around.level(false);
                }
            }
            _ => {}
        }
    }

    /// None is under way. A value of four bytes clears the upper half.
    fn write_transfer(&mut self, offset: u64, value: u64, around: &mut impl Surroundings) {
        match offset {
            0x80 => self.source = value,
            0x88 => self.destination = value,
            0x90 => self.count = value,
            0x98 if value & RUN != 0 => {
                self.command = value;
                around.transfer_later();
            }
            _ => {}
        }
    }

    fn raise(&mut self, bits: u32, around: &mut impl Surroundings) {
        self.interrupts |= bits;
        if self.interrupts == 0 {
            return;
        }
        if around.msi() {
            around.level(false);
            around.message();
        } else {
            around.level(true);
        }
    }

    /// Ends a factorial that is being computed.
    pub(super) fn compute(&mut self, around: &mut impl Surroundings) {
        if self.status & COMPUTING == 0 {
            return;
        }
        self.factorial = factorial(self.factorial);
        self.status &= !COMPUTING;
        if self.status & INTERRUPT_WHEN_COMPUTED != 0 {
            self.raise(COMPUTED, around);
        }
    }

    /// The transfer that is under way, if there is one.
    pub(super) fn transfer(&self, mask: u64) -> Transfer {
        if self.command & RUN == 0 {
            return Transfer::Nothing;
        }
        let from_device = self.command & FROM_DEVICE != 0;
        let (inside, outside) =
            if from_device { (self.source, self.destination) } else { (self.destination, self.source) };
        Transfer::new(inside, outside, self.count, mask, from_device)
    }

    /// It has ended, well or not.
    pub(super) fn transferred(&mut self, around: &mut impl Surroundings) {
        if self.command & RUN == 0 {
            return;
        }
        self.command &= !RUN;
        if self.command & INTERRUPT_WHEN_TRANSFERRED != 0 {
            self.raise(TRANSFERRED, around);
        }
    }

    /// MSI may have been switched on: then the pin is not used any more.
    pub(super) fn config_written(&mut self, around: &mut impl Surroundings) {
        if around.msi() {
            around.level(false);
        }
    }

    /// A client sees the interrupts that an earlier one has left.
    pub(super) fn attached(&mut self, around: &mut impl Surroundings) {
        let high = self.interrupts != 0 && !around.msi();
        around.level(high);
    }

    /// Nothing of what was under way is called for any more.
    pub(super) fn hangup(&mut self, around: &mut impl Surroundings) {
        self.compute(around);
        self.command &= !RUN;
    }
}

/// n! modulo 2^32. 34! is the first that has 2^32 as a divisor, as all that follow.
fn factorial(n: u32) -> u32 {
    if n >= 34 { 0 } else { (1..=n).fold(1, u32::wrapping_mul) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Fake {
        msi: bool,
        messages: u32,
        high: bool,
        computing: bool,
        transferring: bool,
    }

    impl Surroundings for Fake {
        fn msi(&self) -> bool {
            self.msi
        }
        fn message(&mut self) {
            self.messages += 1;
        }
        fn level(&mut self, high: bool) {
            self.high = high;
        }
        fn compute_later(&mut self) {
            assert!(!std::mem::replace(&mut self.computing, true));
        }
        fn transfer_later(&mut self) {
            assert!(!std::mem::replace(&mut self.transferring, true));
        }
    }

    impl Fake {
        fn put(&mut self, registers: &mut Registers, offset: u64, value: u32) {
            registers.write(offset, &value.to_le_bytes(), self);
        }

        fn put8(&mut self, registers: &mut Registers, offset: u64, value: u64) {
            registers.write(offset, &value.to_le_bytes(), self);
        }
    }

    fn get(registers: &Registers, offset: u64) -> u32 {
        let mut data = [0; 4];
        registers.read(offset, &mut data);
        u32::from_le_bytes(data)
    }

    fn get8(registers: &Registers, offset: u64) -> u64 {
        let mut data = [0; 8];
        registers.read(offset, &mut data);
        u64::from_le_bytes(data)
    }

    /// As observed on QEMU's device after power-on.
    #[test]
    fn power_on() {
        let registers = Registers::default();
        assert_eq!(get(&registers, 0), 0x0100_00ed);
        for offset in [0x04, 0x08, 0x20, 0x24, 0x80, 0x88, 0x90, 0x98] {
            assert_eq!(get(&registers, offset), 0, "{offset:#x}");
        }
        for offset in [0x0c, 0x60, 0x64, 0x84, 0x9c, 0xa0, 0x4_0000, 0xf_fffc] {
            assert_eq!(get(&registers, offset), u32::MAX, "{offset:#x}");
        }
    }

    #[test]
    fn accesses_have_their_sizes() {
        let (mut registers, mut fake) = (Registers::default(), Fake::default());
        fake.put(&mut registers, 4, 0x1234_5678);
        assert_eq!(get(&registers, 4), !0x1234_5678);
        // Eight bytes below 0x80: ones, and nothing taken.
        assert_eq!(get8(&registers, 0), u64::MAX);
        fake.put8(&mut registers, 8, 5);
        assert!(!fake.computing);
        // Not aligned to eight: two of four.
        assert_eq!(get8(&registers, 4), u64::from(!0x1234_5678_u32));
        fake.put8(&mut registers, 4, 5 << 32 | 1);
        assert_eq!(get(&registers, 4), !1);
        assert!(fake.computing);
        // Not aligned to four, or shorter: zeroes, and nothing taken.
        for (offset, length) in [(0, 1), (0, 2), (2, 4), (3, 2), (0x81, 4), (0x82, 2)] {
            let mut data = vec![0xff; length];
            registers.read(offset, &mut data);
            assert!(data.iter().all(|byte| *byte == 0), "{offset:#x} {length}");
        }
        let before = registers.clone();
        registers.write(4, &[1], &mut fake);
        registers.write(6, &[1; 4], &mut fake);
        assert_eq!(registers, before);
        // The aligned piece in the midst.
        let mut data = [0xee; 8];
        registers.read(1, &mut data);
        assert_eq!(data, [0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0]);
    }

    #[test]
    fn factorials() {
        let (mut registers, mut fake) = (Registers::default(), Fake::default());
        let observed =
            [(0, 1), (1, 1), (12, 0x1c8c_fc00), (13, 0x7328_cc00), (33, 0x8000_0000), (34, 0), (u32::MAX, 0)];
        for (n, result) in observed {
            fake.put(&mut registers, 8, n);
            assert_eq!((get(&registers, 8), get(&registers, 0x20)), (n, 1));
            // Ignored meanwhile.
            fake.put(&mut registers, 8, 7);
            assert!(std::mem::take(&mut fake.computing));
            registers.compute(&mut fake);
            assert_eq!((get(&registers, 8), get(&registers, 0x20)), (result, 0));
        }
        assert_eq!(get(&registers, 0x24), 0);
        fake.put(&mut registers, 8, 3);
        fake.put(&mut registers, 0x20, u32::MAX);
        assert_eq!(get(&registers, 0x20), 0x81);
        registers.compute(&mut fake);
        assert_eq!((get(&registers, 0x20), get(&registers, 0x24), fake.high), (0x80, 1, true));
    }

    #[test]
    fn the_pin_is_a_level() {
        let (mut registers, mut fake) = (Registers::default(), Fake::default());
        fake.put(&mut registers, 0x60, 0);
        assert!(!fake.high);
        fake.put(&mut registers, 0x60, 0x30);
        assert!(fake.high);
        fake.put(&mut registers, 0x64, 0x10);
        assert_eq!((get(&registers, 0x24), fake.high), (0x20, true));
        fake.put(&mut registers, 0x64, 0x20);
        assert_eq!((get(&registers, 0x24), fake.high, fake.messages), (0, false, 0));
    }

    #[test]
    fn messages_are_one_for_each_raise() {
        let (mut registers, mut fake) = (Registers::default(), Fake::default());
        fake.put(&mut registers, 0x60, 1);
        assert!(fake.high);
        fake.msi = true;
        registers.config_written(&mut fake);
        assert!(!fake.high);
        for (raised, messages) in [(1, 1), (0, 2), (4, 3)] {
            fake.put(&mut registers, 0x60, raised);
            assert_eq!((fake.messages, fake.high), (messages, false));
        }
        fake.put(&mut registers, 0x64, 1);
        assert_eq!(fake.messages, 3);
        fake.msi = false;
        registers.config_written(&mut fake);
        assert!(!fake.high);
        fake.put(&mut registers, 0x60, 0);
        assert!(fake.high);
    }

    #[test]
    fn transfers_hold_their_registers() {
        let (mut registers, mut fake) = (Registers::default(), Fake::default());
        fake.put8(&mut registers, 0x80, 0x1_0000_1000);
        assert_eq!(get8(&registers, 0x80), 0x1_0000_1000);
        fake.put(&mut registers, 0x80, 0x2000);
        assert_eq!(get8(&registers, 0x80), 0x2000);
        fake.put8(&mut registers, 0x88, 0x4_0800);
        fake.put8(&mut registers, 0x90, 0x100);
        fake.put8(&mut registers, 0x98, 0xfe);
        assert_eq!((get8(&registers, 0x98), fake.transferring), (0, false));
        assert_eq!(registers.transfer(u64::MAX), Transfer::Nothing);
        fake.put(&mut registers, 0x98, 5);
        assert!(fake.transferring);
        for offset in [0x80, 0x88, 0x90, 0x98] {
            fake.put8(&mut registers, offset, u64::MAX);
        }
        assert_eq!(registers.transfer(u64::MAX), Transfer::Read { iova: 0x2000, at: 0x800, count: 0x100 });
        registers.transferred(&mut fake);
        assert_eq!((get8(&registers, 0x98), get(&registers, 0x24), fake.high), (4, 0x100, true));
        registers.transferred(&mut fake);
        fake.transferring = false;
        fake.put8(&mut registers, 0x98, u64::MAX);
        assert_eq!(registers.transfer(u64::MAX), Transfer::OutOfBounds);
        registers.hangup(&mut fake);
        assert_eq!(get8(&registers, 0x98), u64::MAX - 1);
    }

    proptest! {
        /// Whatever is written where, and whenever what was put off is done, the device says what it must.
        #[test]
        fn any_value_in_any_register_is_harmless(
            steps in prop::collection::vec(
                (prop_oneof![0_u64..0xa8, 0_u64..0x10_0000], prop::collection::vec(any::<u8>(), 0..17), 0_u8..12),
                1..200),
            mask in prop_oneof![Just(0x0fff_ffff_u64), any::<u64>()],
        ) {
            let (mut registers, mut fake) = (Registers::default(), Fake::default());
            for (offset, data, what) in steps {
                match what {
                    0 => fake.computing = { registers.compute(&mut fake); false },
                    1 if fake.transferring => {
                        if let Transfer::Read { iova, at, count } | Transfer::Write { iova, at, count } =
                            registers.transfer(mask)
                        {
                            prop_assert!(count > 0 && at + count <= 4096 && iova & !mask == 0);
                        }
                        registers.transferred(&mut fake);
                        fake.transferring = false;
                    }
                    2 => {
                        fake.msi = !fake.msi;
                        registers.config_written(&mut fake);
                    }
                    3 => {
                        let mut read = vec![0; data.len()];
                        registers.read(offset, &mut read);
                    }
                    4 => {
                        registers.hangup(&mut fake);
                        (fake.computing, fake.transferring) = (false, false);
                    }
                    _ => registers.write(offset, &data, &mut fake),
                }
                prop_assert_eq!(get(&registers, 0), IDENTIFICATION);
                prop_assert_eq!(registers.status & !0x81, 0);
                prop_assert_eq!(registers.status & COMPUTING != 0, fake.computing);
                prop_assert_eq!(registers.command & RUN != 0, fake.transferring);
                prop_assert!(!fake.high || registers.interrupts != 0 && !fake.msi);
            }
        }
    }
}
