//! An MC146818 real-time clock, as PCs have it.
//!
//! The chip is pure: it is told the time with every access, does nothing in between, and says what it did as a return
//! value. So it can be tested without a clock, and two accesses at one time are as good as one.
//!
//! # Two times
//!
//! * *Now* is what drives the chip: nanoseconds of whatever clock the board chose. It may go backwards, as a host's does.
//! * A *civil second* is what the registers show; see [`crate::civil`]. The chip keeps one that was true at a certain *now*,
//!   and computes from there. The registers are a picture of it that is drawn when somebody looks.
//!
//! While `SET` is on in register B, or the divider in register A does not run, the picture stays as it is, and writes
//! change it. When time goes on again, the picture becomes the time. A write to a running clock counts at once. Either
//! way [`Rtc::write`] returns the second that was set.
//!
//! # What there is not
//!
//! No interrupt line. The flags in register C come up as if there were one: UF once a second, AF when the alarm's time
//! has passed, PF at the chosen rate while PIE is on, IRQF when one of them is enabled; reading C clears them.

pub(crate) mod base;
pub(crate) mod device;
mod registers;

use self::registers::{self as reg, Cmos};
use crate::civil::Civil;

const SECOND: i64 = 1_000_000_000;
/// How long before the end of a second UIP is on: eight periods of the crystal, in nanoseconds.
const UIP_LEAD: i64 = 8 * SECOND / CRYSTAL;
/// Hertz.
const CRYSTAL: i64 = 32_768;

/// The chip. See the module.
#[derive(Debug, Clone)]
pub(crate) struct Rtc {
    cmos: Cmos,
    /// The register that the data port reads and writes.
    index: u8,
    /// The civil second that was true at `since`, and the nanoseconds that had passed in it.
    second: i64,
    phase: i64,
    since: i64,
    /// Up to when the flags in register C are right.
    checked: i64,
}

impl Rtc {
    /// A clock that shows `second` at `now`, of which `phase` nanoseconds have passed.
    pub(crate) fn new(second: i64, phase: i64, now: i64) -> Self {
        let mut cmos = [0; 128];
        cmos[usize::from(reg::A)] = reg::DIVIDER_RUNS | 6;
        cmos[usize::from(reg::B)] = reg::HOURS_24;
        cmos[usize::from(reg::D)] = reg::VRT;
        let mut rtc = Self { cmos, index: 0, second, phase, since: now, checked: now };
        rtc.draw(now);
        rtc
    }

    /// What a reset of the machine does. The time goes on.
    pub(crate) fn reset(&mut self, now: i64) {
        self.advance(now);
        // Firmware that resumes from sleep keeps its mark.
        if self.get(reg::SHUTDOWN_STATUS) != 0xfe {
            self.put(reg::SHUTDOWN_STATUS, 0);
        }
        self.put(reg::B, self.get(reg::B) & !(reg::PIE | reg::AIE | reg::SQWE));
        self.put(reg::C, 0);
    }

    /// Reads a byte: of the index port (0), which shows nothing, or of the data port (1).
    pub(crate) fn read(&mut self, port: u16, now: i64) -> u8 {
        if port & 1 == 0 {
            return 0xff;
        }
        self.advance(now);
        match self.selected() {
            reg::A if self.runs() && self.nanosecond(now) >= SECOND - UIP_LEAD => self.get(reg::A) | reg::UIP,
            reg::C => {
                let flags = self.get(reg::C);
                self.put(reg::C, 0);
                flags
            }
            register => {
                if is_time(register) {
                    self.draw(now);
                }
                self.get(register)
            }
        }
    }

    /// Writes a byte: to the index port (0), which chooses a register, or to the data port (1). Gives the civil second
    /// that was set, if that was the effect.
    pub(crate) fn write(&mut self, port: u16, value: u8, now: i64) -> Option<i64> {
        if port & 1 == 0 {
            self.index = value & 0x7f;
            return None;
        }
        self.advance(now);
        match self.selected() {
            reg::A => self.write_a(value, now),
            reg::B => self.write_b(value, now),
            reg::C | reg::D => None,
            register if is_time(register) => {
                // The other registers may show a time long gone.
                self.draw(now);
                self.put(register, value);
                self.runs().then(|| self.set_time(now))
            }
            register => {
                self.put(register, value);
                None
            }
        }
    }

    /// What the registers show at `now`; fields are out of range where the guest put such values.
    pub(crate) fn shown(&mut self, now: i64) -> Civil {
        self.draw(now);
        reg::read_time(&self.cmos)
    }

    fn write_a(&mut self, value: u8, now: i64) -> Option<i64> {
        let (was, will) = (self.get(reg::A) & reg::DIVIDER, value & reg::DIVIDER);
        let held = |divider: u8| divider & reg::DIVIDER_RESET == reg::DIVIDER_RESET;
        if will > reg::DIVIDER_RUNS {
            self.draw(now);
        }
        self.put(reg::A, value & !reg::UIP);
        let released = held(was) && will <= reg::DIVIDER_RUNS && self.get(reg::B) & reg::SET == 0;
        released.then(|| {
            // The first update comes half a second after the divider was released.
            self.phase = SECOND / 2;
            self.set_time(now)
        })
    }

    fn write_b(&mut self, mut value: u8, now: i64) -> Option<i64> {
        let mut set = None;
        if value & reg::SET != 0 {
            self.draw(now);
            value &= !reg::UIE;
        } else if self.get(reg::B) & reg::SET != 0 && self.divider_runs() {
            // Read as it was written: in the mode that was in force until now.
            self.phase = self.nanosecond(now);
            set = Some(self.set_time(now));
        }
        self.put(reg::B, value);
        let flags = self.get(reg::C) & !reg::IRQF;
        self.put(reg::C, flags);
        self.raise(0);
        set
    }

    /// The time becomes what the registers show.
    fn set_time(&mut self, now: i64) -> i64 {
        self.second = reg::read_time(&self.cmos).seconds();
        self.since = now;
        self.checked = now;
        self.second
    }

    /// The registers become what the time is, unless they are held.
    fn draw(&mut self, now: i64) {
        if self.runs() {
            let second = self.civil(now);
            reg::write_time(&mut self.cmos, Civil::of(second));
        }
    }

    /// Brings the flags in register C up to date.
    fn advance(&mut self, now: i64) {
        let from = std::mem::replace(&mut self.checked, now);
        if self.get(reg::A) & reg::DIVIDER_RESET == reg::DIVIDER_RESET || now <= from {
            return;
        }
        let (before, after) = (self.civil(from), self.civil(now));
        let mut flags = 0;
        if after > before {
            flags |= reg::UF;
            if self.get(reg::B) & reg::SET == 0 && self.alarm_between(before, after) {
                flags |= reg::AF;
            }
        }
        if self.get(reg::B) & reg::PIE != 0
            && let Some(period) = period(self.get(reg::A) & reg::RATE)
        {
            let number = |at: i64| i128::from(at) * i128::from(CRYSTAL) / i128::from(SECOND * period);
            if number(now) > number(from) {
                flags |= reg::PF;
            }
        }
        self.raise(flags);
    }

    fn raise(&mut self, flags: u8) {
        let mut all = self.get(reg::C) | flags;
        if all & self.get(reg::B) & (reg::PF | reg::AF | reg::UF) != 0 {
            all |= reg::IRQF;
        }
        self.put(reg::C, all);
    }

    /// Whether the alarm's time is one of the seconds after `before` up to `after`.
    fn alarm_between(&self, before: i64, after: i64) -> bool {
        let mode = self.get(reg::B);
        let hour = reg::decode_alarm_hours(self.get(reg::HOURS_ALARM), mode);
        let minute = reg::decode(self.get(reg::MINUTES_ALARM), mode);
        let second = reg::decode(self.get(reg::SECONDS_ALARM), mode);
        let misses = |wanted: Option<i64>, shown: i64| wanted.is_some_and(|wanted| wanted != shown);
        // An alarm has no date: in a day it comes, or it never does.
        let mut at = before.max(after - 86_400) + 1;
        while at <= after {
            let time = at.rem_euclid(86_400);
            at += if misses(hour, time / 3600) {
                3600 - time % 3600
            } else if misses(minute, time / 60 % 60) {
                60 - time % 60
            } else if misses(second, time % 60) {
                1
            } else {
                return true;
            };
        }
        false
    }

    /// The civil second at `now`, were it not held.
    fn civil(&self, now: i64) -> i64 {
        self.second + self.elapsed(now).div_euclid(SECOND)
    }

    /// The nanoseconds that have passed in it.
    fn nanosecond(&self, now: i64) -> i64 {
        self.elapsed(now).rem_euclid(SECOND)
    }

    fn elapsed(&self, now: i64) -> i64 {
        now.saturating_sub(self.since).saturating_add(self.phase)
    }

    fn runs(&self) -> bool {
        self.get(reg::B) & reg::SET == 0 && self.divider_runs()
    }

    fn divider_runs(&self) -> bool {
        self.get(reg::A) & reg::DIVIDER <= reg::DIVIDER_RUNS
    }

    /// The register that the data port is about: the century has two numbers.
    fn selected(&mut self) -> u8 {
        if self.index == reg::CENTURY_PS2 {
            self.index = reg::CENTURY;
        }
        self.index
    }

    fn get(&self, register: u8) -> u8 {
        self.cmos[usize::from(register & 0x7f)]
    }

    fn put(&mut self, register: u8, value: u8) {
        self.cmos[usize::from(register & 0x7f)] = value;
    }
}

fn is_time(register: u8) -> bool {
    matches!(
        register,
        reg::SECONDS
            | reg::MINUTES
            | reg::HOURS
            | reg::WEEKDAY
            | reg::DAY
            | reg::MONTH
            | reg::YEAR
            | reg::CENTURY
    )
}

/// The interval of periodic interrupts in periods of the crystal, by the rate in register A. `None`: there are none.
fn period(rate: u8) -> Option<i64> {
    match rate {
        0 => None,
        // These two are as slow as 8 and 9.
        1 | 2 => Some(1 << (rate + 6)),
        _ => Some(1 << (rate - 1)),
    }
}

#[cfg(test)]
mod tests;
