//! Reference PCI devices, exported with [`vfio_user_server`].
//!
//! * [`Edu`]: QEMU's educational device, register for register.
//! * [`Scratch`]: memory and DMA to measure with.
//!
//! Each keeps its logic apart from its surroundings: what registers do is a struct that a test drives by itself, and the
//! implementation of [`PciDevice`](vfio_user_server::PciDevice) only carries out what it asks for.

mod edu;
mod scratch;

pub use edu::Edu;
pub use scratch::Scratch;
