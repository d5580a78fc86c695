//! The vfio-user protocol without I/O.
//!
//! A [`Session`] is one client's connection. Its owner reads from a socket into [`Session::spare`], tells what came
//! ([`Session::received`]), lets it execute messages ([`Session::step`]) and writes [`Session::output`] back. Messages may be
//! cut anywhere; many may come in a read and many replies go in a write. Commands become checked calls of a [`Target`].
//!
//! Nothing blocks, no clock is read, and what a session holds is bounded whatever its client does.

mod access;
mod deferred;
mod descriptors;
mod dma;
mod engine;
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod held;
mod inbox;
mod info;
mod irqs;
mod limits;
mod outbox;
mod payload;
mod pending;
mod pieces;
mod session;
mod target;
mod version;

pub use limits::{MAX_MESSAGE_FDS, SessionLimits, Violation};
pub use outbox::Output;
pub use payload::*;
pub use session::{Channel, Counters, Session, Step};
pub use target::{IoFd, Mmap, Outcome, RegionDescription, Target};
