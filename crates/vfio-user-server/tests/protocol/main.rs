//! The protocol as a client sees it, over a session without sockets.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

#[macro_use]
mod support;

mod client;
mod commands;
mod deferral;
mod descriptors;
mod dma;
mod fuzzing;
mod irqs;
mod properties;
mod session;
