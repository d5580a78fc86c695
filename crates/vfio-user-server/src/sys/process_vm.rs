//! Writes to a mapping that may have lost its file: the kernel does it, and answers an error where a store of our own
//! would end this process with `SIGBUS`.
//!
//! `pwrite` on the file would do that too, but waits for the file's inode lock; and a client can hold that lock for as long
//! as it likes, by writing to the file from memory whose page faults it answers itself (userfaultfd, or a mapped file of
//! a file system in user space). Page faults on the file do not take the lock.
#![expect(unsafe_code, reason = "the kernel is given addresses of our own")]

use rustix::io::Errno;
use rustix::process::Pid;

use crate::memory::Mapping;

/// The most bytes of one call; the kernel's own limit is a page under 2 GiB.
const CHUNK: usize = 1 << 30;

/// Writes `data` to `mapping`, of this process, whose id is `own`. An id of another process would be refused, or hit memory
/// there that this process may write anyway: nothing here depends on it.
///
/// # Errors
/// `EINVAL` if the range is not within the mapping, or it is read-only. `EFAULT` if there is no file behind the range
/// any more (a part of the data may be written then), `ENOSYS` and `EPERM` if the call is not to be had.
pub(crate) fn write_guarded(own: Pid, mapping: &Mapping, offset: usize, data: &[u8]) -> Result<(), Errno> {
    if !mapping.writable() || offset.checked_add(data.len()).is_none_or(|end| end > mapping.len()) {
        return Err(Errno::INVAL);
    }
    let mut done = 0;
    while let Some(rest) = data.get(done..).filter(|rest| !rest.is_empty()) {
        let length = rest.len().min(CHUNK);
        let local = libc::iovec { iov_base: rest.as_ptr().cast_mut().cast(), iov_len: length };
        let target = std::ptr::with_exposed_provenance_mut(mapping.address() + offset + done);
        let remote = libc::iovec { iov_base: target, iov_len: length };
        // SAFETY: the kernel only reads the local range, which is within `data`. The remote range is within the
        // mapping, as checked above (`done + length` is at most `data.len()`), and the mapping outlives the call. No
        // reference to the mapping's memory exists, which other processes may write at any time.
        let written =
            unsafe { libc::process_vm_writev(own.as_raw_nonzero().get(), &local, 1, &remote, 1, 0) };
        match usize::try_from(written) {
            Ok(0) => return Err(Errno::FAULT),
            Ok(count) => done += count,
            Err(_) => match Errno::from_io_error(&std::io::Error::last_os_error()) {
                Some(Errno::INTR) => {}
                error => return Err(error.unwrap_or(Errno::FAULT)),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    use rustix::process::getpid;

    #[test]
    fn a_truncated_file_is_an_error_and_not_the_end() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 8192).unwrap();
        let mapping = Mapping::new(&file, 0, 8192, true).unwrap();
        write_guarded(getpid(), &mapping, 4090, b"across the pages").unwrap();
        let mut data = [0; 16];
        rustix::io::pread(&file, &mut data, 4090).unwrap();
        assert_eq!(&data, b"across the pages");
        ftruncate(&file, 0).unwrap();
        assert_eq!(write_guarded(getpid(), &mapping, 0, b"gone"), Err(Errno::FAULT));
    }

    #[test]
    fn nothing_outside_is_touched() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 8192).unwrap();
        let mapping = Mapping::new(&file, 0, 4096, true).unwrap();
        assert_eq!(write_guarded(getpid(), &mapping, 4095, b"ab"), Err(Errno::INVAL));
        assert_eq!(write_guarded(getpid(), &mapping, usize::MAX, b"ab"), Err(Errno::INVAL));
        let readable = Mapping::new(&file, 0, 4096, false).unwrap();
        assert_eq!(write_guarded(getpid(), &readable, 0, b"ab"), Err(Errno::INVAL));
    }
}
