//! Messages: a header of 16 bytes and a body.

/// Commands.
pub mod command {
    #![allow(missing_docs, reason = "the protocol's names")]
    pub const VERSION: u16 = 1;
    pub const DMA_MAP: u16 = 2;
    pub const DMA_UNMAP: u16 = 3;
    pub const DEVICE_GET_INFO: u16 = 4;
    pub const DEVICE_GET_REGION_INFO: u16 = 5;
    pub const DEVICE_GET_REGION_IO_FDS: u16 = 6;
    pub const DEVICE_GET_IRQ_INFO: u16 = 7;
    pub const DEVICE_SET_IRQS: u16 = 8;
    pub const REGION_READ: u16 = 9;
    pub const REGION_WRITE: u16 = 10;
    pub const DMA_READ: u16 = 11;
    pub const DMA_WRITE: u16 = 12;
    pub const DEVICE_RESET: u16 = 13;
    pub const DIRTY_PAGES: u16 = 14;
    pub const REGION_WRITE_MULTI: u16 = 15;
    pub const DEVICE_FEATURE: u16 = 16;
    pub const MIG_DATA_READ: u16 = 17;
    pub const MIG_DATA_WRITE: u16 = 18;
}

/// Bits of a header's flags.
pub mod flags {
    /// The bits that hold the type.
    pub const TYPE: u32 = 0xf;
    /// Type: a command.
    pub const COMMAND: u32 = 0;
    /// Type: a reply.
    pub const REPLY: u32 = 1;
    /// No reply is wanted.
    pub const NO_REPLY: u32 = 0x10;
    /// The reply says an error.
    pub const ERROR: u32 = 0x20;
}

/// A header, as it is on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Chosen by who sends the command.
    pub id: u16,
    /// One of [`command`].
    pub command: u16,
    /// Of the whole message.
    pub size: u32,
    /// See [`flags`].
    pub flags: u32,
    /// An errno, in error replies.
    pub error: u32,
}

impl Header {
    /// In bytes.
    pub const SIZE: usize = 16;

    /// To bytes.
    pub fn encode(self) -> [u8; Self::SIZE] {
        let mut bytes = [0; Self::SIZE];
        bytes[..2].copy_from_slice(&self.id.to_ne_bytes());
        bytes[2..4].copy_from_slice(&self.command.to_ne_bytes());
        bytes[4..8].copy_from_slice(&self.size.to_ne_bytes());
        bytes[8..12].copy_from_slice(&self.flags.to_ne_bytes());
        bytes[12..].copy_from_slice(&self.error.to_ne_bytes());
        bytes
    }

    /// From bytes.
    pub fn decode(bytes: [u8; Self::SIZE]) -> Self {
        let half = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { id: half(0), command: half(2), size: word(4), flags: word(8), error: word(12) }
    }
}

/// A message. What is sent need not be true: its size can be set to anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// All that follows it.
    pub body: Vec<u8>,
}

impl Message {
    /// A command, with the right size and id 0.
    pub fn command(command: u16, body: impl Into<Vec<u8>>) -> Self {
        let body = body.into();
        let size = u32::try_from(Header::SIZE + body.len()).unwrap_or(u32::MAX);
        Self { header: Header { id: 0, command, size, flags: flags::COMMAND, error: 0 }, body }
    }

    /// A reply to a command of the server.
    pub fn reply_to(command: &Header, body: impl Into<Vec<u8>>) -> Self {
        Self::command(command.command, body).id(command.id).flags(flags::REPLY)
    }

    /// An error reply to a command of the server.
    pub fn error_to(command: &Header, errno: u32) -> Self {
        let mut reply = Self::reply_to(command, []).flags(flags::REPLY | flags::ERROR);
        reply.header.error = errno;
        reply
    }

    /// With this id.
    #[must_use]
    pub fn id(mut self, id: u16) -> Self {
        self.header.id = id;
        self
    }

    /// With this size in its header, whatever its body is.
    #[must_use]
    pub fn size(mut self, size: u32) -> Self {
        self.header.size = size;
        self
    }

    /// With these flags.
    #[must_use]
    pub fn flags(mut self, flags: u32) -> Self {
        self.header.flags = flags;
        self
    }

    /// Without a wish for a reply.
    #[must_use]
    pub fn no_reply(self) -> Self {
        let flags = self.header.flags | flags::NO_REPLY;
        self.flags(flags)
    }

    /// To bytes.
    pub fn encode(&self) -> Vec<u8> {
        [&self.header.encode()[..], &self.body].concat()
    }

    /// Whether it is a reply.
    pub fn is_reply(&self) -> bool {
        self.header.flags & flags::TYPE == flags::REPLY
    }

    /// The errno of an error reply.
    pub fn errno(&self) -> Option<u32> {
        (self.header.flags & flags::ERROR != 0).then_some(self.header.error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn golden_bytes() {
        let message = Message::command(command::DEVICE_GET_INFO, [16, 0, 0, 0]).id(0x1234).no_reply();
        let golden = [0x34, 0x12, 4, 0, 20, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0];
        assert_eq!(message.encode(), golden);
        let error = Message::error_to(&message.header, errno_of_19()).encode();
        assert_eq!(error, [0x34, 0x12, 4, 0, 16, 0, 0, 0, 0x21, 0, 0, 0, 19, 0, 0, 0]);
    }

    fn errno_of_19() -> u32 {
        19
    }

    #[test]
    fn headers_survive_the_wire() {
        let header =
            Header { id: 1, command: 0x203, size: 0x0405_0607, flags: 0x0809_0a0b, error: 0x0c0d_0e0f };
        assert_eq!(Header::decode(header.encode()), header);
    }
}
