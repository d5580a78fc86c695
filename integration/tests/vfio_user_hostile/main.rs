//! Clients of an exported device that misbehave, one way each. The name of a test says which rule of the protocol, or which
//! limit, it is about. After every one of them a monitor answers, a fresh client on the same socket is served, and the
//! server has no descriptor more than before; where the connection goes on, the next command gets its own reply.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod deadlines;
mod disconnects;
mod dma_map;
mod dma_memory;
mod dma_messages;
mod fds;
mod floods;
mod framing;
mod info;
mod irqs;
mod no_reply;
mod random;
mod regions;
mod twin;
mod version;
