//! A chip on the bus, and the buffers between it and whoever is at the other end of the line.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::uart::Uart;
use crate::board::bus::PortDevice;
use crate::board::clock::VirtualClock;

/// How many bytes each buffer holds. While the one for output is full, the chip keeps what the guest sends next, and
/// LSR says so.
const BUFFER: usize = 4096;

/// One serial port. Accesses never wait.
pub(crate) struct SerialPort {
    state: Mutex<State>,
    clock: Arc<VirtualClock>,
    /// There is something to be sent, or room to receive, or it is over.
    changed: Notify,
}

#[derive(Debug)]
struct State {
    uart: Uart,
    /// What came in and the chip had no room for yet.
    input: VecDeque<u8>,
    /// What goes out next.
    output: VecDeque<u8>,
    /// Somebody is there. What is sent to nobody is dropped.
    connected: bool,
    /// No more is to come.
    closing: bool,
}

/// What the line is to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needs {
    /// Take from the client what it has sent, at most so many bytes; 0 for not now.
    pub(super) room: usize,
    /// There is output.
    pub(super) output: bool,
    /// Send what can be sent at once, and end.
    pub(super) closing: bool,
}

impl SerialPort {
    /// How many I/O ports it has.
    pub(crate) const PORTS: u16 = 8;

    /// One with nobody at the other end.
    pub(crate) fn new(clock: Arc<VirtualClock>) -> Self {
        let (input, output) = (VecDeque::new(), VecDeque::new());
        let state = State { uart: Uart::new(), input, output, connected: false, closing: false };
        Self { state: Mutex::new(state), clock, changed: Notify::new() }
    }

    /// What a reset of the machine does to it. What is on the line stays there.
    pub(crate) fn reset(&self) {
        self.with(|state, _| state.uart = Uart::new());
    }

    /// Waits until [`needs`](Self::needs) may have changed. Cancel-safe; for one at a time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn needs(&self) -> Needs {
        self.with(|state, _| Needs {
            room: BUFFER.saturating_sub(state.input.len()),
            output: !state.output.is_empty(),
            closing: state.closing,
        })
    }

    /// Somebody is there, or has gone: then what was not sent yet is dropped.
    pub(super) fn set_connected(&self, connected: bool) {
        self.with(|state, _| {
            state.connected = connected;
            if !connected {
                state.output.clear();
            }
        });
    }

    /// The client has sent this.
    pub(super) fn came(&self, bytes: &[u8]) {
        self.with(|state, _| state.input.extend(bytes));
    }

    /// Copies the output, as far as it fits, into `buffer`, and says how much that is. [`sent`](Self::sent) takes it away.
    pub(super) fn copy_output(&self, buffer: &mut [u8]) -> usize {
        self.with(|state, _| {
            let count = state.output.len().min(buffer.len());
            buffer.iter_mut().zip(&state.output).for_each(|(to, from)| *to = *from);
            count
        })
    }

    /// So much of the output has gone.
    pub(super) fn sent(&self, count: usize) {
        self.with(|state, _| state.output.drain(..count.min(state.output.len())).for_each(drop));
    }

    /// No more is to be sent than there is.
    pub(super) fn close(&self) {
        self.with(|state, _| state.closing = true);
        self.changed.notify_one();
    }

    /// Does something to the port, and moves bytes as far as they can go after it.
    fn with<T>(&self, f: impl FnOnce(&mut State, i64) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let given = f(&mut state, now);
        state.settle(now);
        given
    }

    /// As [`with`](Self::with), for the guest, who wakes the line's task if there is anything new for it.
    fn accessed<T>(&self, f: impl FnOnce(&mut Uart, i64) -> T) -> T {
        let (given, news) = self.with_news(f);
        if news {
            self.changed.notify_one();
        }
        given
    }

    fn with_news<T>(&self, f: impl FnOnce(&mut Uart, i64) -> T) -> (T, bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (now, before) = (self.clock.now(), (state.input.len(), state.output.len()));
        let given = f(&mut state.uart, now);
        state.settle(now);
        (given, (state.input.len(), state.output.len()) != before)
    }
}

impl State {
    /// The chip takes what it has room for, and gives what there is room for.
    fn settle(&mut self, now: i64) {
        while !self.connected || self.output.len() < BUFFER {
            let Some(byte) = self.uart.transmit(now) else { break };
            if self.connected {
                self.output.push_back(byte);
            }
        }
        while self.uart.room() > 0
            && let Some(byte) = self.input.pop_front()
        {
            self.uart.receive(byte, now);
        }
    }
}

impl PortDevice for SerialPort {
    fn read(&self, offset: u16, _size: u8) -> u32 {
        self.accessed(|uart, now| uart.read(offset, now)).into()
    }

    fn write(&self, offset: u16, _size: u8, value: u32) {
        self.accessed(|uart, now| uart.write(offset, value.to_le_bytes()[0], now));
    }
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialPort").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> SerialPort {
        SerialPort::new(Arc::new(VirtualClock::new(true)))
    }

    #[test]
    fn what_is_sent_to_nobody_is_dropped() {
        let port = port();
        port.write(0, 1, 0x41);
        assert_eq!((port.read(5, 1), port.needs().output), (0x60, false));
        port.set_connected(true);
        port.write(0, 1, 0x42);
        let mut buffer = [0; 4];
        assert_eq!((port.copy_output(&mut buffer), buffer[0]), (1, 0x42));
        port.set_connected(false);
        assert!(!port.needs().output);
    }

    #[test]
    fn a_full_buffer_is_seen_by_the_guest() {
        let port = port();
        port.set_connected(true);
        (0..BUFFER).for_each(|_| port.write(0, 1, 0x20));
        assert_eq!(port.read(5, 1), 0x60);
        port.write(0, 1, 0x21);
        assert_eq!(port.read(5, 1), 0x00);
        port.sent(1);
        assert_eq!(port.read(5, 1), 0x60);
        // Nobody is there any more, so nobody keeps the guest from sending.
        port.write(0, 1, 0x22);
        port.set_connected(false);
        assert_eq!(port.read(5, 1), 0x60);
    }

    #[test]
    fn input_comes_in_order_as_the_guest_takes_it() {
        let port = port();
        port.came(&[1, 2, 3]);
        assert_eq!(port.needs().room, BUFFER - 2);
        let read: Vec<u32> = (0..3).map(|_| port.read(0, 1)).collect();
        assert_eq!((read, port.read(5, 1)), (vec![1, 2, 3], 0x60));
        port.came(&[4]);
        port.reset();
        assert_eq!(port.read(5, 1), 0x60);
    }
}
