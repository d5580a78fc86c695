//! The types of objects that every plane has.

mod iothread;
mod memory;

pub use self::iothread::{IoThreadObject, IothreadProperties};
pub use self::memory::{
    HostMemPolicy, MemoryBackend, MemoryBackendMemfd, MemoryBackendMemfdProperties, MemoryBackendProperties,
    MemoryBackendRam,
};

pub(crate) use self::iothread::iothread;
pub(crate) use self::memory::{memory_backend_memfd, memory_backend_ram};
