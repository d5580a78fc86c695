//! As much of vfio-user's wire format as the clients and the floor need. Integers are in the host's order.

/// Bytes of the header, in front of every message.
pub(crate) const HEADER: usize = 16;
/// Bytes of a region access or of a DMA command without data, header included.
pub(crate) const ACCESS: usize = 32;
/// Bytes of `DMA_MAP`.
pub(crate) const DMA_MAP_SIZE: usize = 48;

pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;

/// Type: a reply.
pub(crate) const REPLY: u32 = 1;
/// The sender wants no reply.
pub(crate) const NO_REPLY: u32 = 0x10;

/// The header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: u16,
    pub(crate) command: u16,
    /// Of the whole message, this header included.
    pub(crate) size: u32,
    pub(crate) flags: u32,
    pub(crate) error: u32,
}

impl Header {
    /// A command that wants a reply.
    pub(crate) fn command(id: u16, command: u16, size: usize) -> Self {
        Self { id, command, size: narrow(size), flags: 0, error: 0 }
    }

    /// The reply to `self`, of `size` bytes.
    pub(crate) fn reply(self, size: usize) -> Self {
        Self { size: narrow(size), flags: REPLY, error: 0, ..self }
    }

    /// The header at the start of `bytes`, which holds at least [`HEADER`] of them.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        Self {
            id: u16_at(bytes, 0),
            command: u16_at(bytes, 2),
            size: u32_at(bytes, 4),
            flags: u32_at(bytes, 8),
            error: u32_at(bytes, 12),
        }
    }

    /// Writes it to the start of `bytes`, which holds at least [`HEADER`] of them.
    pub(crate) fn write(self, bytes: &mut [u8]) {
        bytes[0..2].copy_from_slice(&self.id.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_ne_bytes());
    }

    /// The message's size as a length.
    pub(crate) fn length(self) -> usize {
        self.size as usize
    }
}

/// A region access without data.
pub(crate) fn access(header: Header, region: u32, offset: u64, count: usize) -> [u8; ACCESS] {
    let mut bytes = [0; ACCESS];
    header.write(&mut bytes);
    bytes[16..24].copy_from_slice(&offset.to_ne_bytes());
    bytes[24..28].copy_from_slice(&region.to_ne_bytes());
    bytes[28..32].copy_from_slice(&narrow(count).to_ne_bytes());
    bytes
}

/// A DMA command or reply without data.
pub(crate) fn dma(header: Header, address: u64, count: usize) -> [u8; ACCESS] {
    let mut bytes = [0; ACCESS];
    header.write(&mut bytes);
    bytes[16..24].copy_from_slice(&address.to_ne_bytes());
    bytes[24..32].copy_from_slice(&(count as u64).to_ne_bytes());
    bytes
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(array(bytes, at))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(array(bytes, at))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(array(bytes, at))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

/// A length as the wire has it. Nothing here comes near 4 GiB.
fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
