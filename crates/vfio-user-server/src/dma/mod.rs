//! The client's memory, touched only in ways that can neither end nor stall this process.
//!
//! A [`DmaTable`] holds what the client has mapped. It belongs to one context and its thread; reads and writes take no lock
//! and allocate nothing.
//!
//! What the client gives is a descriptor whose file it goes on owning: it can truncate it, punch holes into it and change
//! the flags of the description, before, during and after an access. So:
//!
//! * Looking at the file's size before an access is no protection: it can shrink before the access is made, which would
//!   then end this process with `SIGBUS`. The size is looked at once, when a map is made, to refuse mistakes.
//! * Only memory that cannot shrink is touched [directly](DmaPath::Direct): memfds that are sealed against it. Holes punched
//!   into them read as zeros.
//! * All else is read with `pread` and written by [letting the kernel copy](DmaPath::Copy) to a mapping of ours. `pwrite` would
//!   wait for the file's lock, which a client can hold for ever; see the source of `sys::process_vm`.
//! * Only files on tmpfs and hugetlbfs are taken: others may have to ask somebody for their data. They are told apart
//!   without asking the file system anything.
//!
//! A file is kept open once, however many maps of it there are.
//!
//! Pages that an access is the first to touch are charged to this process, as with any shared memory.

mod backing;
mod budget;
mod file_kind;
mod files;
mod host;
mod segments;
mod table;

pub use segments::{Segment, Segments};
pub use table::{DirectFile, DmaTable};

/// Asks the host what has to be read from a file: the thread that serves may be forbidden to open one.
pub(crate) fn ask_host() {
    host::strict_overcommit();
}

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
    /// Directly where nothing can go wrong (a memfd that is sealed against shrinking and not on hugetlbfs, unless the
    /// client asks for file I/O), else through system calls or messages. The descriptor must be a file on tmpfs or
    /// hugetlbfs.
    #[default]
    Auto,
    /// Directly wherever the client gives a descriptor of a regular file, of any file system: the operator's word that the
    /// client is trusted not to truncate its memory, which would end this process. What cannot be mapped is read and
    /// written with `pread` and `pwrite`.
    Map,
}

/// How one map is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DmaPath {
    /// Mapped, and touched directly.
    Direct,
    /// `pread` on the client's file; writes, if the map permits them, with `pwrite`, which only [`DmaPolicy::Map`] does.
    File,
    /// Read with `pread` on the client's file, written by `process_vm_writev` to a mapping of it.
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
