//! What the load benchmarks share: servers as processes, samples into figures, and the table's cells.
//!
//! [`process`] starts and ends servers and says where they run, [`stats`] and [`rounds`] turn samples into figures, `table`
//! lays them out. The [`Error`] is that of all of them.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) mod options;
pub mod process;
pub mod rounds;
pub mod stats;
pub(crate) mod table;

/// How long a server may be silent, or not listening yet, before a measurement gives up.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why a measurement, or the whole run, could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{doing}")]
    Io {
        /// What was being done, "connecting to a server".
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A server answered something else than success.
    #[error("unexpected answer: {0}")]
    Answer(String),
    /// A server closed a connection that was in use.
    #[error("the server closed the connection")]
    Closed,
    /// A server sent nothing for [`PATIENCE`].
    #[error("the server was silent for too long")]
    Silent,
    /// A server did not start, or ended too soon.
    #[error("{name} did not serve: {why}")]
    Server {
        /// The server's name in the table.
        name: String,
        /// Its exit status and the end of its standard error.
        why: String,
    },
    /// A wrong option. The text is complete.
    #[error("{0}")]
    Usage(String),
    /// A program that the run needs is not there.
    #[error("{path} is not there; {remedy}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// How to get it.
        remedy: &'static str,
    },
}

/// The result of everything in this module.
pub type Result<T> = std::result::Result<T, Error>;

/// Names what was being done when a system call failed.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|error| {
            let source = error.into();
            match source.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Silent,
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Error::Closed,
                _ => Error::Io { doing, source },
            }
        })
    }
}

/// An error with its causes in one line.
#[must_use]
pub fn describe(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
