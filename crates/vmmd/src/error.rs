//! What can be wrong with a command line or a configuration file.
//!
//! A [`ConfigError`] says *where* (the option as it was given, or `file:line:column`), *what* (an [`ErrorKind`],
//! in QEMU's own words wherever QEMU has words for it) and, where a name or value was not known, the nearest
//! valid one. `main` prints it after the program's name and exits 1:
//!
//! ```text
//! vmmd: -mon chardev=c,mode=contrl: Parameter 'mode' does not accept value 'contrl'; did you mean 'control'?
//! ```

use std::fmt;

use crate::suggest;

/// Why a command line or a configuration file was refused, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The option with its value as given (`-qmp unix:q`), or `file:line:column`; `None` for the whole.
    pub origin: Option<String>,
    /// What is wrong. Boxed, to keep the way of those who make no errors short.
    pub kind: Box<ErrorKind>,
    /// What was probably meant, ready to be printed after the text; `None` if nothing can be said.
    pub hint: Option<String>,
}

impl ConfigError {
    /// `kind` at no place in particular.
    #[must_use]
    pub fn new(kind: ErrorKind) -> Self {
        Self { origin: None, kind: Box::new(kind), hint: None }
    }

    /// Says where, unless that has been said already: the innermost place is the most exact one.
    #[must_use]
    pub fn at(mut self, origin: impl Into<String>) -> Self {
        self.origin.get_or_insert(origin.into());
        self
    }

    /// Adds the candidate nearest to `word`, each shown behind `prefix` (`-` for options).
    #[must_use]
    pub fn near<'a>(
        mut self,
        word: &str,
        prefix: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        self.hint = suggest::nearest(word, candidates).map(|it| format!("did you mean '{prefix}{it}'?"));
        self
    }

    /// Adds a hint in words.
    #[must_use]
    pub fn hint(mut self, text: impl Into<String>) -> Self {
        self.hint = Some(text.into());
        self
    }
}

impl From<ErrorKind> for ConfigError {
    fn from(kind: ErrorKind) -> Self {
        Self::new(kind)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{origin}: ")?;
        }
        write!(f, "{}", self.kind)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        if let Some(note) = self.kind.note() {
            write!(f, "\n{note}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with an option, a value, or the whole of them. The texts are QEMU 7.2's where it has one.
#[non_exhaustive]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ErrorKind {
    /// No such option.
    #[error("invalid option")]
    InvalidOption,
    /// The option needs a value and none follows.
    #[error("requires an argument")]
    RequiresArgument,
    /// An argument that is no option: QEMU would take it for a disk image.
    #[error("not an option, and there are no disks that it could be an image for")]
    NotAnOption,
    /// An argument is not UTF-8 (shown lossily in the origin).
    #[error("not valid UTF-8")]
    NotUtf8,
    /// QEMU has this, `vmmd` has not; the text is the reason.
    #[error("known to QEMU but not offered by vmmd: {0}")]
    NotOffered(&'static str),
    /// May be given once only.
    #[error("may be given only once")]
    GivenTwice,
    /// No such key.
    #[error("Invalid parameter '{0}'")]
    InvalidParameter(String),
    /// A key that a value of this kind does not have.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// A key that must be there is not.
    #[error("Parameter '{0}' is missing")]
    Missing(&'static str),
    /// A value of the wrong kind.
    #[error("Parameter '{name}' expects {expected}")]
    Expects {
        /// The key.
        name: String,
        /// What it wants, as QEMU says it: `a number`, `'on' or 'off'`.
        expected: &'static str,
    },
    /// A word that is not one of the key's words.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NotAccepted {
        /// The key.
        name: String,
        /// The word.
        value: String,
    },
    /// A number beyond 64 bits.
    #[error("Value '{value}' is too large for parameter '{name}'")]
    TooLarge {
        /// The key.
        name: String,
        /// The number as given.
        value: String,
    },
    /// A key without a value in a list where each needs one.
    #[error("Expected '=' after parameter '{0}'")]
    ExpectedEquals(String),
    /// An id that is not a letter followed by letters, digits, `-`, `.` and `_`.
    #[error("Parameter '{0}' expects an identifier")]
    Identifier(&'static str),
    /// Two of a kind under one id.
    #[error("Duplicate ID '{id}' for {kind}")]
    DuplicateId {
        /// The id.
        id: String,
        /// `chardev` or `mon`.
        kind: &'static str,
    },
    /// `-qmp DEV`: no such kind of device.
    #[error("'{0}' is not a valid char driver")]
    NotADriver(String),
    /// `-chardev KIND,...`: no such backend.
    #[error("'{0}' is not a valid char driver name")]
    NotADriverName(String),
    /// `-qmp DEV`: the kind is known, the rest is not understood.
    #[error("parse error: {0}")]
    Device(String),
    /// `-chardev` without `id=`.
    #[error("chardev: no id specified")]
    NoChardevId,
    /// `-chardev id=x` without a backend.
    #[error("chardev: \"{0}\" missing backend")]
    MissingBackend(String),
    /// More than one of `path`, `fd` and `host`.
    #[error("None or one of 'path', 'fd' or 'host' option required.")]
    SeveralAddresses,
    /// None of `path`, `fd` and `host`.
    #[error("chardev: socket: one of 'path', 'host' or 'fd' must be given")]
    NoAddress,
    /// A file without `path`.
    #[error("chardev: file: no filename given")]
    NoFileName,
    /// A pipe without `path`.
    #[error("chardev: pipe: no device path given")]
    NoDevicePath,
    /// `path` is empty.
    #[error("chardev: socket: 'path' is empty")]
    EmptyPath,
    /// A unix socket's path of 108 bytes or more.
    #[error("UNIX socket path '{0}' is too long")]
    PathTooLong(String),
    /// `host` without `port`.
    #[error("chardev: socket: no port given")]
    NoPort,
    /// `ipv4=off,ipv6=off`.
    #[error("Cannot disable IPv4 and IPv6 at same time")]
    NoFamily,
    /// `fd` is not a number.
    #[error("Unable to parse FD number {0}")]
    FdNumber(String),
    /// A client's option on a listening socket.
    #[error("'{0}' option is incompatible with socket in server listen mode")]
    NotForServers(&'static str),
    /// A listener's option on a connecting socket.
    #[error("'{0}' option is incompatible with socket in client connect mode")]
    NotForClients(&'static str),
    /// Two keys of which only one may be given.
    #[error("'{0}' and '{1}' are mutually exclusive")]
    Exclusive(&'static str, &'static str),
    /// A monitor on a chardev that does not exist.
    #[error("chardev \"{0}\" not found")]
    ChardevNotFound(String),
    /// Two monitors on one chardev.
    #[error("Device '{0}' is in use")]
    InUse(String),
    /// A fifth serial port.
    #[error("there are four serial ports at most")]
    TooManySerialPorts,
    /// A serial port's chardev that is to take several clients.
    #[error("a serial port has one client at a time; leave 'max-clients' out")]
    SerialClients,
    /// `pretty=on` on a human monitor.
    #[error("'pretty' is not compatible with HMP monitors")]
    PrettyHuman,
    /// A rule that names no command.
    #[error("{0}")]
    Pattern(String),
    /// A device before there is a machine to plug it into.
    #[error("devices cannot be given with --preconfig; plug them with device_add after x-exit-preconfig")]
    DevicePreconfig,
    /// The monitor and its chardev say different things.
    #[error("'{name}' is {here} here but {there} on chardev '{chardev}'")]
    Contradiction {
        /// The key.
        name: &'static str,
        /// The monitor's value.
        here: String,
        /// The chardev's value.
        there: String,
        /// The chardev's id.
        chardev: String,
    },
    /// Two chardevs on stdio.
    #[error("cannot use stdio by multiple character devices")]
    StdioTwice,
    /// A daemon has no stdio.
    #[error("cannot use stdio with -daemonize")]
    StdioDaemon,
    /// `-add-fd`: `fd` or `set` is missing or negative.
    #[error("{0} option is required and must be non-negative")]
    NonNegative(&'static str),
    /// `-add-fd fd=0`, 1 or 2.
    #[error("fd cannot be a standard I/O stream")]
    FdIsStdio,
    /// No such fd, or one that was not inherited (close-on-exec).
    #[error("fd is not valid or already in use")]
    FdNotValid,
    /// No such machine.
    #[error("unsupported machine type")]
    MachineType,
    /// An object has no such property.
    #[error("Property '{object}.{name}' not found")]
    PropertyNotFound {
        /// The object's type, `board-machine` say.
        object: String,
        /// The property.
        name: String,
    },
    /// No such accelerator.
    #[error("invalid accelerator {0}")]
    InvalidAccelerator(String),
    /// `accel=` with nothing after it.
    #[error("no accelerator found")]
    NoAccelerator,
    /// `-accel` beside `-machine accel=`.
    #[error("The -accel and \"-machine accel=\" options are incompatible")]
    AcceleratorTwice,
    /// More virtual CPUs than the machine takes, or fewer than none.
    #[error("Invalid SMP CPUs {count}. The max CPUs supported by machine '{machine}' is {max}")]
    TooManyCpus {
        /// How many.
        count: i64,
        /// The machine's name.
        machine: &'static str,
        /// How many it takes.
        max: u32,
    },
    /// The numbers of `-smp` do not go together; the text says how.
    #[error("Invalid CPU topology: {0}")]
    Topology(String),
    /// A level of `-smp` of which there is one only.
    #[error("{0} not supported by this machine's CPU topology")]
    TopologyLevel(&'static str),
    /// No size.
    #[error("Parameter '{0}' expects a non-negative number below 2^64")]
    Size(&'static str),
    /// A size of 2^64 bytes or more.
    #[error("Value '{value}' is out of range for parameter '{name}'")]
    SizeRange {
        /// The key.
        name: &'static str,
        /// The size as given.
        value: String,
    },
    /// `-m maxmem=` below the size. In bytes.
    #[error(
        "invalid value of maxmem: maximum memory size ({max:#x}) must be at least the initial memory size ({size:#x})"
    )]
    Maxmem {
        /// The most.
        max: u64,
        /// The size.
        size: u64,
    },
    /// `-m slots=` without `maxmem=`.
    #[error("slots specified but no max-size")]
    SlotsAlone,
    /// `-uuid`: no UUID.
    #[error("failed to parse UUID string: wrong format")]
    Uuid,
    /// `-rtc base=`: no date.
    #[error("invalid datetime format")]
    DateTime,
    /// A word that an option has not.
    #[error("invalid option value '{0}'")]
    OptionValue(String),
    /// JSON where an option takes `key=value`.
    #[error("takes key=value,... and no JSON, as in QEMU 7.2")]
    NoJson,
    /// JSON that does not parse, or is not an object.
    #[error("JSON parse error: {0}")]
    Json(String),
    /// A configuration file cannot be read.
    #[error("Could not open '{path}': {reason}")]
    Unreadable {
        /// The file as given.
        path: String,
        /// The operating system's word for it.
        reason: String,
    },
    /// A configuration file is not TOML, or not ours.
    #[error("{0}")]
    Toml(String),
}

impl ErrorKind {
    /// The second line that QEMU prints after some errors.
    fn note(&self) -> Option<&'static str> {
        match self {
            Self::Identifier(_) => {
                Some("Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.")
            }
            Self::PathTooLong(_) => Some("Path must be less than 108 bytes"),
            Self::Size(_) => Some(
                "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\nand exabytes, respectively.",
            ),
            Self::DateTime => Some("valid formats: '2006-06-17T16:01:21' or '2006-06-17'"),
            Self::MachineType => Some("Use -machine help to list supported machines"),
            _ => None,
        }
    }

    /// A switch that is neither on nor off.
    pub(crate) fn on_off(name: &str) -> Self {
        Self::Expects { name: name.to_owned(), expected: "'on' or 'off'" }
    }

    /// Something that is no number.
    pub(crate) fn number(name: &str) -> Self {
        Self::Expects { name: name.to_owned(), expected: "a number" }
    }

    /// `value` is none of `valid`, of which the nearest is named.
    pub(crate) fn choice(name: &str, value: &str, valid: &[&str]) -> ConfigError {
        ConfigError::new(Self::NotAccepted { name: name.to_owned(), value: value.to_owned() }).near(
            value,
            "",
            valid.iter().copied(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_what_hint_and_note_in_this_order() {
        let error = ErrorKind::choice("mode", "contrl", &["readline", "control"]).at("-mon x").at("later");
        assert_eq!(
            error.to_string(),
            "-mon x: Parameter 'mode' does not accept value 'contrl'; did you mean 'control'?"
        );
        let error = ConfigError::new(ErrorKind::MachineType).near("boad", "", ["none", "board"]);
        assert_eq!(
            error.to_string(),
            "unsupported machine type; did you mean 'board'?\nUse -machine help to list supported machines"
        );
    }
}
