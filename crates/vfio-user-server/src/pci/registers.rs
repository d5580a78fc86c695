//! Offsets and bits of configuration space, as the PCI Local Bus Specification 3.0 (chapter 6, appendix E), the PCI Power
//! Management Specification 1.2 and the PCI Express Base Specification (chapter 7) name them.

pub(super) const VENDOR_ID: usize = 0x00;
pub(super) const DEVICE_ID: usize = 0x02;
pub(super) const COMMAND: usize = 0x04;
pub(super) const STATUS: usize = 0x06;
pub(super) const REVISION: usize = 0x08;
/// Three bytes: interface, subclass, class.
pub(super) const CLASS: usize = 0x09;
pub(super) const CACHE_LINE_SIZE: usize = 0x0c;
pub(super) const BAR0: usize = 0x10;
pub(super) const SUBSYSTEM_VENDOR: usize = 0x2c;
pub(super) const SUBSYSTEM_ID: usize = 0x2e;
pub(super) const ROM: usize = 0x30;
pub(super) const CAPABILITIES: usize = 0x34;
pub(super) const INTERRUPT_LINE: usize = 0x3c;
pub(super) const INTERRUPT_PIN: usize = 0x3d;
/// Where capabilities start.
pub(super) const HEADER_END: usize = 0x40;
/// Where capabilities end: the conventional 256 bytes.
pub(super) const CONVENTIONAL_END: usize = 0x100;
/// Bytes of configuration space with PCI Express.
pub(super) const EXTENDED_END: usize = 0x1000;

pub(super) const COMMAND_IO: u16 = 1;
pub(super) const COMMAND_MEMORY: u16 = 2;
pub(super) const COMMAND_MASTER: u16 = 4;
pub(super) const COMMAND_INTX_DISABLE: u16 = 0x400;
/// What software may set: I/O, memory, bus master, SERR#, interrupt disable. Parity is not checked, so its bit stays 0, as
/// on QEMU's devices.
pub(super) const COMMAND_WRITABLE: u16 =
    COMMAND_IO | COMMAND_MEMORY | COMMAND_MASTER | 0x100 | COMMAND_INTX_DISABLE;
/// Error bits, cleared by writing 1: parity (8, 15), aborts (11, 12, 13), system error (14).
pub(super) const STATUS_CLEARED: u16 = 0xf900;
/// The level of the interrupt pin, whatever the command register says of it.
pub(super) const STATUS_INTERRUPT: u16 = 8;
pub(super) const STATUS_CAPABILITIES: u16 = 0x10;

pub(super) const BAR_IO: u32 = 1;
pub(super) const BAR_64: u32 = 4;
pub(super) const BAR_PREFETCHABLE: u32 = 8;
pub(super) const ROM_ENABLE: u32 = 1;
/// The smallest ROM that its register can describe, in bytes.
pub(super) const ROM_LEAST: usize = 2048;

pub(super) const ID_POWER: u8 = 0x01;
pub(super) const ID_MSI: u8 = 0x05;
pub(super) const ID_VENDOR: u8 = 0x09;
pub(super) const ID_EXPRESS: u8 = 0x10;
pub(super) const ID_MSIX: u8 = 0x11;

/// Of MSI's control register: on; of its higher byte nothing is writable.
pub(super) const MSI_ENABLE: u16 = 1;
/// Vectors in use, a logarithm.
pub(super) const MSI_IN_USE: u16 = 0x70;
pub(super) const MSI_IN_USE_SHIFT: u16 = 4;
pub(super) const MSI_OFFERED_SHIFT: u16 = 1;
pub(super) const MSI_64: u16 = 0x80;
pub(super) const MSI_MASKABLE: u16 = 0x100;

pub(super) const MSIX_ENABLE: u16 = 0x8000;
pub(super) const MSIX_MASK: u16 = 0x4000;

/// Of the power management control register: the state, D0 to D3hot.
pub(super) const POWER_STATE: u16 = 3;
/// Going back to D0 resets nothing.
pub(super) const POWER_NO_SOFT_RESET: u16 = 8;
