//! The chip, by the data sheet and by what QEMU does where that says nothing.

use proptest::prelude::*;

use super::registers as reg;
use super::*;

/// 2026-03-04 05:06:07, a Wednesday.
const START: i64 = 1_772_600_767;

/// A chip and the time that passes for it.
struct Bench {
    rtc: Rtc,
    now: i64,
}

impl Bench {
    fn new() -> Self {
        Self { rtc: Rtc::new(START, 0, 5), now: 5 }
    }

    fn get(&mut self, register: u8) -> u8 {
        assert_eq!(self.rtc.write(0, register, self.now), None);
        self.rtc.read(1, self.now)
    }

    fn put(&mut self, register: u8, value: u8) -> Option<i64> {
        self.rtc.write(0, register, self.now);
        self.rtc.write(1, value, self.now)
    }

    fn pass(&mut self, nanoseconds: i64) {
        self.now += nanoseconds;
    }

    fn time(&mut self) -> [u8; 8] {
        [reg::CENTURY, reg::YEAR, reg::MONTH, reg::DAY, reg::WEEKDAY, reg::HOURS, reg::MINUTES, reg::SECONDS]
            .map(|register| self.get(register))
    }
}

#[test]
fn it_shows_the_time_and_goes_on() {
    let mut bench = Bench::new();
    assert_eq!(bench.time(), [0x20, 0x26, 0x03, 0x04, 4, 0x05, 0x06, 0x07]);
    assert_eq!([reg::A, reg::B, reg::C, reg::D].map(|r| bench.get(r)), [0x26, 0x02, 0, 0x80]);
    bench.pass(53 * SECOND - 1);
    assert_eq!(bench.get(reg::SECONDS), 0x59);
    bench.pass(1);
    assert_eq!(bench.time(), [0x20, 0x26, 0x03, 0x04, 4, 0x05, 0x07, 0x00]);
    bench.pass(365 * 86_400 * SECOND);
    assert_eq!(bench.time(), [0x20, 0x27, 0x03, 0x04, 5, 0x05, 0x07, 0x00]);
}

#[test]
fn the_index_port_shows_nothing_and_the_century_has_two_numbers() {
    let mut bench = Bench::new();
    assert_eq!(bench.rtc.read(0, bench.now), 0xff);
    assert_eq!(bench.get(reg::CENTURY_PS2), 0x20);
    assert_eq!(bench.rtc.index, reg::CENTURY);
    assert!(bench.put(reg::CENTURY_PS2, 0x19).is_some());
    assert_eq!(bench.get(reg::CENTURY), 0x19);
    // The uppermost bit is not the register's: PCs mask interrupts with it.
    assert_eq!(bench.get(0x80 | reg::MONTH), 0x03);
}

#[test]
fn set_holds_the_time_and_letting_go_sets_it() {
    let mut bench = Bench::new();
    bench.pass(SECOND / 4);
    assert_eq!(bench.put(reg::B, 0x82), None);
    bench.pass(10 * SECOND);
    assert_eq!(bench.get(reg::SECONDS), 0x07);
    assert_eq!(bench.put(reg::YEAR, 0x30), None);
    let set = bench.put(reg::B, 0x02).unwrap();
    assert_eq!(Civil::of(set), Civil { year: 2030, ..Civil::of(START) });
    // The second goes on where its second hand was.
    bench.pass(SECOND * 3 / 4 - 1);
    assert_eq!(bench.get(reg::SECONDS), 0x07);
    bench.pass(1);
    assert_eq!(bench.get(reg::SECONDS), 0x08);
}

#[test]
fn a_write_to_a_running_clock_counts_at_once_and_from_the_time_it_shows() {
    let mut bench = Bench::new();
    bench.pass(3600 * SECOND);
    let set = bench.put(reg::YEAR, 0x29).unwrap();
    assert_eq!(set, Civil { year: 2029, ..Civil::of(START + 3600) }.seconds());
    assert_eq!(bench.put(reg::SECONDS_ALARM, 0x01), None);
    assert_eq!(bench.put(0x40, 0x55), None);
    assert_eq!(bench.get(0x40), 0x55);
}

#[test]
fn binary_and_twelve_hours() {
    let mut bench = Bench::new();
    bench.put(reg::B, reg::BINARY);
    bench.pass(12 * 3600 * SECOND);
    assert_eq!(bench.time(), [20, 26, 3, 4, 4, 0x85, 6, 7]);
    let set = bench.put(reg::HOURS, 12).unwrap();
    assert_eq!(Civil::of(set).hour, 0);
}

/// QEMU reads what was written under SET in the mode that register B had then.
#[test]
fn the_mode_in_force_is_that_before_the_write() {
    let mut bench = Bench::new();
    bench.put(reg::B, 0x82);
    bench.put(reg::MINUTES, 0x30);
    let set = bench.put(reg::B, reg::BINARY | reg::HOURS_24).unwrap();
    assert_eq!(Civil::of(set).minute, 30);
    assert_eq!(bench.get(reg::MINUTES), 30);
}

#[test]
fn the_divider_stops_the_clock_and_its_release_sets_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.put(reg::A, 0x70), None);
    bench.pass(5 * SECOND);
    assert_eq!(bench.get(reg::SECONDS), 0x07);
    assert_eq!(bench.get(reg::C), 0);
    assert_eq!(bench.put(reg::A, 0x26), Some(START));
    bench.pass(SECOND / 2 - 1);
    assert_eq!(bench.get(reg::SECONDS), 0x07);
    bench.pass(1);
    assert_eq!(bench.get(reg::SECONDS), 0x08);
}

#[test]
fn an_update_is_announced_before_it_comes() {
    let mut bench = Bench::new();
    assert_eq!(bench.get(reg::A) & reg::UIP, 0);
    bench.pass(SECOND - UIP_LEAD);
    assert_eq!(bench.get(reg::A) & reg::UIP, reg::UIP);
    bench.put(reg::A, 0xa6);
    bench.pass(UIP_LEAD);
    assert_eq!(bench.get(reg::A), 0x26);
}

#[test]
fn flags_come_up_and_reading_clears_them() {
    let mut bench = Bench::new();
    bench.pass(SECOND);
    assert_eq!(bench.get(reg::C), reg::UF);
    assert_eq!(bench.get(reg::C), 0);
    bench.put(reg::B, 0x02 | reg::UIE);
    bench.pass(SECOND);
    assert_eq!(bench.get(reg::C), reg::UF | reg::IRQF);
    bench.pass(SECOND);
    bench.put(reg::B, 0x02);
    assert_eq!(bench.get(reg::C), reg::UF, "what is not enabled asks for nothing");
}

#[test]
fn the_alarm_comes_when_its_time_has_passed() {
    let mut bench = Bench::new();
    for (register, value) in
        [(reg::HOURS_ALARM, 0x05), (reg::MINUTES_ALARM, 0x06), (reg::SECONDS_ALARM, 0x09)]
    {
        bench.put(register, value);
    }
    bench.pass(SECOND);
    assert_eq!(bench.get(reg::C), reg::UF);
    bench.pass(5 * SECOND);
    assert_eq!(bench.get(reg::C), reg::UF | reg::AF);
    bench.pass(86_000 * SECOND);
    assert_eq!(bench.get(reg::C), reg::UF);
    bench.put(reg::MINUTES_ALARM, 0xff);
    bench.put(reg::HOURS_ALARM, 0xff);
    bench.pass(60 * SECOND);
    assert_eq!(bench.get(reg::C), reg::UF | reg::AF, "every minute");
}

#[test]
fn periodic_flags_need_pie() {
    let mut bench = Bench::new();
    bench.pass(SECOND / 2);
    assert_eq!(bench.get(reg::C), 0);
    bench.put(reg::B, 0x02 | reg::PIE);
    bench.pass(SECOND / 1024 + 1);
    assert_eq!(bench.get(reg::C), reg::PF | reg::IRQF);
    bench.put(reg::A, 0x20);
    bench.pass(SECOND / 4);
    assert_eq!(bench.get(reg::C), 0, "rate 0 is none");
    assert_eq!([1, 2, 3, 6, 15].map(period), [Some(128), Some(256), Some(4), Some(32), Some(16_384)]);
}

#[test]
fn a_reset_keeps_the_time() {
    let mut bench = Bench::new();
    bench.put(reg::B, 0x02 | reg::PIE | reg::AIE | reg::UIE);
    bench.put(reg::SHUTDOWN_STATUS, 5);
    bench.pass(2 * SECOND);
    bench.rtc.reset(bench.now);
    assert_eq!(bench.get(reg::B), 0x02 | reg::UIE);
    assert_eq!((bench.get(reg::C), bench.get(reg::SHUTDOWN_STATUS)), (0, 0));
    assert_eq!(bench.get(reg::SECONDS), 0x09);
}

#[test]
fn a_clock_that_goes_backwards_takes_the_time_along() {
    let mut bench = Bench::new();
    bench.pass(-10 * SECOND);
    assert_eq!(bench.get(reg::MINUTES), 0x05);
    assert_eq!(bench.get(reg::SECONDS), 0x57);
    assert_eq!(bench.get(reg::C), 0);
}

/// An access to the data port.
#[derive(Debug, Clone)]
enum Step {
    Get(u8),
    Put(u8, u8),
    Pass(i64),
    Reset,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let interesting = prop_oneof![0u8..=0x0f, Just(reg::CENTURY), Just(reg::CENTURY_PS2), any::<u8>()];
    let step = prop_oneof![
        interesting.clone().prop_map(Step::Get),
        (interesting, any::<u8>()).prop_map(|(register, value)| Step::Put(register, value)),
        prop_oneof![Just(1i64), 0..3 * SECOND, -3 * SECOND..0, 0..40_000_000 * SECOND].prop_map(Step::Pass),
        Just(Step::Reset),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever is written when: nothing overflows, a set is reported exactly when the time jumps, and held registers
    /// do not move.
    #[test]
    fn no_access_is_too_much(steps in steps()) {
        let mut bench = Bench::new();
        for step in steps {
            match step {
                Step::Get(register) => {
                    let before = bench.rtc.civil(bench.now);
                    bench.get(register);
                    prop_assert_eq!(bench.rtc.civil(bench.now), before);
                }
                Step::Put(register, value) => {
                    let before = bench.rtc.civil(bench.now);
                    let set = bench.put(register, value);
                    prop_assert_eq!(bench.rtc.civil(bench.now), set.unwrap_or(before));
                }
                Step::Pass(nanoseconds) => {
                    let held = (!bench.rtc.runs()).then(|| bench.time());
                    bench.pass(nanoseconds);
                    if let Some(held) = held {
                        prop_assert_eq!(bench.time(), held);
                    }
                }
                Step::Reset => bench.rtc.reset(bench.now),
            }
            prop_assert_eq!(bench.rtc.get(reg::A) & reg::UIP, 0);
        }
    }

    /// What is set while updates are held is what is read afterwards, in every mode.
    #[test]
    fn what_is_set_is_shown(seconds in 0i64..250_000_000_000, mode in 0u8..4) {
        let mode = mode << 1;
        let mut bench = Bench::new();
        bench.put(reg::B, reg::SET | mode);
        let mut wanted = [0; 128];
        wanted[usize::from(reg::B)] = mode;
        reg::write_time(&mut wanted, Civil::of(seconds));
        for register in (0..=reg::YEAR).chain([reg::CENTURY]).filter(|r| is_time(*r)) {
            prop_assert_eq!(bench.put(register, wanted[usize::from(register)]), None);
        }
        prop_assert_eq!(bench.put(reg::B, mode), Some(seconds));
        for register in (0..=reg::YEAR).chain([reg::CENTURY]).filter(|r| is_time(*r)) {
            prop_assert_eq!(bench.get(register), wanted[usize::from(register)]);
        }
    }
}
