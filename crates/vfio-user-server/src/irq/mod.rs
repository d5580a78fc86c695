//! Interrupts.

/// One vector that the client has set up, or masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct VectorInfo {
    /// Its type.
    pub index: crate::protocol::IrqIndex,
    /// Its number.
    pub vector: u32,
    /// It has an eventfd.
    pub assigned: bool,
    /// It is held back.
    pub masked: bool,
    /// It has fired while it was held back.
    pub pending: bool,
}
