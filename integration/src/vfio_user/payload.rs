//! What the commands carry.

use super::message::{Message, command};

/// `DEVICE_SET_IRQS`: indexes and flags.
pub mod irq {
    #![allow(missing_docs, reason = "the protocol's names")]
    pub const INTX: u32 = 0;
    pub const MSI: u32 = 1;
    pub const MSIX: u32 = 2;
    pub const ERR: u32 = 3;
    pub const REQ: u32 = 4;
    pub const NONE: u32 = 1;
    pub const BOOL: u32 = 2;
    pub const EVENTFD: u32 = 4;
    pub const MASK: u32 = 8;
    pub const UNMASK: u32 = 16;
    pub const TRIGGER: u32 = 32;
}

/// `DMA_MAP`: the memory may be read.
pub const READ: u32 = 1;
/// `DMA_MAP`: the memory may be written.
pub const WRITE: u32 = 2;
/// `DMA_UNMAP`: all of them.
pub const UNMAP_ALL: u32 = 2;

/// Bytes, put together from numbers.
#[derive(Debug, Clone, Default)]
pub struct Body(pub Vec<u8>);

impl Body {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// And 16 bits.
    #[must_use]
    pub fn u16(self, value: u16) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// And 32 bits.
    #[must_use]
    pub fn u32(self, value: u32) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// And 64 bits.
    #[must_use]
    pub fn u64(self, value: u64) -> Self {
        self.bytes(&value.to_ne_bytes())
    }

    /// And these.
    #[must_use]
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

impl From<Body> for Vec<u8> {
    fn from(body: Body) -> Self {
        body.0
    }
}

/// A number of 32 bits of what was received.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let Some(Ok(number)) = bytes.get(at..at + 4).map(TryInto::try_into) else {
        panic!("{} bytes, no number at {at}: {bytes:02x?}", bytes.len())
    };
    u32::from_ne_bytes(number)
}

/// A number of 64 bits of what was received.
///
/// # Panics
/// When there is none.
#[track_caller]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let Some(Ok(number)) = bytes.get(at..at + 8).map(TryInto::try_into) else {
        panic!("{} bytes, no number at {at}: {bytes:02x?}", bytes.len())
    };
    u64::from_ne_bytes(number)
}

/// `VERSION` with any bytes for its text: a text needs a NUL at its end.
pub fn version(major: u16, minor: u16, text: impl AsRef<[u8]>) -> Message {
    Message::command(command::VERSION, Body::new().u16(major).u16(minor).bytes(text.as_ref()))
}

/// The `VERSION` that QEMU sends.
pub fn qemu_version() -> Message {
    version(0, 0, QEMU_TEXT)
}

/// What QEMU says of itself.
pub const QEMU_TEXT: &str = "{\"capabilities\": {\"max_msg_fds\": 16, \"max_data_xfer_size\": 1048576, \
    \"pgsizes\": 4096, \"max_dma_maps\": 65535, \"write_multiple\": true, \
    \"migration\": {\"pgsize\": 4096, \"max_bitmap_size\": 268435456}}}\0";

/// `DEVICE_GET_INFO`.
pub fn get_info() -> Message {
    Message::command(command::DEVICE_GET_INFO, Body::new().u32(16).u32(0).u32(0).u32(0))
}

/// `DEVICE_GET_REGION_INFO`, with room for `argsz` bytes.
pub fn region_info(index: u32, argsz: u32) -> Message {
    let body = Body::new().u32(argsz).u32(0).u32(index).u32(0).u64(0).u64(0);
    Message::command(command::DEVICE_GET_REGION_INFO, body)
}

/// `DEVICE_GET_REGION_IO_FDS`, with room for `argsz` bytes.
pub fn region_io_fds(index: u32, argsz: u32) -> Message {
    let body = Body::new().u32(argsz).u32(0).u32(index).u32(0);
    Message::command(command::DEVICE_GET_REGION_IO_FDS, body)
}

/// `DEVICE_GET_IRQ_INFO`.
pub fn irq_info(index: u32) -> Message {
    Message::command(command::DEVICE_GET_IRQ_INFO, Body::new().u32(16).u32(0).u32(index).u32(0))
}

/// `DEVICE_SET_IRQS`.
pub fn set_irqs(flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Message {
    let argsz = u32::try_from(20 + data.len()).unwrap_or(u32::MAX);
    let body = Body::new().u32(argsz).u32(flags).u32(index).u32(start).u32(count).bytes(data);
    Message::command(command::DEVICE_SET_IRQS, body)
}

/// `REGION_READ`.
pub fn region_read(region: u32, offset: u64, count: u32) -> Message {
    Message::command(command::REGION_READ, Body::new().u64(offset).u32(region).u32(count))
}

/// `REGION_WRITE`.
pub fn region_write(region: u32, offset: u64, data: &[u8]) -> Message {
    let count = u32::try_from(data.len()).unwrap_or(u32::MAX);
    region_write_of(region, offset, count, data)
}

/// `REGION_WRITE` whose count need not be that of its data.
pub fn region_write_of(region: u32, offset: u64, count: u32, data: &[u8]) -> Message {
    let body = Body::new().u64(offset).u32(region).u32(count).bytes(data);
    Message::command(command::REGION_WRITE, body)
}

/// `DEVICE_RESET`.
pub fn reset() -> Message {
    Message::command(command::DEVICE_RESET, [])
}

/// `DMA_MAP`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DmaMap {
    /// Of the payload.
    pub argsz: u32,
    /// [`READ`], [`WRITE`].
    pub flags: u32,
    /// In the file.
    pub offset: u64,
    /// Where the device sees it.
    pub iova: u64,
    /// In bytes.
    pub size: u64,
}

impl DmaMap {
    /// May be read and written, from the start of the file.
    pub fn new(iova: u64, size: u64) -> Self {
        Self { argsz: 32, flags: READ | WRITE, offset: 0, iova, size }
    }

    /// With these flags.
    #[must_use]
    pub fn flags(self, flags: u32) -> Self {
        Self { flags, ..self }
    }

    /// From this place in the file.
    #[must_use]
    pub fn offset(self, offset: u64) -> Self {
        Self { offset, ..self }
    }

    /// The command.
    pub fn message(self) -> Message {
        let body = Body::new().u32(self.argsz).u32(self.flags).u64(self.offset).u64(self.iova).u64(self.size);
        Message::command(command::DMA_MAP, body)
    }
}

/// `DMA_UNMAP`.
pub fn dma_unmap(flags: u32, iova: u64, size: u64) -> Message {
    Message::command(command::DMA_UNMAP, Body::new().u32(24).u32(flags).u64(iova).u64(size))
}

/// The 16 bytes that have the scratch device read `len` bytes from `iova`, `n` times, when written to its region 2.
pub fn scratch_start(iova: u64, n: u32, len: u32) -> Message {
    region_write(2, 0, &Vec::from(Body::new().u64(iova).u32(n).u32(len)))
}

#[cfg(test)]
#[cfg(target_endian = "little")]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_the_protocol() {
        let sizes = [
            (get_info(), 32),
            (region_info(7, 32), 48),
            (region_io_fds(0, 16), 32),
            (irq_info(2), 32),
            (set_irqs(0x24, 0, 0, 1, &[]), 36),
            (region_read(7, 0, 256), 32),
            (region_write(7, 4, &[0, 0]), 34),
            (reset(), 16),
            (DmaMap::new(0, 4096).message(), 48),
            (dma_unmap(0, 0, 4096), 40),
            (qemu_version(), 214),
        ];
        for (message, size) in sizes {
            assert_eq!(message.header.size, size, "{message:?}");
            assert_eq!(message.encode().len(), size as usize, "{message:?}");
        }
    }

    #[test]
    fn golden_bytes() {
        let map = DmaMap::new(0x1000, 0x2000).offset(0x3000).message().encode();
        let golden = "00000200 30000000 00000000 00000000 20000000 03000000 00300000 00000000 \
                      00100000 00000000 00200000 00000000";
        assert_eq!(hex(&map), golden);
        let irqs = set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 1, 2, &[]).id(7).encode();
        assert_eq!(
            hex(&irqs),
            "07000800 24000000 00000000 00000000 14000000 24000000 02000000 01000000 02000000"
        );
        let read = region_read(7, 0x30, 4).encode();
        assert_eq!(hex(&read), "00000900 20000000 00000000 00000000 30000000 00000000 07000000 04000000");
        let version = version(0, 1, "{}\0").encode();
        assert_eq!(hex(&version), "00000100 17000000 00000000 00000000 00000100 7b7d00");
        let unmap = dma_unmap(UNMAP_ALL, 0, 0).encode();
        assert_eq!(
            hex(&unmap),
            "00000300 28000000 00000000 00000000 18000000 02000000 00000000 00000000 00000000 00000000"
        );
    }

    fn hex(bytes: &[u8]) -> String {
        let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        bytes.chunks(4).map(word).collect::<Vec<_>>().join(" ")
    }
}
