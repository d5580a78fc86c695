//! A raw vfio-user client for tests: it can say everything, right or wrong, and sees every byte that comes back.
//!
//! * [`message`] puts messages together, and can put them together wrongly;
//! * [`payload`] has what the commands carry;
//! * [`peer`] is a connection: sends whole and in pieces, with descriptors, and reads replies;
//! * [`dma`] plays the memory of a client that answers `DMA_READ` and `DMA_WRITE`;
//! * [`fds`] makes descriptors of every kind, and one that tells when the server has closed it;
//! * [`server`] starts a server with devices, and checks that a client has left no trace on it.
//!
//! It shares no code with the server under test. Numbers and layouts are those of the protocol's document.

pub mod dma;
pub mod fds;
pub mod message;
pub mod payload;
pub mod peer;
pub mod server;

pub use dma::Memory;
pub use message::{Header, Message, command, flags};
pub use payload::{Body, DmaMap, irq};
pub use peer::Peer;
pub use server::{Scene, Server};

/// What a server of ours takes in an access, and the default of the protocol: 1 MiB.
pub const MAX_TRANSFER: u32 = 1 << 20;

/// The errno values that the tests look for.
pub mod errno {
    /// No such map.
    pub const ENOENT: u32 = 2;
    /// It is there already.
    pub const EEXIST: u32 = 17;
    /// Makes no sense.
    pub const EINVAL: u32 = 22;
    /// Over a limit.
    pub const ENOSPC: u32 = 28;
}
