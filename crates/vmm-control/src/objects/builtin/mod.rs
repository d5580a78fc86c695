//! The types of objects that every plane has.

mod chardev;
mod iothread;
mod memory;
mod memory_map;
mod monitor;

pub use self::chardev::ChardevSocketProperties;
pub use self::iothread::{IoThreadObject, IothreadProperties};
pub use self::memory::{
    HostMemPolicy, MemoryBackend, MemoryBackendMemfd, MemoryBackendMemfdProperties, MemoryBackendProperties,
    MemoryBackendRam,
};
pub use self::monitor::{
    CloseAction, FdSetsScope, MonitorHmp, MonitorHmpProperties, MonitorQmp, MonitorQmpProperties, NamedFds,
};

pub(crate) use self::chardev::{OtherObject, SocketObject};
pub(crate) use self::iothread::iothread;
pub(crate) use self::memory::{memory_backend_memfd, memory_backend_ram};
pub(crate) use self::monitor::{monitor_hmp, monitor_qmp};
