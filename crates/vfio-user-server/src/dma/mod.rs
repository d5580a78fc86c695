//! The client's memory.

/// Why DMA failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// The client has mapped nothing there, or not all of it, or has unmapped it meanwhile.
    #[error("the range is not mapped")]
    Unmapped,
    /// The map does not permit it.
    #[error("the map does not permit that")]
    Permission,
    /// The client gave no descriptor for it: only the form with completion reaches it.
    #[error("the memory is reached by messages only")]
    NotLocal,
    /// The client's memory has gone: its file was truncated, say.
    #[error("the memory has gone")]
    Gone,
    /// The client has answered with an error.
    #[error("the client has failed: {0}")]
    Client(crate::Errno),
    /// The client has not answered in time.
    #[error("the client has not answered in time")]
    TimedOut,
}

/// How the client's memory is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DmaPolicy {
    /// Directly where nothing can go wrong (a memfd that cannot shrink), else through system calls or messages.
    #[default]
    Auto,
    /// Directly wherever the client gives a descriptor: the operator's word that the client is trusted not to truncate its
    /// memory, which would end this process.
    Map,
}

/// How one map is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DmaPath {
    /// Mapped, and touched directly.
    Direct,
    /// `pread` and `pwrite` on the client's file.
    File,
    /// Mapped, and touched by `process_vm_readv` and its like.
    Copy,
    /// Messages to the client.
    Message,
}

/// One map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MapInfo {
    /// Where the device sees it.
    pub iova: u64,
    /// In bytes.
    pub size: u64,
    /// The device may read it.
    pub readable: bool,
    /// The device may write it.
    pub writable: bool,
    /// How it is reached.
    pub path: DmaPath,
}
