//! How one map's memory is reached.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use fd_closer::Received;
use rustix::io::{Errno, pread, pwrite};
use rustix::process::Pid;

use super::budget::Share;
use super::file_kind::{self, FileKind};
use super::files::Files;
use super::{DmaError, DmaPath, DmaPolicy, host};
use crate::memory::Mapping;
use crate::protocol::DmaMap;
use crate::sys::write_guarded;

/// The memory of one map. The file outlives its mapping, so that its last close, which may have gigabytes to free, is left
/// to [`fd_closer`].
#[derive(Debug)]
pub(super) enum Backing {
    /// See [`DmaPath::Direct`].
    Direct {
        /// All of the map.
        view: View,
        /// The client's file.
        file: File,
    },
    /// See [`DmaPath::Copy`].
    Copy {
        /// All of the map, never touched by code of our own.
        view: View,
        /// The client's file.
        file: File,
        /// This process.
        own: Pid,
    },
    /// See [`DmaPath::File`].
    File(File),
    /// See [`DmaPath::Message`].
    Message,
}

/// A client's file, from where the map starts.
#[derive(Debug)]
pub(super) struct File {
    fd: Arc<Received>,
    /// `offset + size` of the map is within what a file can be.
    offset: u64,
}

/// A mapping that is counted.
#[derive(Debug)]
pub(super) struct View {
    mapping: Mapping,
    /// Bytes of the mapping before the map's start.
    delta: usize,
    _share: Share,
}

impl Backing {
    /// Chooses how to reach a file. `room` says that the table may have one more mapping.
    ///
    /// # Errors
    /// Those of [`file_kind::inspect`] and [`Files::share`].
    pub(super) fn open(
        map: &DmaMap,
        fd: Received,
        files: &mut Files,
        policy: DmaPolicy,
        room: bool,
    ) -> Result<Self, Errno> {
        let kind = file_kind::inspect(fd.as_fd(), map, policy)?;
        let file = File { fd: files.share(fd)?, offset: map.offset };
        let view = |file: &File| if room { View::new(file, map, kind) } else { None };
        if policy == DmaPolicy::Map {
            return Ok(match view(&file) {
                Some(view) => Self::Direct { view, file },
                None if !map.writable => Self::File(file),
                // Without write(2), or with a limit on it that ends the process.
                None if matches!(kind, FileKind::Huge { .. }) => Self::Message,
                None if !host::may_write_file_up_to(map.offset + map.size) => Self::Message,
                None => Self::File(file),
            });
        }
        let lasts = kind == FileKind::Sealed && !host::strict_overcommit();
        if lasts
            && !map.file_io
            && let Some(view) = view(&file)
        {
            return Ok(Self::Direct { view, file });
        }
        if !map.writable {
            return Ok(Self::File(file));
        }
        let Some(own) = host::guarded_writes() else { return Ok(Self::Message) };
        Ok(match view(&file) {
            Some(view) => Self::Copy { view, file, own },
            None => Self::Message,
        })
    }

    /// Copies from the memory. The range is within the map, and the map permits it.
    ///
    /// # Errors
    /// [`DmaError::NotLocal`], [`DmaError::Gone`]; then a part of `data` may be overwritten.
    pub(super) fn read(&self, offset: u64, data: &mut [u8]) -> Result<(), DmaError> {
        match self {
            Self::Direct { view, .. } => {
                let start = view.start(offset)?;
                if view.mapping.read(start, data) { Ok(()) } else { Err(DmaError::Unmapped) }
            }
            Self::Copy { file, .. } | Self::File(file) => file.read(offset, data),
            Self::Message => Err(DmaError::NotLocal),
        }
    }

    /// Copies to the memory. The range is within the map, and the map permits it.
    ///
    /// # Errors
    /// [`DmaError::NotLocal`], [`DmaError::Gone`]; then a part of `data` may be written.
    pub(super) fn write(&self, offset: u64, data: &[u8]) -> Result<(), DmaError> {
        match self {
            Self::Direct { view, .. } => {
                let start = view.start(offset)?;
                if view.mapping.write(start, data) { Ok(()) } else { Err(DmaError::Unmapped) }
            }
            Self::Copy { view, own, .. } => {
                let start = view.start(offset)?;
                write_guarded(*own, &view.mapping, start, data).map_err(|_| DmaError::Gone)
            }
            Self::File(file) => file.write(offset, data),
            Self::Message => Err(DmaError::NotLocal),
        }
    }

    pub(super) fn path(&self) -> DmaPath {
        match self {
            Self::Direct { .. } => DmaPath::Direct,
            Self::Copy { .. } => DmaPath::Copy,
            Self::File(_) => DmaPath::File,
            Self::Message => DmaPath::Message,
        }
    }

    /// Whether it has a mapping.
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self, Self::Direct { .. } | Self::Copy { .. })
    }

    /// The file of memory that is touched directly, and where the map starts in it.
    pub(super) fn direct_file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        match self {
            Self::Direct { file, .. } => Some((file.fd.as_fd(), file.offset)),
            _ => None,
        }
    }
}

impl File {
    /// A file that has shrunk ends early: that is how its loss is told. Interrupted calls are made again.
    fn read(&self, offset: u64, mut data: &mut [u8]) -> Result<(), DmaError> {
        let mut at = self.offset + offset;
        while !data.is_empty() {
            match pread(&*self.fd, &mut *data, at) {
                Ok(0) => return Err(DmaError::Gone),
                Ok(count) => {
                    data = data.get_mut(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(DmaError::Gone),
            }
        }
        Ok(())
    }

    /// For trusted clients only: it waits as long as somebody else writes to the file, makes a file that has shrunk grow
    /// again, and appends if the client has set `O_APPEND` on the description that it shares.
    fn write(&self, offset: u64, mut data: &[u8]) -> Result<(), DmaError> {
        let mut at = self.offset + offset;
        while !data.is_empty() {
            match pwrite(&*self.fd, data, at) {
                Ok(0) => return Err(DmaError::Gone),
                Ok(count) => {
                    data = data.get(count..).unwrap_or_default();
                    at += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(DmaError::Gone),
            }
        }
        Ok(())
    }
}

impl View {
    /// `None` if it cannot be mapped: no address space left, or a descriptor that is not open for reading.
    fn new(file: &File, map: &DmaMap, kind: FileKind) -> Option<Self> {
        // Mappings on hugetlbfs start and end with a page of its own, else they cannot be undone.
        let page = if let FileKind::Huge { page } = kind { page } else { 1 };
        let start = map.offset - map.offset % page;
        let length = (map.offset + map.size).checked_next_multiple_of(page)? - start;
        let share = Share::take(length)?;
        let mapping = Mapping::new(&*file.fd, start, usize::try_from(length).ok()?, map.writable).ok()?;
        Some(Self { mapping, delta: usize::try_from(map.offset - start).ok()?, _share: share })
    }

    /// Where an offset of the map is in the mapping.
    fn start(&self, offset: u64) -> Result<usize, DmaError> {
        let offset = usize::try_from(offset).map_err(|_| DmaError::Unmapped)?;
        self.delta.checked_add(offset).ok_or(DmaError::Unmapped)
    }
}
