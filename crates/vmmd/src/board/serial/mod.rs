//! Serial ports: a 16550A for each `-serial`, where a PC has them.
//!
//! [`uart::Uart`] is the chip, pure; [`port::SerialPort`] puts it on the bus with bounded buffers, so that no port access
//! ever waits; [`server::Server`] moves the bytes between the buffers and the chardev's client.
//!
//! There are no interrupts: the chip says in IIR what it would interrupt for, and no line carries it.

pub(crate) mod port;
pub(crate) mod server;
mod uart;

/// The first I/O ports of the serial ports, in the order of `-serial`.
pub(crate) const PORTS: [u16; 4] = [0x3f8, 0x2f8, 0x3e8, 0x2e8];

/// Their names on the bus.
pub(crate) const NAMES: [&str; 4] = ["serial0", "serial1", "serial2", "serial3"];
