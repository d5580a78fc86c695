//! The machine: virtual CPUs, memory, UUID, real-time clock.
//!
//! The parsers here are for the values of `-smp`, `-m`, `-uuid` and `-rtc` and for the same values in a file. They say
//! what QEMU 7.2 says.

use serde::Deserialize;

use super::{MachineConfig, MachineKind};
use crate::civil::Civil;
use crate::error::ConfigError;
use crate::error::ErrorKind;

/// The virtual CPUs, and how they are packed: `sockets * cores * threads` is how many there could be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Smp {
    /// How many there are, 1 to 255.
    pub cpus: u32,
    /// Sockets of the board.
    pub sockets: u32,
    /// Cores of a socket.
    pub cores: u32,
    /// Threads of a core.
    pub threads: u32,
}

impl Default for Smp {
    fn default() -> Self {
        Self { cpus: 1, sockets: 1, cores: 1, threads: 1 }
    }
}

/// [`Smp`] as it was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the key of the same name")]
pub struct SmpSpec {
    pub cpus: Option<i64>,
    pub maxcpus: Option<i64>,
    pub sockets: Option<i64>,
    pub dies: Option<i64>,
    pub clusters: Option<i64>,
    pub cores: Option<i64>,
    pub threads: Option<i64>,
}

impl SmpSpec {
    /// What is meant on a machine of this kind. Cores are preferred over sockets, and both over threads, where the
    /// numbers leave a choice.
    ///
    /// # Errors
    /// A number is 0, they do not go together, or there are too many.
    pub fn build(self, machine: MachineKind) -> Result<Smp, ConfigError> {
        let Self { cpus, maxcpus, sockets, dies, clusters, cores, threads } = self;
        if [cpus, maxcpus, sockets, dies, clusters, cores, threads].contains(&Some(0)) {
            return Err(
                ErrorKind::Topology("CPU topology parameters must be greater than zero".into()).into()
            );
        }
        let too_many =
            |count: i64| ErrorKind::TooManyCpus { count, machine: machine.word(), max: machine.max_cpus() };
        // What is out of any range is reported as such, before it is multiplied.
        for count in [cpus, maxcpus, sockets, dies, clusters, cores, threads].into_iter().flatten() {
            if !(0..=i64::from(u16::MAX)).contains(&count) {
                return Err(too_many(count).into());
            }
        }
        for (name, count) in [("dies", dies), ("clusters", clusters)] {
            if count.is_some_and(|count| count > 1) {
                return Err(ErrorKind::TopologyLevel(name).into());
            }
        }
        let given = maxcpus.or(cpus);
        let (sockets, cores, threads) = match given {
            None => (sockets.unwrap_or(1), cores.unwrap_or(1), threads.unwrap_or(1)),
            Some(max) => spread(max, sockets, cores, threads),
        };
        let product = sockets * cores * threads;
        let max = given.unwrap_or(product);
        let cpus = cpus.unwrap_or(max);
        let hierarchy = || format!("sockets ({sockets}) * cores ({cores}) * threads ({threads})");
        if product != max {
            let text =
                format!("product of the hierarchy must match maxcpus: {} != maxcpus ({max})", hierarchy());
            return Err(ErrorKind::Topology(text).into());
        }
        if max < cpus {
            let text = format!(
                "maxcpus must be equal to or greater than smp: {} == maxcpus ({max}) < smp_cpus ({cpus})",
                hierarchy()
            );
            return Err(ErrorKind::Topology(text).into());
        }
        let in_range = |count: i64| u32::try_from(count).ok().filter(|count| *count <= machine.max_cpus());
        let part = |count: i64| in_range(count).ok_or_else(|| too_many(max));
        Ok(Smp {
            cpus: part(max).and(part(cpus))?,
            sockets: part(sockets)?,
            cores: part(cores)?,
            threads: part(threads)?,
        })
    }
}

/// Fills in what was not said, so that the product is `max` if it can be.
fn spread(max: i64, sockets: Option<i64>, cores: Option<i64>, threads: Option<i64>) -> (i64, i64, i64) {
    match (sockets, cores, threads) {
        (sockets, None, threads) => {
            let (sockets, threads) = (sockets.unwrap_or(1), threads.unwrap_or(1));
            (sockets, max / (sockets * threads), threads)
        }
        (None, Some(cores), threads) => {
            let threads = threads.unwrap_or(1);
            (max / (cores * threads), cores, threads)
        }
        (Some(sockets), Some(cores), threads) => (sockets, cores, threads.unwrap_or(max / (sockets * cores))),
    }
}

/// How much memory the guest has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySize(u64);

impl MemorySize {
    /// So many bytes, rounded up to 8 KiB; none at all means the default.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        match bytes {
            0 => Self::default(),
            bytes => Self(bytes.checked_next_multiple_of(8 << 10).unwrap_or(u64::MAX)),
        }
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl Default for MemorySize {
    /// 128 MiB.
    fn default() -> Self {
        Self(128 << 20)
    }
}

/// The bytes that `text` says: a number, perhaps with a fraction, and `B`, `K`, `M`, `G`, `T`, `P` or `E`, in either
/// case. Without a letter `unit` counts.
///
/// # Errors
/// It says something else, or 2^64 bytes or more.
pub fn parse_size(name: &'static str, text: &str, unit: u64) -> Result<u64, ConfigError> {
    let wrong = || ConfigError::new(ErrorKind::Size(name));
    let out_of_range = || ConfigError::new(ErrorKind::SizeRange { name, value: text.to_owned() });
    let (number, unit) = match text.chars().last().map(|last| last.to_ascii_uppercase()) {
        Some(last) if last.is_ascii_alphabetic() => {
            let power = "BKMGTPE".find(last).ok_or_else(wrong)?;
            (&text[..text.len() - 1], 1u64 << (10 * power))
        }
        _ => (text, unit),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| out_of_range())?;
    let whole = whole.checked_mul(unit).ok_or_else(out_of_range)?;
    // More digits than these are less than a byte.
    let fraction = &fraction[..fraction.len().min(18)];
    let tenths: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| wrong())? };
    let scale = 10u128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let part = u64::try_from(tenths * u128::from(unit) / scale).map_err(|_| out_of_range())?;
    whole.checked_add(part).ok_or_else(out_of_range)
}

/// The sixteen bytes of `12345678-9abc-def0-1234-56789abcdef0`.
///
/// # Errors
/// It has not this form.
pub fn parse_uuid(text: &str) -> Result<[u8; 16], ConfigError> {
    let hyphens: Vec<_> = text.match_indices('-').map(|(place, _)| place).collect();
    let digits: String = text.split('-').collect();
    let fits = hyphens == [8, 13, 18, 23] && digits.len() == 32;
    match u128::from_str_radix(&digits, 16) {
        // A sign would be a number, too.
        Ok(number) if fits && !digits.starts_with('+') => Ok(number.to_be_bytes()),
        _ => Err(ErrorKind::Uuid.into()),
    }
}

/// The real-time clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RtcConfig {
    /// What it shows at the start.
    pub base: RtcBase,
    /// What drives it.
    pub clock: RtcClock,
}

/// What a real-time clock shows at the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtcBase {
    /// UTC.
    #[default]
    Utc,
    /// The host's local time.
    Localtime,
    /// This time, in seconds since 1970-01-01 00:00:00.
    At(i64),
}

impl RtcBase {
    /// `utc`, `localtime`, `2006-06-17T16:01:21` or `2006-06-17`.
    ///
    /// # Errors
    /// It is none of these, or no date.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        match text {
            "utc" => Ok(Self::Utc),
            "localtime" => Ok(Self::Localtime),
            date => parse_date(date).map(Self::At).ok_or_else(|| ErrorKind::DateTime.into()),
        }
    }
}

fn parse_date(text: &str) -> Option<i64> {
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0:0"));
    let numbers = |text: &str, separator: char| -> Option<[i64; 3]> {
        let parts = text.split(separator).map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<i16>().ok().map(i64::from)).flatten()
        });
        parts.collect::<Option<Vec<_>>>()?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let civil = Civil { year, month, day, hour, minute, second };
    let seconds = civil.seconds();
    (Civil::of(seconds) == civil).then_some(seconds)
}

/// What drives a real-time clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RtcClock {
    /// The host's time of day, with its jumps.
    #[default]
    Host,
    /// The host's clock that never jumps.
    Rt,
    /// The guest's clock, which stands while the machine is paused.
    Vm,
}

impl RtcClock {
    /// The clock called `word`.
    ///
    /// # Errors
    /// There is none.
    pub fn parse(word: &str) -> Result<Self, ConfigError> {
        match word {
            "host" => Ok(Self::Host),
            "rt" => Ok(Self::Rt),
            "vm" => Ok(Self::Vm),
            other => Err(ConfigError::new(ErrorKind::OptionValue(other.to_owned())).near(
                other,
                "",
                ["host", "rt", "vm"],
            )),
        }
    }
}

impl MachineConfig {
    /// Whether a test moves the guest's clock: the accelerator is `qtest`.
    #[must_use]
    pub fn is_test_driven(&self) -> bool {
        self.accel.first().is_some_and(|name| name == "qtest")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes() {
        let size = |text| parse_size("size", text, 1 << 20).map_err(|error| error.to_string());
        assert_eq!(size("1"), Ok(1 << 20));
        assert_eq!(size("0.5k"), Ok(512));
        assert_eq!(size("1."), Ok(1 << 20));
        assert_eq!(size("15.999999999999999999999E"), Ok(18_446_744_073_709_551_614));
        for text in ["", "K", ".5", "1KK", "1 K", "0x10", "1e3", "-1", "+1", "1.5.5", "ä", "1ä"] {
            assert!(size(text).unwrap_err().contains("expects a non-negative number"), "{text}");
        }
        for text in ["16E", "18446744073709551616B", "99999999999999999999999"] {
            assert!(size(text).unwrap_err().contains("is out of range"), "{text}");
        }
    }

    #[test]
    fn uuids() {
        for text in [
            "",
            "12345678-9abc-def0-1234-56789abcdef",
            "12345678-9abc-def0-1234-56789abcdefg",
            "12345678-9abc-def0-123456789abc-def0",
            "+2345678-9abc-def0-1234-56789abcdef0",
            "123456789abcdef0123456789abcdef0",
        ] {
            assert!(parse_uuid(text).is_err(), "{text}");
        }
    }

    #[test]
    fn dates() {
        assert_eq!(RtcBase::parse("2000-2-29T1:2:3"), Ok(RtcBase::At(951_786_123)));
        for text in
            ["", "2001-02-29", "2000-01-01T24:00:00", "2000-01", "2000-01-01T", "2000-01-01 00:00:00", "UTC"]
        {
            assert!(RtcBase::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_size_or_is_refused(text in "\\PC{0,8}|[0-9.]{0,24}[a-zA-Z]?", unit in 1u64..1 << 40) {
            let _ = parse_size("size", &text, unit);
        }

        #[test]
        fn a_size_is_what_was_written(number in any::<u32>(), power in 0u32..4) {
            let letter = ["B", "k", "M", "g"][power as usize];
            let size = parse_size("size", &format!("{number}{letter}"), 1).unwrap();
            prop_assert_eq!(size, u64::from(number) << (10 * power));
        }

        #[test]
        fn a_uuid_is_what_was_written(bytes in any::<[u8; 16]>()) {
            let hex = format!("{:032x}", u128::from_be_bytes(bytes));
            let text = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
            prop_assert_eq!(parse_uuid(&text), Ok(bytes));
        }

        /// Whatever is asked for: a topology that holds, or a refusal.
        #[test]
        fn a_topology_holds(numbers in prop::array::uniform5(prop::option::of(prop_oneof![0i64..12, any::<i64>()]))) {
            let [cpus, maxcpus, sockets, cores, threads] = numbers;
            let spec = SmpSpec { cpus, maxcpus, sockets, cores, threads, ..SmpSpec::default() };
            if let Ok(smp) = spec.build(MachineKind::Board) {
                let most = smp.sockets * smp.cores * smp.threads;
                prop_assert!((1..=255).contains(&smp.cpus) && smp.cpus <= most && most <= 255);
                prop_assert!(cpus.is_none_or(|cpus| cpus == i64::from(smp.cpus)));
                prop_assert!(maxcpus.is_none_or(|max| max == i64::from(most)));
            }
        }
    }
}
