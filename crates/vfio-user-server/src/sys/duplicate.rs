//! A descriptor that is only known by its number.
#![expect(unsafe_code, reason = "a number is all there is")]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A duplicate of a descriptor that belongs to somebody else.
///
/// # Errors
/// `EBADF` if there is no such descriptor, `EMFILE`.
pub(crate) fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the call touches no memory, and is an error if there is no such descriptor.
    let duplicate = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) };
    if duplicate < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made it, for nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(duplicate) })
}
