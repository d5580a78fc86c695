//! The maps of one client.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use fd_closer::Received;
use rustix::io::Errno;

use super::backing::Backing;
use super::budget::MAX_TABLE_MAPPINGS;
use super::files::Files;
use super::segments::{Pieces, Segments};
use super::{DmaError, DmaPolicy, MapInfo};
use crate::protocol::{DmaMap, DmaUnmap};

/// What a client has mapped. Maps do not overlap; a range may go through several that touch.
#[derive(Debug)]
pub struct DmaTable {
    maps: BTreeMap<u64, Map>,
    policy: DmaPolicy,
    max_maps: usize,
    max_bytes: u64,
    /// The sum of the sizes.
    bytes: u64,
    /// Maps that have a mapping in this process, at most [`MAX_TABLE_MAPPINGS`].
    mappings: usize,
    files: Files,
}

/// One map, by its start.
#[derive(Debug)]
pub(super) struct Map {
    /// Not 0, and does not wrap, though it may end with the last byte of all.
    pub(super) size: u64,
    readable: bool,
    writable: bool,
    backing: Backing,
}

/// A file that is as large as its map for good, or whose owner is trusted: others may map it too.
#[derive(Debug)]
pub struct DirectFile<'a> {
    /// The client's descriptor.
    pub fd: BorrowedFd<'a>,
    /// Where the map starts in it.
    pub offset: u64,
}

impl DmaTable {
    /// An empty table that takes `max_maps` maps of `max_bytes` bytes in all.
    #[must_use]
    pub fn new(policy: DmaPolicy, max_maps: usize, max_bytes: u64) -> Self {
        Self {
            maps: BTreeMap::new(),
            policy,
            max_maps,
            max_bytes,
            bytes: 0,
            mappings: 0,
            files: Files::default(),
        }
    }

    /// Adds a map. Without a descriptor its memory is reached by messages.
    ///
    /// # Errors
    /// Nothing has changed then, and `fd` is closed.
    /// * `EEXIST`: it overlaps another, or is one that is there.
    /// * `ENOSPC`: it would be one too many, or have too many bytes; or there are 128 different files already.
    /// * `EBADF`, `EINVAL`, `EOPNOTSUPP`, `EACCES`, `EPERM`: the descriptor is no memory (opened with `O_PATH`; no regular
    ///   file or too short; on a file system that may wait for somebody; not open for what the map permits; sealed
    ///   against it).
    pub fn map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno> {
        let beyond = map.size.checked_sub(1).ok_or(Errno::INVAL)?;
        let last = map.iova.checked_add(beyond).ok_or(Errno::INVAL)?;
        map.offset.checked_add(map.size).ok_or(Errno::INVAL)?;
        // Of those that start before its end only the last can reach into it: they do not overlap each other.
        if self
            .maps
            .range(..=last)
            .next_back()
            .is_some_and(|(start, other)| start + (other.size - 1) >= map.iova)
        {
            return Err(Errno::EXIST);
        }
        let bytes = self.bytes.checked_add(map.size).filter(|bytes| *bytes <= self.max_bytes);
        let bytes = bytes.filter(|_| self.maps.len() < self.max_maps).ok_or(Errno::NOSPC)?;
        let room = self.mappings < MAX_TABLE_MAPPINGS;
        let backing = match fd {
            Some(fd) => Backing::open(&map, fd, &mut self.files, self.policy, room)?,
            None => Backing::Message,
        };
        self.bytes = bytes;
        self.mappings += usize::from(backing.is_mapped());
        let DmaMap { size, readable, writable, .. } = map;
        self.maps.insert(map.iova, Map { size, readable, writable, backing });
        Ok(())
    }

    /// Removes exactly this map, or all. Nothing uses its memory any more once this returns.
    ///
    /// # Errors
    /// `ENOENT` if there is no such map; one that only overlaps it stays.
    pub fn unmap(&mut self, unmap: DmaUnmap) -> Result<(), Errno> {
        let (iova, size) = match unmap {
            DmaUnmap::Range { iova, size } => (iova, size),
            DmaUnmap::All => {
                self.clear();
                return Ok(());
            }
        };
        if self.maps.get(&iova).is_none_or(|map| map.size != size) {
            return Err(Errno::NOENT);
        }
        if let Some(map) = self.maps.remove(&iova) {
            self.bytes -= map.size;
            self.mappings -= usize::from(map.backing.is_mapped());
        }
        Ok(())
    }

    /// Removes all maps.
    pub fn clear(&mut self) {
        self.maps.clear();
        self.bytes = 0;
        self.mappings = 0;
    }

    /// Reads memory of the client, through as many maps as it takes. Nothing is read unless all of it is mapped, permitted
    /// and local.
    ///
    /// # Errors
    /// What [`covers`](Self::covers) says; [`DmaError::NotLocal`] if messages are needed for some of it;
    /// [`DmaError::Gone`], after which a part of `data` may be overwritten.
    pub fn read(&self, iova: u64, data: &mut [u8]) -> Result<(), DmaError> {
        if let Some((map, offset)) = self.only_map(iova, data.len()).filter(|(map, _)| map.readable) {
            return map.backing.read(offset, data);
        }
        let pieces = self.local_pieces(iova, data.len(), false)?;
        let mut rest = data;
        for piece in pieces {
            // Fits: it is no longer than the rest of `data`.
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX).min(rest.len());
            let (part, others) = rest.split_at_mut(len);
            piece.map.backing.read(piece.offset, part)?;
            rest = others;
        }
        Ok(())
    }

    /// Writes memory of the client, through as many maps as it takes. Nothing is written unless all of it is mapped,
    /// permitted and local.
    ///
    /// # Errors
    /// As for [`read`](Self::read); with [`DmaError::Gone`] a part may be written.
    pub fn write(&self, iova: u64, data: &[u8]) -> Result<(), DmaError> {
        if let Some((map, offset)) = self.only_map(iova, data.len()).filter(|(map, _)| map.writable) {
            return map.backing.write(offset, data);
        }
        let pieces = self.local_pieces(iova, data.len(), true)?;
        let mut rest = data;
        for piece in pieces {
            let len = usize::try_from(piece.len).unwrap_or(usize::MAX).min(rest.len());
            let (part, others) = rest.split_at(len);
            piece.map.backing.write(piece.offset, part)?;
            rest = others;
        }
        Ok(())
    }

    /// The parts of a range by how they are reached, for DMA that needs messages for some of it.
    ///
    /// # Errors
    /// What [`covers`](Self::covers) says.
    pub fn segments(&self, iova: u64, len: u64, write: bool) -> Result<Segments<'_>, DmaError> {
        self.check(iova, len, write)?;
        Ok(Segments(self.pieces(iova, len)))
    }

    /// Whether all of a range is mapped and may be read, or written. An empty one always is.
    ///
    /// # Errors
    /// [`DmaError::Unmapped`] or [`DmaError::Permission`], whatever comes first in the range.
    pub fn covers(&self, iova: u64, len: u64, write: bool) -> Result<(), DmaError> {
        self.check(iova, len, write).map(|_| ())
    }

    /// The maps, by where the device sees them.
    pub fn maps(&self) -> impl Iterator<Item = MapInfo> {
        self.maps.iter().map(|(iova, map)| MapInfo {
            iova: *iova,
            size: map.size,
            readable: map.readable,
            writable: map.writable,
            path: map.backing.path(),
        })
    }

    /// The file of the map that starts at `iova`, if that is touched directly.
    #[must_use]
    pub fn direct_file(&self, iova: u64) -> Option<DirectFile<'_>> {
        self.maps.get(&iova)?.backing.direct_file().map(|(fd, offset)| DirectFile { fd, offset })
    }

    /// How many maps there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.maps.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.maps.is_empty()
    }

    /// The sizes of all maps together.
    #[must_use]
    pub fn mapped_bytes(&self) -> u64 {
        self.bytes
    }

    /// The map that a range, not an empty one, is wholly in, and where: the common case, for which one look is enough.
    fn only_map(&self, iova: u64, len: usize) -> Option<(&Map, u64)> {
        let (start, map) = self.maps.range(..=iova).next_back()?;
        let offset = iova - start;
        (len > 0 && len as u64 <= map.size.checked_sub(offset)?).then_some((map, offset))
    }

    /// The parts of a range that was found to be wholly local.
    fn local_pieces(&self, iova: u64, len: usize, write: bool) -> Result<Pieces<'_>, DmaError> {
        let len = len as u64;
        if self.check(iova, len, write)? { Ok(self.pieces(iova, len)) } else { Err(DmaError::NotLocal) }
    }

    /// Whether all of a range is local, once it is known to be mapped and permitted.
    fn check(&self, iova: u64, len: u64, write: bool) -> Result<bool, DmaError> {
        let mut pieces = self.pieces(iova, len);
        let mut local = true;
        for piece in pieces.by_ref() {
            if !if write { piece.map.writable } else { piece.map.readable } {
                return Err(DmaError::Permission);
            }
            local &= piece.map.is_local();
        }
        if pieces.left == 0 { Ok(local) } else { Err(DmaError::Unmapped) }
    }

    fn pieces(&self, iova: u64, len: u64) -> Pieces<'_> {
        let first = self.maps.range(..=iova).next_back().map_or(iova, |(start, _)| *start);
        Pieces { maps: self.maps.range(first..), iova, left: len }
    }
}

impl Map {
    pub(super) fn is_local(&self) -> bool {
        !matches!(self.backing, Backing::Message)
    }
}
