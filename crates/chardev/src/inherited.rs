//! Descriptors that the process was started with, known by number only (`fd=7` on a command line, systemd's sockets).

#![expect(unsafe_code, reason = "a number becomes an owned descriptor here, which has no safe way")]

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};

/// The numbers taken so far. Process-wide because the numbers are: whoever takes one owns it, and two owners of a number
/// would close each other's files.
static TAKEN: Mutex<BTreeSet<RawFd>> = Mutex::new(BTreeSet::new());

/// Takes ownership of a descriptor that the process inherited, and makes it close-on-exec. Each number can be taken
/// once in a process's life.
///
/// What was inherited is told by its not being close-on-exec: it came through `exec`, while Rust's library and this
/// project open everything close-on-exec. (QEMU tells them apart the same way.) Code that opens descriptors
/// otherwise, or takes inherited ones by other means, must keep its numbers away from here. Call early, before such
/// code runs.
///
/// # Errors
/// `InvalidInput` for 0, 1 and 2 and negative numbers; `AlreadyExists` if it was taken before or is close-on-exec
/// (someone in this process has opened it); what the system says if it is not open (`EBADF`).
pub fn take(fd: RawFd) -> io::Result<OwnedFd> {
    if fd <= 2 {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "fd cannot be a standard I/O stream"));
    }
    let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    if taken.contains(&fd) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "fd is in use already"));
    }
    // SAFETY: the number is not -1. It is only asked for its flags, which is harmless whatever it is, and the borrow
    // ends before this function does.
    let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = fcntl_getfd(borrowed)?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "fd is in use already"));
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    taken.insert(fd);
    // SAFETY: it is open, as fcntl has just said. Nobody else owns it: it was inherited (see above), and the set,
    // locked since before it was looked at, gives each number to one caller only.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, IntoRawFd};

    use super::*;

    #[test]
    fn once_and_only_what_was_inherited() {
        // As if inherited: not close-on-exec and owned by nobody. High, so that no other test gets the number meanwhile.
        let file = std::fs::File::open("/dev/null").unwrap();
        let number = rustix::io::fcntl_dupfd_cloexec(&file, 500).unwrap().into_raw_fd();
        assert_eq!(take(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        // SAFETY: the number has just been let go of and stays open.
        fcntl_setfd(unsafe { BorrowedFd::borrow_raw(number) }, FdFlags::empty()).unwrap();

        let fd = take(number).unwrap();
        assert_eq!(fd.as_raw_fd(), number);
        assert!(fcntl_getfd(&fd).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(take(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        drop(fd);
        assert_eq!(take(number).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn refused() {
        for fd in [-1, 0, 1, 2] {
            assert_eq!(take(fd).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        assert_eq!(take(1_000_000).unwrap_err().raw_os_error(), Some(rustix::io::Errno::BADF.raw_os_error()));
    }
}
