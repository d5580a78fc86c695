//! Memory shared with a device: its registers, and pages of ours that it reads and writes.
//!
//! The only module here with `unsafe`: a mapping cannot be had without it. Every access is volatile, since a device may
//! change what is read and must see what is written, and checked against the mapping's length.
#![expect(unsafe_code, reason = "mappings, and volatile accesses to them")]

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::ptr::{self, NonNull};

use rustix::mm::{MapFlags, ProtFlags, mlock, mmap, mmap_anonymous, munmap};

/// Bytes of a page on x86-64.
pub(crate) const PAGE: usize = 4096;

/// A mapping, read and written in whole aligned words; unmapped on drop.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Maps the first `len` bytes of `file`, shared.
    pub(crate) fn of_file(file: &File, len: usize) -> io::Result<Self> {
        // SAFETY: the kernel chooses the place, so that nothing of ours is replaced.
        let start = unsafe {
            mmap(ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, file, 0)
        }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?, len })
    }

    fn page() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::POPULATE;
        // SAFETY: the kernel chooses the place, so that nothing of ours is replaced.
        let start =
            unsafe { mmap_anonymous(ptr::null_mut(), PAGE, ProtFlags::READ | ProtFlags::WRITE, flags) }?;
        // SAFETY: this is the page just mapped.
        unsafe { mlock(start, PAGE) }?;
        Ok(Self { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::InvalidData)?, len: PAGE })
    }

    fn at<T>(&self, offset: usize) -> NonNull<T> {
        let size = size_of::<T>();
        assert!(
            offset.is_multiple_of(size) && offset < self.len && size <= self.len - offset,
            "offset {offset:#x}"
        );
        // SAFETY: the offset is inside the mapping, as the assertion says.
        unsafe { self.start.add(offset) }.cast()
    }

    /// Reads the word at `offset` in one access.
    ///
    /// # Panics
    /// When that is outside the mapping, or not aligned.
    pub(crate) fn read<T: Copy>(&self, offset: usize) -> T {
        // SAFETY: inside the mapping and aligned. Only integers are read; any bit pattern is one.
        unsafe { self.at(offset).read_volatile() }
    }

    /// Writes the word at `offset` in one access.
    ///
    /// # Panics
    /// As [`Mapping::read`].
    pub(crate) fn write<T: Copy>(&self, offset: usize, value: T) {
        // SAFETY: inside the mapping and aligned.
        unsafe { self.at(offset).write_volatile(value) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped by us with this length, and no reference into it exists: all accesses copy.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A page of this process that stays where it is in guest memory.
#[derive(Debug)]
pub(crate) struct Page {
    memory: Mapping,
    address: u64,
}

impl Page {
    /// Takes a page, filled with `byte`, and looks up where it is in guest memory.
    pub(crate) fn filled(byte: u8) -> io::Result<Self> {
        let memory = Mapping::page()?;
        let virt = memory.start.as_ptr().addr();
        let mut entry = [0; 8];
        File::open("/proc/self/pagemap")?.read_exact_at(&mut entry, (virt / PAGE * 8) as u64)?;
        let entry = u64::from_ne_bytes(entry);
        // Bit 63 says present, bits 0 to 54 hold the frame's number (the kernel's admin-guide/mm/pagemap).
        let frame = entry & ((1 << 55) - 1);
        if entry >> 63 == 0 || frame == 0 {
            return Err(io::Error::other("the kernel does not say where the page is"));
        }
        let page = Self { memory, address: frame * PAGE as u64 };
        (0..PAGE).for_each(|at| page.memory.write(at, byte));
        Ok(page)
    }

    /// Where it is in guest memory: what a device is told.
    pub(crate) fn address(&self) -> u64 {
        self.address
    }

    /// Its words.
    pub(crate) fn memory(&self) -> &Mapping {
        &self.memory
    }

    /// Writes bytes from the start on.
    pub(crate) fn put(&self, bytes: &[u8]) {
        bytes.iter().enumerate().for_each(|(at, &byte)| self.memory.write(at, byte));
    }

    /// A copy of its bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        (0..PAGE).map(|at| self.memory.read(at)).collect()
    }
}
