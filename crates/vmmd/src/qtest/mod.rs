//! The server for QEMU's own test programs (`-qtest`): one request a line, one answer a line.
//!
//! A test program starts the VMM, which connects back to it, and pokes the machine behind the guest's back: I/O ports,
//! and the guest's clock under `-accel qtest`. What this machine has not (interrupt lines to intercept, memory that a
//! CPU could see) is answered with `FAIL` and the reason, where QEMU has a command for it.
//!
//! [`command`](mod@command) is pure; [`Server`] moves the lines; [`Log`] notes them as QEMU does.

mod command;
mod log;
mod server;

pub(crate) use self::log::Log;
pub(crate) use self::server::Server;
