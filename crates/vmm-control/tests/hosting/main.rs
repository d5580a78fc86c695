//! Planes on threads of their own, and machines whose state lives in one loop. Nothing here has a runtime, unless it says so.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

mod client;
mod end;
mod queue;
mod queue_end;
mod thread;
