//! The I/O port bus: 65,536 ports, and devices that have claimed ranges of them.
//!
//! Devices are put on the bus when the board is made; after that the bus never changes, so accesses take no lock of
//! its own. They come from any thread: each device guards itself.
//!
//! An access that one device answers in one piece goes to it in one piece, when the device takes that width; any other
//! is made of single bytes, the lowest first. A byte that nobody answers reads as 0xFF.

use std::fmt;
use std::sync::Arc;

use vmm_control::IoPorts;

/// A device with I/O ports. Offsets count from the first port of its range.
pub(crate) trait PortDevice: Send + Sync + 'static {
    /// The widest access that it takes in one piece: 1, 2 or 4 bytes.
    fn width(&self) -> u8 {
        1
    }

    /// Reads `size` bytes, at most [`width`](Self::width).
    fn read(&self, offset: u16, size: u8) -> u32;

    /// Writes the low `size` bytes of `value`, at most [`width`](Self::width).
    fn write(&self, offset: u16, size: u8, value: u32);
}

/// A range that cannot be claimed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimError {
    /// Another device has one of the ports.
    #[error("I/O ports {first:#x} to {last:#x} of {name} are taken by {owner}")]
    Taken {
        /// Who wants them.
        name: &'static str,
        /// The first.
        first: u16,
        /// The last.
        last: u16,
        /// Who has at least one of them.
        owner: &'static str,
    },
    /// No ports at all, or some beyond the last one.
    #[error("{name} claims I/O ports that do not exist")]
    Range {
        /// Who wants them.
        name: &'static str,
    },
}

struct Claim {
    name: &'static str,
    first: u16,
    last: u16,
    device: Arc<dyn PortDevice>,
}

/// The bus. See the module.
#[derive(Default)]
pub(crate) struct PortBus {
    /// By their first port.
    claims: Vec<Claim>,
}

impl PortBus {
    /// Gives `device`, called `name`, `count` ports from `first` on.
    pub(crate) fn claim(
        &mut self,
        name: &'static str,
        first: u16,
        count: u16,
        device: Arc<dyn PortDevice>,
    ) -> Result<(), ClaimError> {
        let last = count.checked_sub(1).and_then(|more| first.checked_add(more));
        let last = last.ok_or(ClaimError::Range { name })?;
        let place = self.claims.partition_point(|claim| claim.last < first);
        match self.claims.get(place) {
            Some(next) if next.first <= last => {
                Err(ClaimError::Taken { name, first, last, owner: next.name })
            }
            _ => {
                self.claims.insert(place, Claim { name, first, last, device });
                Ok(())
            }
        }
    }

    fn at(&self, port: u16) -> Option<&Claim> {
        let claim = self.claims.get(self.claims.partition_point(|claim| claim.last < port))?;
        (claim.first <= port).then_some(claim)
    }

    /// Who answers the whole access in one piece.
    fn whole(&self, port: u16, size: u8) -> Option<&Claim> {
        let last = port.checked_add(u16::from(size) - 1)?;
        self.at(port).filter(|claim| last <= claim.last && size <= claim.device.width())
    }
}

impl IoPorts for PortBus {
    fn read(&self, port: u16, size: u8) -> u32 {
        let size = size.clamp(1, 4);
        if let Some(claim) = self.whole(port, size) {
            return claim.device.read(port - claim.first, size);
        }
        (0..size).rev().fold(0, |value, byte| {
            // The port after the last one is nobody's.
            let claim = port.checked_add(byte.into()).and_then(|port| Some((port, self.at(port)?)));
            let read = claim.map_or(0xff, |(port, claim)| claim.device.read(port - claim.first, 1));
            value << 8 | read & 0xff
        })
    }

    fn write(&self, port: u16, size: u8, value: u32) {
        let size = size.clamp(1, 4);
        if let Some(claim) = self.whole(port, size) {
            return claim.device.write(port - claim.first, size, value);
        }
        for byte in 0..size {
            if let Some(port) = port.checked_add(byte.into())
                && let Some(claim) = self.at(port)
            {
                claim.device.write(port - claim.first, 1, value >> (8 * byte) & 0xff);
            }
        }
    }
}

impl fmt::Debug for PortBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges = self.claims.iter().map(|claim| (claim.name, (claim.first, claim.last)));
        f.debug_map().entries(ranges).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;

    /// Bytes, and what was asked for.
    struct Memory {
        width: u8,
        bytes: Mutex<[u8; 8]>,
        seen: Mutex<Vec<(u16, u8)>>,
    }

    fn memory(width: u8) -> Arc<Memory> {
        let bytes = Mutex::new([0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17]);
        Arc::new(Memory { width, bytes, seen: Mutex::default() })
    }

    impl PortDevice for Memory {
        fn width(&self) -> u8 {
            self.width
        }

        fn read(&self, offset: u16, size: u8) -> u32 {
            self.seen.lock().unwrap().push((offset, size));
            let bytes = self.bytes.lock().unwrap();
            (0..u16::from(size)).rev().fold(0, |v, n| v << 8 | u32::from(bytes[usize::from(offset + n)]))
        }

        fn write(&self, offset: u16, size: u8, value: u32) {
            let value = value.to_le_bytes();
            for n in 0..size {
                self.bytes.lock().unwrap()[usize::from(offset) + usize::from(n)] = value[usize::from(n)];
            }
        }
    }

    #[test]
    fn an_access_is_split_only_where_it_must_be() {
        let mut bus = PortBus::default();
        let (narrow, wide) = (memory(1), memory(4));
        bus.claim("narrow", 0x70, 2, narrow.clone()).unwrap();
        bus.claim("wide", 0x80, 8, wide.clone()).unwrap();
        assert_eq!(bus.read(0x80, 4), 0x1312_1110);
        assert_eq!(bus.read(0x82, 2), 0x1312);
        assert_eq!(bus.read(0x86, 4), 0xffff_1716);
        assert_eq!(*wide.seen.lock().unwrap(), [(0, 4), (2, 2), (7, 1), (6, 1)]);
        assert_eq!(bus.read(0x70, 4), 0xffff_1110);
        assert_eq!(bus.read(0x6f, 2), 0x10ff);
        bus.write(0x6f, 4, 0xaabb_ccdd);
        assert_eq!(bus.read(0x70, 2), 0xbbcc);
    }

    #[test]
    fn what_nobody_answers_is_all_ones() {
        let bus = PortBus::default();
        assert_eq!([1, 2, 4].map(|size| bus.read(0x70, size)), [0xff, 0xffff, 0xffff_ffff]);
        assert_eq!(bus.read(0xffff, 4), 0xffff_ffff);
        bus.write(0xffff, 4, 0);
    }

    #[test]
    fn ports_have_one_owner() {
        let mut bus = PortBus::default();
        bus.claim("rtc", 0x70, 2, memory(1)).unwrap();
        let error = bus.claim("other", 0x6f, 2, memory(1)).unwrap_err();
        assert_eq!(error.to_string(), "I/O ports 0x6f to 0x70 of other are taken by rtc");
        assert!(bus.claim("other", 0x71, 1, memory(1)).is_err());
        assert!(bus.claim("other", 0x60, 0x100, memory(1)).is_err());
        bus.claim("before", 0x6f, 1, memory(1)).unwrap();
        bus.claim("after", 0x72, 1, memory(1)).unwrap();
        assert_eq!(bus.claim("none", 0, 0, memory(1)), Err(ClaimError::Range { name: "none" }));
        assert_eq!(bus.claim("far", 0xffff, 2, memory(1)), Err(ClaimError::Range { name: "far" }));
        bus.claim("last", 0xffff, 1, memory(1)).unwrap();
        assert_eq!(bus.read(0xffff, 2), 0xff10);
    }

    proptest! {
        /// However ranges are claimed, no port has two owners, and every port that was granted answers.
        #[test]
        fn granted_is_granted(ranges in prop::collection::vec((0u16..40, 0u16..8), 0..12)) {
            let mut bus = PortBus::default();
            let mut owners = [false; 64];
            for (first, count) in ranges {
                let mine = usize::from(first)..usize::from(first + count);
                let free = count > 0 && owners[mine.clone()].iter().all(|taken| !taken);
                prop_assert_eq!(bus.claim("x", first, count, memory(1)).is_ok(), free);
                if free {
                    owners[mine].fill(true);
                }
            }
            for (port, taken) in (0..).zip(owners) {
                prop_assert_eq!(bus.read(port, 1) != 0xff, taken);
            }
        }
    }
}
