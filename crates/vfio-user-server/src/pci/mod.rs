//! What a PCI device shows of itself: configuration space, capabilities, base address registers (BARs).
//!
//! An author describes the device once, with [`PciSpec::builder`]; everything that can be wrong with a description is said by
//! [`SpecBuilder::build`]. The context makes a [`ConfigSpace`] of it, which answers accesses as the registers' masks say,
//! and the BARs' memory, which never reaches the device's own code.
//!
//! ```
//! use vfio_user_server::pci::{Bar, Msi, PciSpec};
//!
//! let spec = PciSpec::builder(0x1234, 0x11e8)
//!     .revision(0x10)
//!     .class(0x00ff00)
//!     .interrupt_pin()
//!     .msi(Msi { vectors: 1, address64: true, maskable: false })
//!     .bar(0, Bar::registers(0x10_0000))
//!     .build()?;
//! assert_eq!(spec.config_size(), 256);
//! # Ok::<(), vfio_user_server::pci::SpecError>(())
//! ```

mod bar;
mod bars;
mod capability;
mod check;
mod config;
mod layout;
mod registers;
mod served;
mod spec;

pub use bar::{Bar, Doorbell};
pub(crate) use bars::{Bars, Handled};
pub use capability::{Express, Msi, Msix};
pub use check::SpecError;
pub use config::ConfigSpace;
pub use spec::{PciSpec, SpecBuilder};

/// Region index of the expansion ROM.
pub(crate) const ROM_REGION: u8 = 6;
