//! What a PCI device shows of itself.

/// Configuration space.
#[derive(Debug)]
pub struct ConfigSpace;

/// What a PCI device shows of itself.
#[derive(Debug)]
pub struct PciSpec;
