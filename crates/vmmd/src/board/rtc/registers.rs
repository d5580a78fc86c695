//! The registers of an MC146818: their numbers, their bits, and how time is written in them.

use crate::civil::Civil;

pub(super) const SECONDS: u8 = 0x00;
pub(super) const SECONDS_ALARM: u8 = 0x01;
pub(super) const MINUTES: u8 = 0x02;
pub(super) const MINUTES_ALARM: u8 = 0x03;
pub(super) const HOURS: u8 = 0x04;
pub(super) const HOURS_ALARM: u8 = 0x05;
pub(super) const WEEKDAY: u8 = 0x06;
pub(super) const DAY: u8 = 0x07;
pub(super) const MONTH: u8 = 0x08;
pub(super) const YEAR: u8 = 0x09;
pub(super) const A: u8 = 0x0a;
pub(super) const B: u8 = 0x0b;
pub(super) const C: u8 = 0x0c;
pub(super) const D: u8 = 0x0d;
/// Not the chip's: where PC firmware keeps the reason for a reset.
pub(super) const SHUTDOWN_STATUS: u8 = 0x0f;
/// Not the chip's either: the century, as PCs have it.
pub(super) const CENTURY: u8 = 0x32;
/// The century again, as PS/2 machines have it.
pub(super) const CENTURY_PS2: u8 = 0x37;

/// Register A: an update is under way or comes within 244 µs. Read only.
pub(super) const UIP: u8 = 0x80;
/// Register A: the divider. Up to 0x20 it runs; 0x60 and 0x70 hold it in reset.
pub(super) const DIVIDER: u8 = 0x70;
pub(super) const DIVIDER_RUNS: u8 = 0x20;
pub(super) const DIVIDER_RESET: u8 = 0x60;
/// Register A: the rate of periodic interrupts.
pub(super) const RATE: u8 = 0x0f;

/// Register B: updates are held while the time is set.
pub(super) const SET: u8 = 0x80;
/// Register B: periodic interrupts.
pub(super) const PIE: u8 = 0x40;
/// Register B: alarm interrupts.
pub(super) const AIE: u8 = 0x20;
/// Register B: update-ended interrupts.
pub(super) const UIE: u8 = 0x10;
/// Register B: square wave.
pub(super) const SQWE: u8 = 0x08;
/// Register B: binary, not BCD.
pub(super) const BINARY: u8 = 0x04;
/// Register B: 24 hours, not twice 12.
pub(super) const HOURS_24: u8 = 0x02;

/// Register C: one of the others, and its interrupt is enabled.
pub(super) const IRQF: u8 = 0x80;
/// Register C: the periodic interval has passed. Its place is that of PIE in B; the next two likewise.
pub(super) const PF: u8 = 0x40;
/// Register C: the alarm's time came.
pub(super) const AF: u8 = 0x20;
/// Register C: an update ended.
pub(super) const UF: u8 = 0x10;

/// Register D: the time is valid.
pub(super) const VRT: u8 = 0x80;

/// In the hours, not with 24 of them: after noon.
const PM: u8 = 0x80;

/// The battery-backed memory, the registers among it.
pub(super) type Cmos = [u8; 128];

/// A register as a number. `None` for 0xC0 and above, which in an alarm means "any".
pub(super) fn decode(value: u8, mode: u8) -> Option<i64> {
    if value & 0xc0 == 0xc0 {
        None
    } else if mode & BINARY != 0 {
        Some(value.into())
    } else {
        Some(i64::from(value >> 4) * 10 + i64::from(value & 0x0f))
    }
}

/// A number as a register. What does not fit loses its upper bits.
pub(super) fn encode(number: i64, mode: u8) -> u8 {
    let written = if mode & BINARY != 0 { number } else { number / 10 * 16 + number % 10 };
    written.to_le_bytes()[0]
}

/// The hour of the day that the alarm's register says. `None`: any.
pub(super) fn decode_alarm_hours(value: u8, mode: u8) -> Option<i64> {
    // In either mode, so before the half of the day is looked at.
    decode(value, mode)?;
    if mode & HOURS_24 != 0 { decode(value, mode) } else { Some(decode_hours(value, mode)) }
}

/// The hour of the day that the hours' register says.
fn decode_hours(value: u8, mode: u8) -> i64 {
    // Without the bit it is a number, whatever it is.
    let hour = decode(value & !PM, mode).unwrap_or(-1);
    if mode & HOURS_24 != 0 { hour } else { hour % 12 + if value & PM != 0 { 12 } else { 0 } }
}

fn encode_hours(hour: i64, mode: u8) -> u8 {
    if mode & HOURS_24 != 0 {
        return encode(hour, mode);
    }
    let shown = if hour % 12 == 0 { 12 } else { hour % 12 };
    encode(shown, mode) | if hour >= 12 { PM } else { 0 }
}

/// The time that the registers show. What is no number counts as -1, as in QEMU.
pub(super) fn read_time(cmos: &Cmos) -> Civil {
    let mode = cmos[usize::from(B)];
    let at = |register: u8| decode(cmos[usize::from(register)], mode).unwrap_or(-1);
    Civil {
        year: at(YEAR) + at(CENTURY) * 100,
        month: at(MONTH),
        day: at(DAY),
        hour: decode_hours(cmos[usize::from(HOURS)], mode),
        minute: at(MINUTES),
        second: at(SECONDS),
    }
}

/// Makes the registers show this time.
pub(super) fn write_time(cmos: &mut Cmos, civil: Civil) {
    let mode = cmos[usize::from(B)];
    let mut put = |register: u8, number| cmos[usize::from(register)] = encode(number, mode);
    put(SECONDS, civil.second);
    put(MINUTES, civil.minute);
    put(WEEKDAY, civil.weekday());
    put(DAY, civil.day);
    put(MONTH, civil.month);
    put(YEAR, civil.year.rem_euclid(100));
    put(CENTURY, civil.year.div_euclid(100));
    cmos[usize::from(HOURS)] = encode_hours(civil.hour, mode);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bcd_and_binary() {
        assert_eq!((encode(59, 0), encode(59, BINARY)), (0x59, 59));
        assert_eq!((decode(0x59, 0), decode(0x59, BINARY)), (Some(59), Some(0x59)));
        assert_eq!(decode(0xff, BINARY), None);
    }

    #[test]
    fn noon_and_midnight_are_twelve() {
        for (hour, register) in [(0, 0x12), (1, 0x01), (11, 0x11), (12, 0x92), (13, 0x81), (23, 0x91)] {
            assert_eq!(encode_hours(hour, 0), register, "{hour}");
            assert_eq!(decode_hours(register, 0), hour, "{hour}");
            assert_eq!(decode_alarm_hours(register, 0), Some(hour), "{hour}");
        }
        assert_eq!(decode_alarm_hours(0xff, HOURS_24), None);
        assert_eq!(decode_alarm_hours(0xc0, 0), None);
        assert_eq!(decode_alarm_hours(0x23, HOURS_24), Some(23));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(seconds in 0i64..250_000_000_000, mode in 0u8..=7) {
            let mut cmos = [0; 128];
            cmos[usize::from(B)] = mode & (BINARY | HOURS_24);
            let civil = Civil::of(seconds);
            write_time(&mut cmos, civil);
            prop_assert_eq!(read_time(&cmos), civil);
        }

        #[test]
        fn any_bytes_are_some_time(bytes in prop::collection::vec(any::<u8>(), 128)) {
            let mut cmos: Cmos = bytes.try_into().unwrap();
            let civil = Civil::of(read_time(&cmos).seconds());
            write_time(&mut cmos, civil);
        }
    }
}
