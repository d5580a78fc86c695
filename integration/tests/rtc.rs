//! The real-time clock of vmmd's board, poked through its ports as QEMU's test programs do, and held against the one of
//! QEMU's `pc`.
//!
//! Both clocks stand unless the test moves them, so that every byte can be compared. Debian's QEMU cannot have its clock
//! moved (it has no accelerator `qtest`); there only the registers are compared, not how time passes in them. `RTC_QEMU`
//! names another QEMU 7.2. The streams are made from a seed that a failure prints; `RTC_SEED` runs one again and
//! `RTC_STREAMS` says how many to run. Where QEMU is not installed this says so and passes.

use std::path::Path;

use vmm_integration::qtest::{TestDriven, qemu_is_here};
use vmm_integration::random::Random;
use vmm_integration::vmm::program;

const BASE: &str = "base=2027-12-31T23:59:50,clock=vm";
const TIME: [u8; 8] = [0x00, 0x02, 0x04, 0x06, 0x07, 0x08, 0x09, 0x32];
const ALARM: [u8; 3] = [0x01, 0x03, 0x05];
const SECOND: u64 = 1_000_000_000;

fn ours(options: &[&str]) -> TestDriven {
    let all = [&["-nodefaults", "-machine", "board", "-accel", "qtest"], options].concat();
    TestDriven::start(&program().to_string_lossy(), &all)
}

fn get(machine: &mut TestDriven, register: u8) -> String {
    machine.ask(&format!("outb 0x70 {register:#x}"));
    machine.ask("inb 0x71")
}

fn put(machine: &mut TestDriven, register: u8, value: u8) {
    for request in [format!("outb 0x70 {register:#x}"), format!("outb 0x71 {value:#x}")] {
        assert_eq!(machine.ask(&request), "OK");
    }
}

/// Negotiates, and sets the year the way a guest does.
fn set_year(machine: &mut TestDriven, year: u8) {
    put(machine, 0x0b, 0x82);
    put(machine, 0x09, year);
    put(machine, 0x0b, 0x02);
}

#[test]
fn a_set_clock_is_announced_to_all_with_its_offset() {
    let mut machine = ours(&["-rtc", BASE, "-smp", "2"]);
    machine.qmp().negotiate();
    set_year(&mut machine, 0x30);
    let event = machine.qmp().event("RTC_CHANGE");
    assert_eq!(event["data"]["qom-path"], "/machine/unattached/device[10]");
    let offset = event["data"]["offset"].as_i64().unwrap();
    // Three years with a leap day, less what the host took to get here while the guest's clock stood.
    let wanted = (3 * 365 + 1) * 86_400;
    assert!((wanted - 60..=wanted).contains(&offset), "{offset}");
    assert_eq!(get(&mut machine, 0x09), "OK 0x0030");
}

#[test]
fn of_several_changes_the_first_and_the_last_are_announced() {
    let mut machine = ours(&["-rtc", "base=utc"]);
    machine.qmp().negotiate();
    for year in [0x30, 0x31, 0x32, 0x33] {
        set_year(&mut machine, year);
    }
    let mut offset = || machine.qmp().event("RTC_CHANGE")["data"]["offset"].as_i64().unwrap();
    let (first, last) = (offset(), offset());
    let years = (last - first) / (365 * 86_400);
    assert_eq!(years, 3);
    machine.qmp().run("query-name");
    assert!(machine.qmp().kept_events().is_empty());
}

#[test]
fn the_bases_show_the_time_they_say() {
    let mut date = ours(&["-rtc", "base=2006-06-17T16:01:21,clock=vm"]);
    let shown: Vec<_> = TIME.iter().map(|register| get(&mut date, *register)).collect();
    let wanted = ["0021", "0001", "0016", "0007", "0017", "0006", "0006", "0020"];
    assert_eq!(shown, wanted.map(|byte| format!("OK 0x{byte}")));
    // Nobody has set anything, so the date that is there is no offset.
    date.qmp().negotiate();
    put(&mut date, 0x09, 0x06);
    let offset = date.qmp().event("RTC_CHANGE")["data"]["offset"].as_i64().unwrap();
    assert!((-60..=0).contains(&offset), "{offset}");
}

#[test]
fn a_reset_keeps_the_time_and_turns_interrupts_off() {
    let mut machine = ours(&["-rtc", BASE]);
    machine.qmp().negotiate();
    put(&mut machine, 0x0b, 0x72);
    put(&mut machine, 0x09, 0x31);
    machine.qmp().run("system_reset");
    assert_eq!(get(&mut machine, 0x0b), "OK 0x0012");
    assert_eq!(get(&mut machine, 0x09), "OK 0x0031");
}

/// What is asked of both machines.
struct Stream {
    random: Random,
    /// Binary, 12 or 24 hours, as far as the stream knows.
    mode: u64,
    /// Sometimes with twice twelve hours. Then alarms are every second, and the time is never held, which does not hold
    /// QEMU's alarm.
    halves: bool,
    /// Sometimes with periodic flags. Then the divider is never held, which does not hold QEMU's, and no step is shorter
    /// than an interval, which QEMU counts from when it was chosen and the chip from when it was switched on.
    periodic: bool,
    requests: Vec<String>,
}

impl Stream {
    fn of(seed: u64) -> Vec<String> {
        // Binary or not is decided once, and centuries are near: QEMU counts nanoseconds since 1970, which overflows with
        // dates that are read in the other way.
        let mode = if seed.is_multiple_of(2) { 0x06 } else { 0x02 };
        let halves = seed.is_multiple_of(3);
        let periodic = seed.is_multiple_of(5);
        let mut stream = Self { random: Random(seed), mode, halves, periodic, requests: Vec::new() };
        stream.write(0x0b, mode);
        if halves {
            // QEMU takes the alarm's half of the day from the hour that it is.
            ALARM.into_iter().for_each(|register| stream.write(register, 0xff));
        }
        for _ in 0..60 {
            stream.step();
        }
        stream.requests
    }

    /// Something that a guest might do.
    fn step(&mut self) {
        match self.random.below(11) {
            0 | 1 => {
                let hours = self.random.pick(&[0x02, 0x02, 0x00]);
                self.mode = self.mode & 0x04 | if self.halves { hours } else { 0x02 };
                let last = if self.periodic { 0x40 } else { 0x20 };
                let held = if self.halves { 0x00 } else { 0x80 };
                let others = self.random.pick(&[0x00, held, 0x00, held, 0x10, 0x20, last]);
                self.write(0x0b, others | self.mode);
            }
            2 | 3 => {
                // QEMU takes the other registers as they were last looked at, however long ago; we as they are.
                self.read(0x00);
                let (register, value) = (self.random.pick(&TIME[..7]), self.number());
                self.write(register, value);
            }
            4 => {
                self.read(0x00);
                let (register, century) = (self.random.pick(&[0x32, 0x37]), self.random.pick(&[20, 21]));
                let value = self.encode(century);
                self.write(register, value);
            }
            5 => {
                let values = if self.periodic {
                    [0x26, 0x2c, 0x2f, 0x21, 0x20]
                } else {
                    [0x26, 0x2c, 0x66, 0x76, 0x20]
                };
                let value = self.random.pick(&values);
                self.write(0x0a, value);
            }
            6 => {
                let most = self.random.pick(&[3 * SECOND, 90 * SECOND, SECOND / 1000, 7200 * SECOND]);
                let nanoseconds = 1 + self.random.below(most) + if self.periodic { SECOND } else { 0 };
                self.requests.push(format!("clock_step {nanoseconds}"));
            }
            7 if !self.halves => {
                let (register, value) = (self.random.pick(&ALARM), self.number());
                self.write(register, value);
            }
            8 => {
                let (register, value) =
                    (self.random.pick(&[0x0c, 0x0d, 0x0f, 0x40, 0xc0]), self.random.below(256));
                self.write(register, value);
            }
            9 => self.read(0x0c),
            _ => TIME
                .into_iter()
                .chain(ALARM)
                .chain([0x0a, 0x0b, 0x0d, 0x0f, 0x37, 0x40])
                .for_each(|r| self.read(r)),
        }
    }

    /// A number that every register of a date can hold.
    fn number(&mut self) -> u64 {
        let number = 1 + self.random.below(12);
        self.encode(number)
    }

    fn encode(&self, number: u64) -> u64 {
        if self.mode & 0x04 != 0 { number } else { number / 10 * 16 + number % 10 }
    }

    fn read(&mut self, register: u8) {
        self.requests.extend([format!("outb 0x70 {register:#x}"), "inb 0x71".to_owned()]);
    }

    fn write(&mut self, register: u8, value: u64) {
        self.requests.extend([format!("outb 0x70 {register:#x}"), format!("outb 0x71 {value:#x}")]);
    }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn every_byte_is_that_of_qemu() {
    let qemu = std::env::var("RTC_QEMU").unwrap_or_else(|_| "qemu-system-x86_64".to_owned());
    if !qemu_is_here(Path::new(&qemu)) {
        return;
    }
    let start = |more: &[&str]| {
        let options = [&["-nodefaults", "-machine", "pc", "-m", "32", "-rtc", BASE], more].concat();
        TestDriven::try_start(&qemu, &options)
    };
    let moves = start(&["-accel", "qtest"]).is_ok();
    if !moves {
        eprintln!("{qemu} has no accelerator qtest: how time passes is not compared");
    }
    // The clock stands on a machine that is stopped; its timers would stand as well.
    let options: &[&str] = if moves { &["-accel", "qtest"] } else { &["-accel", "tcg", "-S"] };
    let (first, count) = match setting("RTC_SEED") {
        Some(seed) => (seed, 1),
        None => (1, setting("RTC_STREAMS").unwrap_or(20)),
    };
    for seed in first..first + count {
        let mut machines = [ours(&["-rtc", BASE]), start(options).unwrap()];
        let mut offsets = [None, None];
        machines.iter_mut().for_each(|machine| machine.qmp().negotiate());
        for (n, request) in Stream::of(seed).iter().enumerate() {
            if request.starts_with("clock_step") && !moves {
                continue;
            }
            let [ours, theirs] = machines.each_mut().map(|machine| machine.ask(request));
            assert_eq!(ours, theirs, "RTC_SEED={seed}, request {n}: {request} (ours, QEMU's)");
        }
        for (machine, offset) in machines.iter_mut().zip(&mut offsets) {
            machine.qmp().run("query-name");
            *offset =
                machine.qmp().kept_events().first().map(|event| event["data"]["offset"].as_i64().unwrap());
        }
        let apart = match offsets {
            // QEMU 7.2 cuts the offset to 32 bits.
            [Some(ours), Some(theirs)] => (ours - theirs + 5).rem_euclid(1 << 32) - 5,
            [ours, theirs] => i64::from(ours != theirs) * 1000,
        };
        // They start a moment apart, and the host's time goes on.
        assert!(apart.abs() <= 5, "RTC_SEED={seed}: the first offset is {offsets:?} (ours, QEMU's)");
    }
}
