//! The last fds of the process are not for what clients have made: an accept, a timer or a duplicate that something running
//! needs is to find one. Nor are those that clients may still send within their budget, so that the two do not add up to all
//! there are.

use qmp_command::{CommandError, CommandResult};
use rustix::event::{EventfdFlags, eventfd};
use rustix::process::{Resource, getrlimit};
use std::os::fd::AsFd;

use crate::plane::Shared;

/// The reserve is this part of the limit of fds, but not more than [`MOST`].
const SHARE: u64 = 8;

/// Nobody needs more in a moment.
const MOST: u64 = 1024;

/// A larger budget, or none, is taken for this part of the limit: something is to be left that can be made.
const PROMISED_SHARE: u64 = 2;

/// Fails when making anything with fds would use up the reserve.
pub(crate) fn check(plane: &Shared) -> CommandResult<()> {
    let Some(limit) = getrlimit(Resource::Nofile).current else { return Ok(()) };
    let reserve = (limit / SHARE).min(MOST);
    let left = u64::try_from(plane.monitors.fds_left()).unwrap_or(u64::MAX);
    let promised = left.min(limit / PROMISED_SHARE);
    let kept = reserve + promised;
    // The one that is asked with counts as open.
    let asked = eventfd(0, EventfdFlags::CLOEXEC);
    if asked.is_ok_and(|fd| fd_closer::descriptors_left(fd.as_fd()) >= kept) {
        return Ok(());
    }
    Err(CommandError::generic(format!(
        "Too many open files: the last {kept} that the process may have are kept for what runs already and for file \
         descriptors that clients pass"
    )))
}
