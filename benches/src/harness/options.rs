//! Values of the benchmarks' command lines.

use std::path::PathBuf;
use std::time::Duration;

use super::{Error, Result};

/// Where Cargo puts the workspace's programs.
pub(crate) fn beside_this_program(name: &str) -> PathBuf {
    std::env::current_exe().map(|program| program.with_file_name(name)).unwrap_or_else(|_| name.into())
}

/// A whole number within bounds.
pub(crate) fn number(option: &str, value: &str, least: usize, most: usize) -> Result<usize> {
    match value.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(Error::Usage(format!("{option} {value:?}: expected a number from {least} to {most}"))),
    }
}

/// A time above 0, up to an hour.
pub(crate) fn seconds(value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    match seconds {
        Some(seconds) if seconds > Duration::ZERO && seconds <= Duration::from_secs(3600) => Ok(seconds),
        _ => Err(Error::Usage(format!("--seconds {value:?}: expected a time above 0, up to 3600"))),
    }
}
