//! What a session allows, and what ends it.

use super::header::{HEADER, Header, Kind, command};

/// What is accepted beyond the payload of the largest access: its header and fields, and some air.
const SLACK: usize = 32 + 4096;
/// Largest `VERSION`: its 20 bytes and this much JSON.
pub(super) const MAX_VERSION_JSON: usize = 16 * 1024;

/// Descriptors taken in a message; more are refused.
pub const MAX_MESSAGE_FDS: usize = 16;

/// Limits of a session. What it holds for its client stays below a few times these, whatever the client does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SessionLimits {
    /// The largest access, in bytes. 1 MiB; at most 64 MiB, beyond which QEMU does not talk to a server.
    pub max_data_xfer_size: u32,
    /// Maps that the client is told it may make. 65535, the most that QEMU accepts.
    pub max_dma_maps: u32,
    /// While more output than this waits, in bytes, no command is executed. 256 KiB. One reply of any size always passes.
    pub output: usize,
    /// Commands, in bytes, that are set aside so that replies behind them are reached while commands must wait. 256 KiB.
    pub held: usize,
    /// Writes to memory from this size on, in bytes, are taken in pieces as they come. 128 KiB.
    pub pieces: usize,
    /// Deferred accesses at once; no command is executed while there are so many. 256, the most that is possible.
    pub deferred: usize,
    /// Bytes of deferred reads at once, likewise. 4 MiB.
    pub deferred_bytes: usize,
    /// Commands of ours without a reply at once. 1024, the most that is possible.
    pub pending: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            max_data_xfer_size: 1 << 20,
            max_dma_maps: 65535,
            output: 256 << 10,
            held: 256 << 10,
            pieces: 128 << 10,
            deferred: 256,
            deferred_bytes: 4 << 20,
            pending: 1024,
        }
    }
}

impl SessionLimits {
    /// The largest message, in bytes.
    pub(super) fn message(&self) -> usize {
        self.max_data_xfer_size as usize + SLACK
    }

    /// Whether a message may come in, judged by its header alone, so before anything is allocated for it.
    pub(super) fn accept(&self, header: &Header, negotiated: bool) -> Result<Kind, Violation> {
        let kind = header.kind().ok_or(Violation::Type(header.type_bits()))?;
        let size = header.size as usize;
        if size < HEADER || size > self.message() {
            return Err(Violation::Size(header.size));
        }
        let version = kind == Kind::Command && header.command == command::VERSION;
        if version && size > HEADER + 4 + MAX_VERSION_JSON {
            return Err(Violation::Size(header.size));
        }
        if !negotiated && !version {
            return Err(Violation::BeforeVersion(header.command));
        }
        Ok(kind)
    }
}

/// What a client did after which its stream cannot be trusted, or that makes it no client of ours. The connection ends
/// once the output that there is has been sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Neither a command nor a reply.
    #[error("a message of type {0}")]
    Type(u32),
    /// Shorter than a header, or over the limit.
    #[error("a message of {0} bytes")]
    Size(u32),
    /// Something came before `VERSION`.
    #[error("command {0} before VERSION")]
    BeforeVersion(u16),
    /// `VERSION` does not fit.
    #[error("VERSION is refused: {0}")]
    Version(String),
    /// A command came on the socket that is for our commands.
    #[error("command {0} on the socket for the server's commands")]
    TwinCommand(u16),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u16, size: u32, flags: u32) -> Header {
        Header { id: 1, command, size, flags, error: 0 }
    }

    #[test]
    fn sizes_and_types_are_judged_by_the_header() {
        let limits = SessionLimits::default();
        let most = (1 << 20) + 32 + 4096;
        let accept = |command, size, flags| limits.accept(&header(command, size, flags), true);
        for size in [16, 17, 1 << 20, most] {
            assert_eq!(accept(command::REGION_WRITE, size, 0), Ok(Kind::Command));
            assert_eq!(accept(command::DMA_READ, size, 1), Ok(Kind::Reply));
        }
        for size in [0, 1, 15, most + 1, u32::MAX] {
            assert_eq!(accept(command::REGION_WRITE, size, 0), Err(Violation::Size(size)));
        }
        for bits in 2..16 {
            assert_eq!(accept(command::REGION_READ, 32, bits), Err(Violation::Type(bits)));
        }
    }

    #[test]
    fn version_comes_first_and_is_small() {
        let limits = SessionLimits::default();
        let most = 20 + 16 * 1024;
        assert_eq!(limits.accept(&header(command::VERSION, most, 0), false), Ok(Kind::Command));
        assert_eq!(
            limits.accept(&header(command::VERSION, most + 1, 0), false),
            Err(Violation::Size(most + 1))
        );
        assert_eq!(
            limits.accept(&header(command::REGION_READ, 32, 0), false),
            Err(Violation::BeforeVersion(9))
        );
        assert_eq!(limits.accept(&header(command::VERSION, 16, 1), false), Err(Violation::BeforeVersion(1)));
    }
}
