//! The guest's memory: an anonymous file of its size, of which nothing is there until somebody writes to it.

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

/// What a process can map, and so a guest can have: half of a 48-bit address space. A file can be larger, but no
/// accelerator could make memory of it.
const LARGEST: u64 = 1 << 47;

/// Memory of a fixed size.
#[derive(Debug)]
pub(super) struct Memory {
    _file: OwnedFd,
    size: u64,
}

impl Memory {
    /// Reserves `size` bytes, all zeros.
    ///
    /// # Errors
    /// There is not that much room for addresses, or the process has no room for another fd.
    pub(super) fn reserve(size: u64) -> io::Result<Self> {
        if size > LARGEST {
            return Err(rustix::io::Errno::NOMEM.into());
        }
        let file = memfd_create("board-memory", MemfdFlags::CLOEXEC)?;
        ftruncate(&file, size)?;
        Ok(Self { _file: file, size })
    }

    /// In bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terabyte_costs_nothing_and_an_exabyte_is_refused() {
        assert_eq!(Memory::reserve(1 << 40).unwrap().size(), 1 << 40);
        let error = Memory::reserve(1 << 60).unwrap_err();
        assert_eq!(crate::errno::text(&error), "Cannot allocate memory");
    }
}
