//! What a descriptor is that a client has sent as memory.
//!
//! It may be anything, and a file system in user space can make the mere question for a size wait. So the first question
//! is one that is answered without any file system: its seals, which only files on tmpfs and hugetlbfs have.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, FileType, OFlags, SealFlags, StatxFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs, statx,
};
use rustix::io::Errno;

use super::DmaPolicy;
use crate::protocol::DmaMap;

/// What a file is, as far as reaching it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    /// A memfd that cannot shrink.
    Sealed,
    /// On tmpfs.
    Shared,
    /// On hugetlbfs.
    Huge {
        /// Size of its pages in bytes, a power of two.
        page: u64,
    },
    /// Any other regular file.
    Other,
}

/// Sees whether a descriptor can be what a map says.
///
/// # Errors
/// * `EBADF`: it was opened with `O_PATH`.
/// * `EINVAL`: it is no regular file, or the file ends before the map does.
/// * `EOPNOTSUPP`: it is neither on tmpfs nor on hugetlbfs, and the policy is [`DmaPolicy::Auto`].
/// * `EACCES`: it was not opened for what the map permits.
/// * `EPERM`: it is sealed against writing, and the map permits that.
pub(super) fn inspect(fd: BorrowedFd<'_>, map: &DmaMap, policy: DmaPolicy) -> Result<FileKind, Errno> {
    let flags = fcntl_getfl(fd)?;
    if flags.contains(OFlags::PATH) {
        return Err(Errno::BADF);
    }
    let seals = match fcntl_get_seals(fd) {
        Ok(seals) => Some(seals),
        Err(_) if !is_regular(fd) => return Err(Errno::INVAL),
        Err(_) if policy == DmaPolicy::Map => None,
        Err(_) => return Err(Errno::OPNOTSUPP),
    };
    // From here on it is in memory, or of a client that is trusted.
    let stat = fstat(fd)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mode = flags & OFlags::ACCMODE;
    let reads = mode == OFlags::RDONLY || mode == OFlags::RDWR;
    let writes = mode == OFlags::WRONLY || mode == OFlags::RDWR;
    if (map.readable && !reads) || (map.writable && !writes) {
        return Err(Errno::ACCESS);
    }
    if map.writable && seals.is_some_and(|seals| seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE))
    {
        return Err(Errno::PERM);
    }
    let end = map.offset.checked_add(map.size).ok_or(Errno::INVAL)?;
    if u64::try_from(stat.st_size).unwrap_or(0) < end {
        return Err(Errno::INVAL);
    }
    match seals {
        Some(seals) => in_memory(fd, seals, policy),
        None => Ok(FileKind::Other),
    }
}

/// The kind of a file that can have seals.
fn in_memory(fd: BorrowedFd<'_>, seals: SealFlags, policy: DmaPolicy) -> Result<FileKind, Errno> {
    let system = fstatfs(fd)?;
    // The type of the number differs between platforms; all of them fit.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    let magic = system.f_type as u32;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    match magic {
        magic if magic == libc::HUGETLBFS_MAGIC as u32 => {
            let page = u64::try_from(system.f_bsize).ok().filter(|page| page.is_power_of_two());
            Ok(FileKind::Huge { page: page.ok_or(Errno::OPNOTSUPP)? })
        }
        magic if magic == libc::TMPFS_MAGIC as u32 => {
            Ok(if seals.contains(SealFlags::SHRINK) { FileKind::Sealed } else { FileKind::Shared })
        }
        _ if policy == DmaPolicy::Map => Ok(FileKind::Other),
        _ => Err(Errno::OPNOTSUPP),
    }
}

/// Looks at the type without asking the file system, which may be one that never answers.
fn is_regular(fd: BorrowedFd<'_>) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    statx(fd, c"", flags, StatxFlags::TYPE)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.stx_mode.into()) == FileType::RegularFile)
}
