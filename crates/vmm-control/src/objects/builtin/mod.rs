//! The types of objects that every plane has.

mod chardev;
mod iothread;
mod memory;
mod memory_map;
mod monitor;
#[cfg(feature = "vfio-user")]
mod vfio_user;

pub use self::chardev::ChardevSocketProperties;
pub use self::iothread::{IoThreadObject, IothreadProperties};
pub use self::memory::{
    HostMemPolicy, MemoryBackend, MemoryBackendMemfd, MemoryBackendMemfdProperties, MemoryBackendProperties,
    MemoryBackendRam,
};
pub use self::monitor::{CloseAction, FdSetsScope, MonitorQmp, MonitorQmpProperties, NamedFds};
#[cfg(feature = "hmp")]
pub use self::monitor::{MonitorHmp, MonitorHmpProperties};
#[cfg(feature = "vfio-user")]
pub use self::vfio_user::{VfioUserDma, VfioUserServer, VfioUserServerProperties};

pub(crate) use self::chardev::{OtherObject, SocketObject};
pub(crate) use self::iothread::iothread;
pub(crate) use self::memory::{memory_backend_memfd, memory_backend_ram};
#[cfg(feature = "hmp")]
pub(crate) use self::monitor::monitor_hmp;
pub(crate) use self::monitor::monitor_qmp;
#[cfg(feature = "vfio-user")]
pub(crate) use self::vfio_user::vfio_user_server;
