//! PCI devices of an author's own, as objects: types for `device_add` whose instances can be exported.
//!
//! [`pci_device_type`] makes an [`ObjectType`] of a function that makes a [`PciDevice`]. An object of that type stands
//! under `/machine/peripheral` with its own properties and those that every PCI device has in QEMU, and keeps the device
//! until an `x-vfio-user-server` borrows it. While it is lent it cannot be unplugged; it comes back as it is then.

mod device;
mod properties;
mod slot;

pub use self::device::pci_device_type;
pub use vfio_user_server::PciDevice;

pub(crate) use self::slot::Slot;

use super::class::{Class, ClassKind};

#[cfg(doc)]
use super::ObjectType;

/// The type that all of them inherit from.
const PCI_DEVICE: &str = "pci-device";

/// What they implement: a place on a conventional bus.
const CONVENTIONAL: &str = "conventional-pci-device";

/// The classes that are there before any device is.
pub(super) fn classes() -> [Class; 2] {
    [
        Class::new(CONVENTIONAL, None, ClassKind::Interface),
        Class::new(PCI_DEVICE, Some("device"), ClassKind::Abstract).with(properties::class_properties()),
    ]
}
