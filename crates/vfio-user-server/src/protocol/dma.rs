//! `DMA_MAP` and `DMA_UNMAP`: everything about them that does not depend on other maps.

use fd_closer::Received;
use rustix::io::Errno;

use super::header::{u32_at, u64_at};
use super::info::Answer;
use super::{DmaMap, DmaUnmap, Target};

const MAP: usize = 32;
const READABLE: u32 = 1;
const WRITABLE: u32 = 2;
/// The descriptor is to be mapped.
const MMAP: u32 = 4;
/// The descriptor is to be read and written.
const FILE_IO: u32 = 8;

const UNMAP: usize = 24;
const UNMAP_BITMAP: u32 = 1;
const UNMAP_ALL: u32 = 2;

/// `DMA_MAP`. A map that the device may neither read nor write is refused, as Linux does.
pub(super) fn map<T: Target + ?Sized>(
    target: &mut T,
    payload: &[u8],
    mut fds: Vec<Received>,
) -> Result<Answer, Errno> {
    if payload.len() != MAP || (u32_at(payload, 0) as usize) < MAP || fds.len() > 1 {
        return Err(Errno::INVAL);
    }
    let fd = fds.pop();
    let flags = u32_at(payload, 4);
    let (offset, iova, size) = (u64_at(payload, 8), u64_at(payload, 16), u64_at(payload, 24));
    let known = flags & !(READABLE | WRITABLE | MMAP | FILE_IO) == 0;
    let permits = flags & (READABLE | WRITABLE) != 0;
    let way = match flags & (MMAP | FILE_IO) {
        0 => true,
        MMAP | FILE_IO => fd.is_some(),
        _ => false,
    };
    if !known || !permits || !way || size == 0 || iova.checked_add(size).is_none() {
        return Err(Errno::INVAL);
    }
    // Without a file there is nothing to be offset.
    let offset = if fd.is_some() { offset } else { 0 };
    offset.checked_add(size).ok_or(Errno::INVAL)?;
    let map = DmaMap {
        iova,
        size,
        offset,
        readable: flags & READABLE != 0,
        writable: flags & WRITABLE != 0,
        file_io: flags & FILE_IO != 0,
    };
    target.dma_map(map, fd).map(|()| Answer::default())
}

/// `DMA_UNMAP`. Dirty bitmaps belong to migration, which is never agreed to.
pub(super) fn unmap<T: Target + ?Sized>(target: &mut T, payload: &[u8]) -> Result<Answer, Errno> {
    if payload.len() < UNMAP || (u32_at(payload, 0) as usize) < UNMAP {
        return Err(Errno::INVAL);
    }
    let flags = u32_at(payload, 4);
    let (iova, size) = (u64_at(payload, 8), u64_at(payload, 16));
    if flags & !(UNMAP_BITMAP | UNMAP_ALL) != 0 {
        return Err(Errno::INVAL);
    }
    if flags & UNMAP_BITMAP != 0 {
        return Err(Errno::OPNOTSUPP);
    }
    if payload.len() != UNMAP {
        return Err(Errno::INVAL);
    }
    let unmap = match (flags & UNMAP_ALL != 0, iova, size) {
        (true, 0, 0) => DmaUnmap::All,
        (true, ..) | (false, _, 0) => return Err(Errno::INVAL),
        (false, ..) => {
            iova.checked_add(size).ok_or(Errno::INVAL)?;
            DmaUnmap::Range { iova, size }
        }
    };
    target.dma_unmap(unmap)?;
    Ok(Answer { payload: payload.to_vec(), fds: Vec::new() })
}
