//! The devices, over their sockets.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod edu;
mod scratch;
mod support;
