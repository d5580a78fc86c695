//! The parts of a BAR that are memory, and accesses of them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::io::Errno;

use super::bars::Handled;
use crate::memory::Mapping;
use crate::protocol::Area;

/// Memory behind a BAR: a file whose size can never change, so that no access can fail, whoever holds it.
#[derive(Debug)]
pub(super) struct Memory {
    file: OwnedFd,
    size: u64,
}

impl Memory {
    /// A file of `size` bytes, all 0, of which none is committed.
    pub(super) fn new(size: u64) -> io::Result<Self> {
        let file = memfd_create("vfio-user-bar", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, size)?;
        // With the last of them nobody can seal it against our own writes.
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(Self { file, size })
    }

    pub(super) fn map(&self, area: Area) -> io::Result<Mapping> {
        let size = usize::try_from(area.size).map_err(|_| io::Error::from(Errno::NOMEM))?;
        Mapping::new(&self.file, area.offset, size, true)
    }

    /// Zeroes it, and gives its pages back.
    pub(super) fn clear(&self) -> io::Result<()> {
        Ok(fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, self.size)?)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A part of a BAR that is memory.
#[derive(Debug)]
pub(super) struct Part {
    start: u64,
    end: u64,
    store: Store,
}

#[derive(Debug)]
enum Store {
    Mapped(Mapping),
    Table(Box<[u8]>),
    /// Software cannot write them.
    Pending(Box<[u8]>),
}

impl Part {
    pub(super) fn mapped(area: Area, mapping: Mapping) -> Self {
        Self { start: area.offset, end: area.offset + area.size, store: Store::Mapped(mapping) }
    }

    /// An MSI-X table, every vector masked.
    pub(super) fn table(offset: u32, vectors: u16) -> Self {
        let mut table = vec![0; usize::from(vectors) * 16].into_boxed_slice();
        mask_all(&mut table);
        let start = offset.into();
        Self { start, end: start + table.len() as u64, store: Store::Table(table) }
    }

    /// MSI-X's pending bits.
    pub(super) fn pending(offset: u32, size: u64) -> Self {
        // At most 256 bytes.
        let bits = vec![0; usize::try_from(size).unwrap_or(0)].into_boxed_slice();
        Self { start: offset.into(), end: u64::from(offset) + size, store: Store::Pending(bits) }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// MSI-X's parts as after power-on.
    pub(super) fn reset(&mut self) {
        match &mut self.store {
            Store::Mapped(_) => {}
            Store::Table(table) => mask_all(table),
            Store::Pending(bits) => bits.fill(0),
        }
    }

    /// `at` and the length are within the part.
    fn read(&self, at: usize, data: &mut [u8]) -> bool {
        match &self.store {
            Store::Mapped(mapping) => mapping.read(at, data),
            Store::Table(bytes) | Store::Pending(bytes) => {
                let there = bytes.get(at..).and_then(|bytes| bytes.get(..data.len()));
                there.is_some_and(|bytes| {
                    data.copy_from_slice(bytes);
                    true
                })
            }
        }
    }

    fn write(&mut self, at: usize, data: &[u8]) -> bool {
        match &mut self.store {
            Store::Mapped(mapping) => mapping.write(at, data),
            Store::Table(bytes) => {
                let there = bytes.get_mut(at..).and_then(|bytes| bytes.get_mut(..data.len()));
                there.is_some_and(|bytes| {
                    bytes.copy_from_slice(data);
                    true
                })
            }
            Store::Pending(_) => true,
        }
    }
}

/// The state after reset: no address, no data, masked.
fn mask_all(table: &mut [u8]) {
    table.fill(0);
    table.iter_mut().skip(12).step_by(16).for_each(|control| *control = 1);
}

/// Reads from `parts`, which are in order and do not overlap.
pub(super) fn read(parts: &[Part], offset: u64, data: &mut [u8]) -> Result<Handled, Errno> {
    if let Some(none) = covered(parts, offset, data.len())? {
        return Ok(none);
    }
    let mut done = 0;
    for part in parts.iter().skip_while(|part| part.end <= offset) {
        let (at, count) = step(part, offset + done as u64, data.len() - done);
        if count == 0 {
            break;
        }
        if !part.read(at, &mut data[done..done + count]) {
            return Err(Errno::IO);
        }
        done += count;
    }
    Ok(Handled::All)
}

/// Writes to `parts`, which are in order and do not overlap.
pub(super) fn write(parts: &mut [Part], offset: u64, data: &[u8]) -> Result<Handled, Errno> {
    if let Some(none) = covered(parts, offset, data.len())? {
        return Ok(none);
    }
    let mut done = 0;
    for part in parts.iter_mut().skip_while(|part| part.end <= offset) {
        let (at, count) = step(part, offset + done as u64, data.len() - done);
        if count == 0 {
            break;
        }
        if !part.write(at, &data[done..done + count]) {
            return Err(Errno::IO);
        }
        done += count;
    }
    Ok(Handled::All)
}

/// Whether all of a range is served by `parts`.
pub(super) fn is_memory(parts: &[Part], offset: u64, length: usize) -> bool {
    matches!(covered(parts, offset, length), Ok(None))
}

/// Where in `part` the rest of an access goes on, and for how many bytes.
fn step(part: &Part, offset: u64, left: usize) -> (usize, usize) {
    let at = usize::try_from(offset.saturating_sub(part.start)).unwrap_or(usize::MAX);
    let room = usize::try_from(part.end - offset).unwrap_or(usize::MAX);
    (at, left.min(room))
}

/// `None` if parts cover all of the range, [`Handled::None`] if they touch none of it; an empty one is done already.
///
/// # Errors
/// `EINVAL` if they cover some of it.
fn covered(parts: &[Part], offset: u64, length: usize) -> Result<Option<Handled>, Errno> {
    let end = offset.checked_add(length as u64).ok_or(Errno::INVAL)?;
    if length == 0 {
        return Ok(Some(Handled::All));
    }
    let mut reached = offset;
    let mut touched = false;
    for part in parts.iter().filter(|part| part.end > offset && part.start < end) {
        touched = true;
        if part.start > reached {
            return Err(Errno::INVAL);
        }
        reached = part.end;
    }
    match touched {
        false => Ok(Some(Handled::None)),
        true if reached >= end => Ok(None),
        true => Err(Errno::INVAL),
    }
}
