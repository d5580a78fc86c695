//! Reference PCI devices, exported with [`vfio_user_server`].
//!
//! * [`Edu`]: QEMU's educational device, register for register.
//! * [`Scratch`]: memory and DMA to measure with.
//!
//! Each keeps its logic apart from its surroundings: what registers do is a struct that a test drives by itself, and the
//! implementation of [`PciDevice`](vfio_user_server::PciDevice) only carries out what it asks for.
//!
//! ```
//! use pci_devices::Edu;
//! use vfio_user_server::context::{Context, Listen};
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("edu.sock");
//! let context = Context::builder(Box::new(Edu::new())).listen(Listen::Path(path.clone())).map_err(|(error, _)| error)?;
//! let iothread = iothread::IoThread::builder("IO edu").start()?;
//! let exported = context.spawn(&iothread.handle())?;
//!
//! let mut client = vfio_user::Client::new(&path)?;
//! let mut identification = [0; 4];
//! client.region_read(0, 0, &mut identification)?;
//! assert_eq!(u32::from_le_bytes(identification), 0x0100_00ed);
//! # drop(exported);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod edu;
mod scratch;

pub use edu::Edu;
pub use scratch::Scratch;
