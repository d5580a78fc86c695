//! The registers of a 16550A, without a line and without a clock of its own.
//!
//! The caller says what time it is in nanoseconds, feeds it with [`receive`](Uart::receive) no more than there is
//! [`room`](Uart::room) for, and takes what is to be sent with [`transmit`](Uart::transmit). A character takes no time on
//! the line; only the receiver's timeout is counted in them.

use std::collections::VecDeque;

/// How many bytes each FIFO holds.
pub(super) const FIFO: usize = 16;

/// Interrupt enable.
mod ier {
    pub(super) const RECEIVED: u8 = 0x01;
    pub(super) const EMPTY: u8 = 0x02;
    pub(super) const LINE: u8 = 0x04;
    /// Those that there are.
    pub(super) const ALL: u8 = 0x0f;
}

/// Interrupt identification.
mod iir {
    pub(super) const NONE: u8 = 0x01;
    pub(super) const EMPTY: u8 = 0x02;
    pub(super) const RECEIVED: u8 = 0x04;
    pub(super) const LINE: u8 = 0x06;
    pub(super) const TIMEOUT: u8 = 0x0c;
    pub(super) const FIFOS: u8 = 0xc0;
}

/// FIFO control.
mod fcr {
    pub(super) const ENABLE: u8 = 0x01;
    pub(super) const CLEAR_RECEIVER: u8 = 0x02;
    pub(super) const CLEAR_TRANSMITTER: u8 = 0x04;
    pub(super) const TRIGGER: u8 = 0xc0;
}

/// Line control.
mod lcr {
    pub(super) const TWO_STOP_BITS: u8 = 0x04;
    pub(super) const PARITY: u8 = 0x08;
    pub(super) const DIVISOR: u8 = 0x80;
}

/// Modem control.
mod mcr {
    pub(super) const DTR: u8 = 0x01;
    pub(super) const RTS: u8 = 0x02;
    pub(super) const OUT2: u8 = 0x08;
    pub(super) const OUTS: u8 = 0x0c;
    pub(super) const LOOPBACK: u8 = 0x10;
    /// Those that there are.
    pub(super) const ALL: u8 = 0x1f;
}

/// Line status.
mod lsr {
    pub(super) const READY: u8 = 0x01;
    pub(super) const OVERRUN: u8 = 0x02;
    /// All that goes wrong on a line; of them only an overrun can happen here.
    pub(super) const ERRORS: u8 = 0x1e;
    pub(super) const HOLDING_EMPTY: u8 = 0x20;
    pub(super) const EMPTY: u8 = 0x40;
}

/// Modem status of a peer that is there and ready: DCD, DSR, CTS. It never changes.
const PEER: u8 = 0xb0;
/// What the clock of the chip is divided from, in bits per second.
const BASE: i64 = 115_200;

/// The chip.
#[derive(Debug)]
pub(super) struct Uart {
    divisor: u16,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    lsr: u8,
    scratch: u8,
    /// The last byte that was received without the FIFO; it can be read again.
    received: u8,
    /// The receiver's FIFO. Empty while FIFOs are off.
    receiver: VecDeque<u8>,
    /// What is to be sent: [`FIFO`] bytes at most, 1 while FIFOs are off.
    transmitter: VecDeque<u8>,
    /// That nothing is left to be sent has not been told yet.
    emptied: bool,
    /// When the bytes in the FIFO will have waited for too long.
    deadline: Option<i64>,
    /// They have.
    timed_out: bool,
}

impl Uart {
    /// As after a reset.
    pub(super) fn new() -> Self {
        Self {
            divisor: 12,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: mcr::OUT2,
            lsr: lsr::HOLDING_EMPTY | lsr::EMPTY,
            scratch: 0,
            received: 0,
            receiver: VecDeque::with_capacity(FIFO),
            transmitter: VecDeque::with_capacity(FIFO),
            emptied: false,
            deadline: None,
            timed_out: false,
        }
    }

    /// Reads the register at `offset`, 0 to 7.
    pub(super) fn read(&mut self, offset: u16, now: i64) -> u8 {
        self.catch_up(now);
        match offset & 7 {
            0 if self.has(lcr::DIVISOR) => self.divisor.to_le_bytes()[0],
            1 if self.has(lcr::DIVISOR) => self.divisor.to_le_bytes()[1],
            0 => self.take(now),
            1 => self.ier,
            2 => self.identify(),
            3 => self.lcr,
            4 => self.mcr,
            5 => {
                let status = self.lsr;
                self.lsr &= !lsr::OVERRUN;
                status
            }
            6 => self.modem_status(),
            _ => self.scratch,
        }
    }

    /// Writes the register at `offset`, 0 to 7.
    pub(super) fn write(&mut self, offset: u16, value: u8, now: i64) {
        self.catch_up(now);
        let [low, high] = self.divisor.to_le_bytes();
        match offset & 7 {
            0 if self.has(lcr::DIVISOR) => self.divisor = u16::from_le_bytes([value, high]),
            1 if self.has(lcr::DIVISOR) => self.divisor = u16::from_le_bytes([low, value]),
            0 => self.put(value),
            1 => {
                let changed = self.ier ^ value;
                self.ier = value & ier::ALL;
                if changed & ier::EMPTY != 0 {
                    // Switched on, it tells at once that there is nothing to send.
                    self.emptied = self.ier & ier::EMPTY != 0 && self.lsr & lsr::HOLDING_EMPTY != 0;
                }
            }
            2 => self.control_fifos(value),
            3 => self.lcr = value,
            4 => self.mcr = value & mcr::ALL,
            // The two status registers.
            5 | 6 => {}
            _ => self.scratch = value,
        }
    }

    /// How many bytes can be received without loss.
    pub(super) fn room(&self) -> usize {
        if self.has_fifos() {
            FIFO.saturating_sub(self.receiver.len())
        } else {
            usize::from(self.lsr & lsr::READY == 0)
        }
    }

    /// A byte comes in. Without room for it one is lost: this one with FIFOs, else the one before.
    pub(super) fn receive(&mut self, byte: u8, now: i64) {
        self.catch_up(now);
        if self.room() == 0 {
            self.lsr |= lsr::OVERRUN;
        }
        if !self.has_fifos() {
            self.received = byte;
        } else if self.receiver.len() < FIFO {
            self.receiver.push_back(byte);
            self.deadline = Some(now.saturating_add(self.patience()));
        }
        self.lsr |= lsr::READY;
    }

    /// The next byte to go out on the line. To be asked until there is none, whenever the line has room.
    pub(super) fn transmit(&mut self, now: i64) -> Option<u8> {
        loop {
            let byte = self.transmitter.pop_front()?;
            if self.transmitter.is_empty() {
                self.sent_all();
            }
            if self.mcr & mcr::LOOPBACK == 0 {
                return Some(byte);
            }
            self.receive(byte, now);
        }
    }

    fn has(&self, line_control: u8) -> bool {
        self.lcr & line_control != 0
    }

    fn has_fifos(&self) -> bool {
        self.fcr & fcr::ENABLE != 0
    }

    /// The guest takes a byte.
    fn take(&mut self, now: i64) -> u8 {
        if !self.has_fifos() {
            self.lsr &= !lsr::READY;
            return self.received;
        }
        let byte = self.receiver.pop_front();
        self.timed_out = false;
        self.deadline = (!self.receiver.is_empty()).then(|| now.saturating_add(self.patience()));
        if self.receiver.is_empty() {
            self.lsr &= !lsr::READY;
        }
        byte.unwrap_or(0)
    }

    /// The guest gives a byte to be sent. When there is no room, the oldest is lost.
    fn put(&mut self, byte: u8) {
        let most = if self.has_fifos() { FIFO } else { 1 };
        while self.transmitter.len() >= most {
            self.transmitter.pop_front();
        }
        self.transmitter.push_back(byte);
        self.emptied = false;
        self.lsr &= !(lsr::HOLDING_EMPTY | lsr::EMPTY);
    }

    fn sent_all(&mut self) {
        self.emptied = true;
        self.lsr |= lsr::HOLDING_EMPTY | lsr::EMPTY;
    }

    fn control_fifos(&mut self, value: u8) {
        // Switching them clears them.
        let switched = (self.fcr ^ value) & fcr::ENABLE != 0;
        if switched || value & fcr::CLEAR_RECEIVER != 0 {
            self.receiver.clear();
            self.deadline = None;
            self.timed_out = false;
            self.lsr &= !lsr::READY;
        }
        if switched || value & fcr::CLEAR_TRANSMITTER != 0 {
            self.transmitter.clear();
            self.sent_all();
        }
        self.fcr = value & (fcr::ENABLE | fcr::TRIGGER);
    }

    /// What it would interrupt for. Who is told that there is nothing to send is told once.
    fn identify(&mut self) -> u8 {
        let enabled = |what: u8| self.ier & what != 0;
        let cause = if enabled(ier::LINE) && self.lsr & lsr::ERRORS != 0 {
            iir::LINE
        } else if enabled(ier::RECEIVED) && self.timed_out {
            iir::TIMEOUT
        } else if enabled(ier::RECEIVED) && self.is_triggered() {
            iir::RECEIVED
        } else if enabled(ier::EMPTY) && self.emptied {
            self.emptied = false;
            iir::EMPTY
        } else {
            iir::NONE
        };
        cause | if self.has_fifos() { iir::FIFOS } else { 0 }
    }

    /// Whether enough was received to interrupt for.
    fn is_triggered(&self) -> bool {
        let enough = match self.fcr & fcr::TRIGGER {
            0x00 => 1,
            0x40 => 4,
            0x80 => 8,
            _ => 14,
        };
        self.lsr & lsr::READY != 0 && (!self.has_fifos() || self.receiver.len() >= enough)
    }

    fn modem_status(&self) -> u8 {
        if self.mcr & mcr::LOOPBACK == 0 {
            return PEER;
        }
        // The four outputs are the four inputs: OUT2 and OUT1, DTR, RTS.
        (self.mcr & mcr::OUTS) << 4 | (self.mcr & mcr::DTR) << 5 | (self.mcr & mcr::RTS) << 3
    }

    /// How long bytes may wait in the FIFO, in nanoseconds: four characters.
    fn patience(&self) -> i64 {
        let data = i64::from(self.lcr & 0x03) + 5;
        let stop = if self.has(lcr::TWO_STOP_BITS) { 2 } else { 1 };
        let bits = 1 + data + i64::from(self.has(lcr::PARITY)) + stop;
        4 * bits * i64::from(self.divisor.max(1)) * 1_000_000_000 / BASE
    }

    fn catch_up(&mut self, now: i64) {
        if self.deadline.is_some_and(|deadline| now >= deadline) {
            self.deadline = None;
            self.timed_out = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Switches FIFOs on with this trigger.
    fn with_fifos(trigger: u8) -> Uart {
        let mut uart = Uart::new();
        uart.write(2, trigger | 1, 0);
        uart
    }

    #[test]
    fn what_is_written_is_sent_and_told_once() {
        let mut uart = Uart::new();
        uart.write(1, 0x02, 0);
        assert_eq!([uart.read(2, 0), uart.read(2, 0)], [0x02, 0x01]);
        uart.write(0, b'A', 0);
        assert_eq!((uart.read(5, 0), uart.read(2, 0)), (0x00, 0x01));
        assert_eq!((uart.transmit(0), uart.transmit(0)), (Some(b'A'), None));
        assert_eq!((uart.read(5, 0), uart.read(2, 0)), (0x60, 0x02));
    }

    #[test]
    fn a_byte_that_is_not_read_in_time_is_overrun() {
        let mut uart = Uart::new();
        uart.receive(1, 0);
        assert_eq!(uart.room(), 0);
        uart.receive(2, 0);
        assert_eq!([uart.read(5, 0), uart.read(5, 0)], [0x63, 0x61]);
        assert_eq!([uart.read(0, 0), uart.read(5, 0), uart.read(0, 0)], [2, 0x60, 2]);
        let mut uart = with_fifos(0);
        (0..20).for_each(|byte| uart.receive(byte, 0));
        assert_eq!(uart.read(5, 0), 0x63);
        assert!((0..16).all(|byte| uart.read(0, 0) == byte));
        assert_eq!([uart.read(5, 0), uart.read(0, 0)], [0x60, 0]);
    }

    #[test]
    fn of_more_bytes_than_fit_the_oldest_are_not_sent() {
        let mut uart = with_fifos(0);
        (0..20).for_each(|byte| uart.write(0, byte, 0));
        let sent: Vec<u8> = std::iter::from_fn(|| uart.transmit(0)).collect();
        assert_eq!(sent, (4..20).collect::<Vec<u8>>());
    }

    #[test]
    fn bytes_below_the_trigger_time_out_after_four_characters() {
        let mut uart = with_fifos(0x40);
        uart.write(3, 0x03, 0);
        uart.write(1, 0x01, 0);
        // 9600 bit/s, and 10 bits a character.
        let four = 4 * 10 * 1_000_000_000 / 9600;
        uart.receive(7, 100);
        uart.receive(8, 200);
        assert_eq!(uart.read(2, four + 199), 0xc1);
        assert_eq!(uart.read(2, four + 200), 0xcc);
        uart.read(0, four + 300);
        assert_eq!([uart.read(2, four + 300), uart.read(2, 2 * four + 300)], [0xc1, 0xcc]);
        uart.read(0, 2 * four + 300);
        assert_eq!(uart.read(2, 9 * four), 0xc1);
        (0..4).for_each(|byte| uart.receive(byte, 9 * four));
        assert_eq!(uart.read(2, 9 * four), 0xc4);
    }

    #[test]
    fn loopback_sends_to_itself() {
        let mut uart = Uart::new();
        uart.write(4, 0x1b, 0);
        uart.write(0, b'x', 0);
        assert_eq!(uart.transmit(0), None);
        assert_eq!([uart.read(5, 0), uart.read(0, 0), uart.read(6, 0)], [0x61, b'x', 0xb0]);
        uart.write(4, 0x15, 0);
        assert_eq!(uart.read(6, 0), 0x60);
    }

    #[test]
    fn the_divisor_hides_two_registers() {
        let mut uart = Uart::new();
        uart.write(3, 0x83, 0);
        uart.write(0, 0x34, 0);
        uart.write(1, 0x12, 0);
        assert_eq!([uart.read(0, 0), uart.read(1, 0)], [0x34, 0x12]);
        uart.write(3, 0x03, 0);
        assert_eq!([uart.read(0, 0), uart.read(1, 0), uart.read(3, 0)], [0, 0, 0x03]);
    }

    proptest! {
        #[test]
        fn fifos_are_bounded_and_status_tells_what_is_in_them(
            accesses in prop::collection::vec((0_u8..4, 0_u16..8, any::<u8>(), 0_i64..1 << 40), 0..200),
        ) {
            let (mut uart, mut now) = (Uart::new(), 0_i64);
            for (what, offset, value, pause) in accesses {
                now += pause;
                match what {
                    0 => { uart.read(offset, now); }
                    1 => uart.write(offset, value, now),
                    2 => uart.receive(value, now),
                    _ => { uart.transmit(now); }
                }
                prop_assert!(uart.receiver.len() <= FIFO && uart.transmitter.len() <= FIFO);
                prop_assert_eq!(uart.lsr & lsr::EMPTY != 0, uart.transmitter.is_empty());
                if uart.has_fifos() {
                    prop_assert_eq!(uart.lsr & lsr::READY != 0, !uart.receiver.is_empty());
                }
            }
        }
    }
}
