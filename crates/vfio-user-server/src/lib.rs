//! A vfio-user server: exports a PCI device that this process implements to another process (QEMU, Cloud Hypervisor, a
//! test) over a unix socket.
//!
//! * [`protocol`]: the wire protocol without I/O: bytes and descriptors in, calls of a [`protocol::Target`], bytes and
//!   descriptors out.
//! * [`dma`]: the client's memory, touched only in ways that cannot kill or stall this process.
//! * [`irq`]: INTx, MSI and MSI-X: eventfds, masks, levels.
//! * [`pci`]: what a PCI device shows of itself: configuration space, capabilities, base address registers.
//! * [`device`]: the trait [`PciDevice`] that an author implements, and what its methods are given.
//! * [`context`]: listens, serves one client at a time without ever blocking, and has one pollable descriptor.
//! * `adapter` (a feature): exports a device that was written for the `vfio_user` crate's server.

#[cfg(feature = "adapter")]
pub mod adapter;
pub mod context;
pub mod device;
pub mod dma;
pub mod irq;
mod memory;
pub mod pci;
pub mod protocol;
mod sys;

pub use device::{DeviceContext, DmaDone, PciDevice};
pub use rustix::io::Errno;
