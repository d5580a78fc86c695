//! The 16 bytes in front of every message, and reading fields out of bytes. Integers are in the host's order.

/// Bytes of a header.
pub(super) const HEADER: usize = 16;

/// Numbers of commands.
pub(super) mod command {
    pub(crate) const VERSION: u16 = 1;
    pub(crate) const DMA_MAP: u16 = 2;
    pub(crate) const DMA_UNMAP: u16 = 3;
    pub(crate) const DEVICE_GET_INFO: u16 = 4;
    pub(crate) const DEVICE_GET_REGION_INFO: u16 = 5;
    pub(crate) const DEVICE_GET_REGION_IO_FDS: u16 = 6;
    pub(crate) const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub(crate) const DEVICE_SET_IRQS: u16 = 8;
    pub(crate) const REGION_READ: u16 = 9;
    pub(crate) const REGION_WRITE: u16 = 10;
    pub(crate) const DMA_READ: u16 = 11;
    pub(crate) const DMA_WRITE: u16 = 12;
    pub(crate) const DEVICE_RESET: u16 = 13;
}

const TYPE: u32 = 0xf;
const REPLY: u32 = 1;
const NO_REPLY: u32 = 1 << 4;
const ERROR: u32 = 1 << 5;

/// A header, as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Chosen by who sent the command.
    pub(super) id: u16,
    /// Also in replies.
    pub(super) command: u16,
    /// Of the whole message, this header included.
    pub(super) size: u32,
    pub(super) flags: u32,
    /// An errno, if the flags say so.
    pub(super) error: u32,
}

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Command,
    Reply,
}

impl Header {
    /// The header at the start of `bytes`, if all of it is there.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        Some(Self {
            id: u16_at(bytes, 0),
            command: u16_at(bytes, 2),
            size: u32_at(bytes, 4),
            flags: u32_at(bytes, 8),
            error: u32_at(bytes, 12),
        })
    }

    /// A command of ours.
    pub(super) fn command(id: u16, command: u16, size: u32) -> Self {
        Self { id, command, size, flags: 0, error: 0 }
    }

    /// The header of this command's reply.
    pub(super) fn reply(&self, size: u32) -> Self {
        Self { id: self.id, command: self.command, size, flags: REPLY, error: 0 }
    }

    /// The whole of this command's error reply. An errno of 0 would be read as success, so it is never sent.
    pub(super) fn error_reply(&self, errno: i32) -> Self {
        let error = errno.unsigned_abs();
        let error = if error == 0 { libc::EIO.unsigned_abs() } else { error };
        Self { flags: REPLY | ERROR, error, ..self.reply(16) }
    }

    /// `None` if the type bits are neither.
    pub(super) fn kind(&self) -> Option<Kind> {
        match self.flags & TYPE {
            0 => Some(Kind::Command),
            REPLY => Some(Kind::Reply),
            _ => None,
        }
    }

    /// The type bits.
    pub(super) fn type_bits(&self) -> u32 {
        self.flags & TYPE
    }

    /// No reply is wanted, not even an error.
    pub(super) fn no_reply(&self) -> bool {
        self.flags & NO_REPLY != 0
    }

    /// It is an error reply.
    pub(super) fn is_error(&self) -> bool {
        self.flags & ERROR != 0
    }

    /// As it is sent.
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..2].copy_from_slice(&self.id.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[12..16].copy_from_slice(&self.error.to_ne_bytes());
        bytes
    }
}

/// The field at `at`, which the caller has checked to be there.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes(chunk_at(bytes, at))
}

/// The field at `at`, which the caller has checked to be there.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(chunk_at(bytes, at))
}

/// The field at `at`, which the caller has checked to be there.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(chunk_at(bytes, at))
}

fn chunk_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut chunk = [0; N];
    chunk.copy_from_slice(&bytes[at..at + N]);
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_the_protocol_says() {
        let bytes = Header { id: 0x0102, command: 9, size: 32, flags: 0x10, error: 0 }.to_bytes();
        assert_eq!(u16_at(&bytes, 0), 0x0102);
        assert_eq!(u16_at(&bytes, 2), 9);
        assert_eq!(u32_at(&bytes, 4), 32);
        assert_eq!(u32_at(&bytes, 8), 0x10);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.kind(), Some(Kind::Command));
        assert!(header.no_reply() && !header.is_error());
        assert_eq!(Header::parse(&bytes[..15]), None);
    }

    #[test]
    fn only_two_types_exist() {
        for bits in 0..16 {
            let header = Header { flags: bits, ..Header::command(1, 1, 16) };
            let kind = match bits {
                0 => Some(Kind::Command),
                1 => Some(Kind::Reply),
                _ => None,
            };
            assert_eq!(header.kind(), kind);
        }
    }

    #[test]
    fn an_error_reply_has_a_real_errno() {
        let command = Header::command(7, 10, 36);
        let reply = command.error_reply(libc::ENOENT);
        assert_eq!((reply.id, reply.command, reply.size, reply.flags, reply.error), (7, 10, 16, 0x21, 2));
        assert_eq!(command.error_reply(0).error, libc::EIO.unsigned_abs());
    }
}
