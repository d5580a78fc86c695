//! The command line: QEMU's options, one dash or two.
//!
//! [`parse`] turns an argument vector into an [`Outcome`]: a [`Config`] to run with, or a text to print. It is pure
//! but for `--config`, for which the caller hands in how a file is read. Complaints come in the order of the
//! options; names are all checked before any value is looked at, as in QEMU.
//!
//! `--config FILE` is read first, wherever it stands. Options then override its single values; chardevs, monitors
//! and fds are added to its lists.
//!
//! ```
//! use vmmd::cli::{Outcome, parse};
//! let no_file = |_: &std::path::Path| Err(std::io::ErrorKind::NotFound.into());
//! let args = ["-machine", "none", "--qmp", "unix:q.sock,server=on,wait=off"];
//! let Outcome::Run(run) = parse(args.map(Into::into), &no_file).unwrap() else { panic!() };
//! assert_eq!(run.config.monitors[0].id, "compat_monitor0");
//! ```

mod describe;
mod device;
mod hardware;
pub mod help;
pub mod keyval;
mod machine;
pub mod options;
mod parse;
mod simple;

pub use describe::command_line_options;

use std::ffi::OsString;
use std::io;
use std::path::Path;

use crate::config::Config;
use crate::error::ConfigError;
use crate::reference::Form;

/// What an option means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opt {
    /// `-name`.
    Name,
    /// `-machine`, `-M`.
    Machine,
    /// `-accel`.
    Accel,
    /// `-enable-kvm`.
    EnableKvm,
    /// `-smp`.
    Smp,
    /// `-m`.
    Memory,
    /// `-uuid`.
    Uuid,
    /// `-rtc`.
    Rtc,
    /// `-qtest`.
    Qtest,
    /// `-qtest-log`.
    QtestLog,
    /// `-qmp`, `-qmp-pretty`.
    Qmp {
        /// Which of the two.
        pretty: bool,
    },
    /// `-chardev`.
    Chardev,
    /// `-mon`.
    Mon,
    /// `-monitor`.
    Monitor,
    /// `-serial`.
    Serial,
    /// `-object`.
    Object,
    /// `-device`.
    Device,
    /// `-add-fd`.
    AddFd,
    /// `-budget`.
    Budget,
    /// `-metrics`.
    Metrics,
    /// `-S`.
    Paused,
    /// `-no-shutdown`.
    NoShutdown,
    /// `-preconfig`.
    Preconfig,
    /// `-no-reboot`.
    NoReboot,
    /// `-action`.
    Action,
    /// `--config`.
    ConfigFile,
    /// `--log-format`.
    LogFormat,
    /// `-msg`.
    Msg,
    /// `-pidfile`.
    Pidfile,
    /// `-daemonize`.
    Daemonize,
    /// `--dump-schema`.
    DumpSchema,
    /// `--test-commands`.
    TestCommands,
    /// `-version`.
    Version,
    /// `-help`, `-h`.
    Help,
    /// `-display`.
    Display,
    /// `-overcommit`.
    Overcommit,
    /// `-sandbox`.
    Sandbox,
    /// Does nothing, as it asks for something not to be there.
    Idle {
        /// The values that do so; if there are none, all do.
        values: &'static [&'static str],
        /// Why another value is refused.
        reason: &'static str,
    },
    /// QEMU has it and `vmmd` has not, for this reason.
    NotOffered(&'static str),
}

/// What a command line asks for.
#[derive(Debug)]
pub enum Outcome {
    /// Run.
    Run(Box<Run>),
    /// Print this to standard output and exit 0.
    Print(String),
    /// Print the description of the QMP interface to standard output and exit 0.
    DumpSchema(Form),
}

/// What to run with.
#[derive(Debug)]
pub struct Run {
    /// The configuration.
    pub config: Config,
    /// What is odd but no error, each with its place and `warning:` before it, to be printed behind `vmmd: `.
    pub warnings: Vec<String>,
}

/// Reads a command line, without the program's name. `read` reads a whole file as text.
///
/// # Errors
/// Whatever is wrong first, with the option as it was given; to be printed as `vmmd: ERROR`, exit 1.
pub fn parse(
    args: impl IntoIterator<Item = OsString>,
    read: &dyn Fn(&Path) -> io::Result<String>,
) -> Result<Outcome, ConfigError> {
    let given = parse::given(args)?;
    parse::build(&given, read)
}
