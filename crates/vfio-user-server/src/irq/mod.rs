//! Interrupts: INTx, a level; MSI and MSI-X, vectors; the error and the release request, vectors too.
//!
//! [`Interrupts`] holds the eventfds that the client has given, what it masks, and what has fired meanwhile. It belongs to
//! one context and its thread. Firing takes no lock, allocates nothing and never waits, whatever the client does with
//! its end of the eventfd.

mod eventfd;
mod interrupts;
mod intx;
mod signal;
mod vectors;

#[cfg(feature = "adapter")]
pub(crate) use eventfd::is_eventfd;
pub(crate) use eventfd::take;
pub use interrupts::Interrupts;
#[cfg(feature = "adapter")]
pub(crate) use signal::Signaller;

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
    /// It is held back: the client has masked it or, with INTx, has not let go of it since it fired, or the command register
    /// switches it off.
    pub masked: bool,
    /// It has fired while it was held back; INTx: its level is high while it is.
    pub pending: bool,
}
