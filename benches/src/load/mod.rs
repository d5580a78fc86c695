//! The load client: starts QMP servers, measures them in turns, reports.
//!
//! From the outside in: [`options`] says what to do, [`run`] does it round by round, [`server`] starts and ends the
//! processes, [`cases`] are the measurements, [`session`] and [`swarm`] the two kinds of client they use
//! (one blocking connection; many on one epoll set), [`stats`] and [`report`] turn samples into figures.
//!
//! A measurement that meets an error reply, a short reply or silence of ten seconds fails; it never reports a figure
//! for work that was not done.

use std::io;
use std::path::PathBuf;

pub mod cases;
pub mod flood;
pub mod options;
mod poll;
pub mod report;
pub mod run;
pub mod server;
pub mod session;
pub mod stats;
pub mod swarm;

/// Why a measurement, or the whole run, could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{doing}")]
    Io {
        /// What was being done, "connecting to a monitor".
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
    /// A server sent nothing for [`session::PATIENCE`].
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
