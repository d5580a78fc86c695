//! Sessions on real sockets.
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod budgets;
mod fds;
mod order;
mod pressure;
mod support;
