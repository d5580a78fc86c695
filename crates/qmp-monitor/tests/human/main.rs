//! Human monitors: the editor against recordings and a terminal, sessions on real sockets.
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod pressure;
mod recorded;
mod sessions;
mod support;
mod terminal;
