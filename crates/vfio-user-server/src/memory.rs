//! Shared memory, mapped: with [`crate::sys`], the only `unsafe` code of this crate.
//!
//! Another process may write to it at any time, so there are never references to it: bytes are copied in and out. Who
//! makes a [`Mapping`] answers for the file's staying as large as the mapping (a sealed memfd, or a trusted owner): access
//! to a mapping past its file's end would end this process.
#![expect(unsafe_code, reason = "copies from and to memory that other processes share")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use memmap2::{MmapOptions, MmapRaw};

/// A shared mapping of a part of a file. Unmapped by its drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    map: MmapRaw,
    /// Bytes between the start of the page and the part itself.
    delta: usize,
    length: usize,
    writable: bool,
}

impl Mapping {
    /// Maps `length` bytes from `offset`, which need not be aligned.
    ///
    /// # Errors
    /// Those of `mmap`; `EINVAL` if `length` is 0 or the range wraps.
    pub(crate) fn new(file: impl AsFd, offset: u64, length: usize, writable: bool) -> io::Result<Self> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let page = rustix::param::page_size();
        let delta = usize::try_from(offset % page as u64).map_err(|_| invalid())?;
        let total = length.checked_add(delta).filter(|_| length > 0).ok_or_else(invalid)?;
        let start = offset - delta as u64;
        start.checked_add(total as u64).filter(|end| i64::try_from(*end).is_ok()).ok_or_else(invalid)?;
        let mut options = MmapOptions::new();
        options.offset(start).len(total).no_reserve_swap();
        let raw = file.as_fd().as_raw_fd();
        let map = if writable { options.map_raw(raw)? } else { options.map_raw_read_only(raw)? };
        // Not for a child: DMA goes on while somebody forks.
        #[cfg(target_os = "linux")]
        map.advise(memmap2::Advice::DontFork)?;
        Ok(Self { map, delta, length, writable })
    }

    /// In bytes.
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Whether [`write`](Self::write) works.
    pub(crate) fn writable(&self) -> bool {
        self.writable
    }

    /// Where the part starts in this process, for `process_vm_writev`.
    pub(crate) fn address(&self) -> usize {
        self.map.as_ptr().expose_provenance() + self.delta
    }

    /// Copies from the part. `false`, and nothing done, if the range is not within it.
    #[must_use]
    pub(crate) fn read(&self, offset: usize, data: &mut [u8]) -> bool {
        if !self.holds(offset, data.len()) {
            return false;
        }
        // SAFETY: the range was just checked to be within the mapping, which lives as long as `self` and is readable.
        // `data` is memory of our own that cannot overlap it. Other processes may write at the same time; no
        // reference to the mapping exists, and the bytes are not interpreted.
        unsafe {
            let source = self.map.as_ptr().add(self.delta + offset);
            std::ptr::copy_nonoverlapping(source, data.as_mut_ptr(), data.len());
        }
        true
    }

    /// Copies into the part. `false`, and nothing done, if the range is not within it or it is read-only.
    #[must_use]
    pub(crate) fn write(&self, offset: usize, data: &[u8]) -> bool {
        if !self.writable || !self.holds(offset, data.len()) {
            return false;
        }
        // SAFETY: as in `read`; the mapping is writable, as was just checked.
        unsafe {
            let target = self.map.as_mut_ptr().add(self.delta + offset);
            std::ptr::copy_nonoverlapping(data.as_ptr(), target, data.len());
        }
        true
    }

    fn holds(&self, offset: usize, length: usize) -> bool {
        offset.checked_add(length).is_some_and(|end| end <= self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    #[test]
    fn unaligned_parts_are_read_and_written_where_they_are() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 3 * 4096).unwrap();
        let part = Mapping::new(&file, 4000, 5000, true).unwrap();
        assert!(part.write(0, b"start") && part.write(4995, b"end.."));
        let mut data = [0; 5];
        rustix::io::pread(&file, &mut data, 4000).unwrap();
        assert_eq!(&data, b"start");
        rustix::io::pread(&file, &mut data, 8995).unwrap();
        assert_eq!(&data, b"end..");
        assert!(part.read(4995, &mut data));
        assert_eq!(&data, b"end..");
    }

    #[test]
    fn nothing_outside_is_touched() {
        let file = memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&file, 8192).unwrap();
        let part = Mapping::new(&file, 0, 4096, false).unwrap();
        let mut data = [0; 2];
        assert!(!part.read(4095, &mut data));
        assert!(!part.read(usize::MAX, &mut data));
        assert!(!part.write(0, &data));
        assert!(Mapping::new(&file, 0, 0, true).is_err());
        assert!(Mapping::new(&file, u64::MAX - 4096, 4096, true).is_err());
    }
}
