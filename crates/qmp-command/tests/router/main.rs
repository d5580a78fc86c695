//! The router and the stacks that it puts around commands, from outside.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

mod build;
mod calls;
#[cfg(feature = "metrics")]
mod metrics;
mod panics;
mod permit;
mod support;
mod timeout;
