//! What the device is asked about itself: `DEVICE_GET_INFO`, `DEVICE_GET_REGION_INFO`, `DEVICE_GET_REGION_IO_FDS`,
//! `DEVICE_GET_IRQ_INFO`.
//!
//! Each request says with `argsz` how long an answer it takes, in bytes after the header. If that is less than the whole,
//! the fixed part is sent, with what `argsz` should have been. Some clients count the header too, so it may be more than
//! what is sent of the request, and the request may be longer than its fixed part.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::header::u32_at;
use super::limits::MAX_MESSAGE_FDS;
use super::{Peer, RegionDescription, Target};

/// A reply's payload and descriptors.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) payload: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

/// `VFIO_DEVICE_FLAGS_*`.
const DEVICE_RESET: u32 = 1;
const DEVICE_PCI: u32 = 2;
/// `VFIO_REGION_INFO_FLAG_*`.
const REGION_READ: u32 = 1;
const REGION_WRITE: u32 = 2;
const REGION_MMAP: u32 = 4;
const REGION_CAPS: u32 = 8;
/// `VFIO_REGION_INFO_CAP_*`.
const CAP_SPARSE_MMAP: u16 = 1;
const CAP_MSIX_MAPPABLE: u16 = 3;
/// Sizes of the fixed parts.
const REGION_INFO: usize = 32;
const IO_FDS: usize = 16;
const IO_FD: usize = 40;

/// `argsz`, if the request is as long as its fixed part and says that it takes at least that.
fn argsz(payload: &[u8], fixed: usize) -> Result<usize, Errno> {
    if payload.len() < fixed {
        return Err(Errno::INVAL);
    }
    let argsz = u32_at(payload, 0) as usize;
    if argsz < fixed { Err(Errno::INVAL) } else { Ok(argsz) }
}

/// Sizes of replies are bounded by what a device has: a few areas, at most 16 entries.
fn size(bytes: usize) -> Result<u32, Errno> {
    u32::try_from(bytes).map_err(|_| Errno::TOOBIG)
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// `DEVICE_GET_INFO`.
pub(super) fn device<T: Target + ?Sized>(target: &T, payload: &[u8]) -> Result<Answer, Errno> {
    argsz(payload, 16)?;
    let info = target.device_info();
    let flags = DEVICE_PCI | if info.reset { DEVICE_RESET } else { 0 };
    Ok(Answer { payload: words(&[16, flags, info.regions, info.irqs]), fds: Vec::new() })
}

/// `DEVICE_GET_IRQ_INFO`.
pub(super) fn irq<T: Target + ?Sized>(target: &T, payload: &[u8]) -> Result<Answer, Errno> {
    argsz(payload, 16)?;
    let index = u32_at(payload, 8);
    if index >= target.device_info().irqs {
        return Err(Errno::INVAL);
    }
    let info = target.irq_info(index);
    Ok(Answer { payload: words(&[16, info.flags, index, info.count]), fds: Vec::new() })
}

/// `DEVICE_GET_REGION_INFO`.
///
/// The descriptor and the flag that announces it are sent together or not at all: with the whole answer, and only to a
/// client that takes descriptors. A region that may be mapped as a whole is shown without areas: QEMU and Cloud Hypervisor
/// map all of it then, and it saves them a second request.
pub(super) fn region<T: Target + ?Sized>(target: &T, peer: &Peer, payload: &[u8]) -> Result<Answer, Errno> {
    let room = argsz(payload, REGION_INFO)?;
    let index = u32_at(payload, 8);
    if index >= target.device_info().regions {
        return Err(Errno::INVAL);
    }
    let region = target.region(index);
    if region.size == 0 {
        return region_answer(index, 0, &RegionDescription::default(), &[], REGION_INFO);
    }
    let mmap = region.mmap.filter(|_| peer.max_msg_fds > 0);
    let mut flags =
        if region.readable { REGION_READ } else { 0 } | if region.writable { REGION_WRITE } else { 0 };
    let mut caps = Vec::new();
    let areas = mmap.map_or(&[][..], |mmap| mmap.areas);
    if !areas.is_empty() {
        sparse_mmap(&mut caps, areas)?;
    }
    if region.msix_mappable {
        capability(&mut caps, CAP_MSIX_MAPPABLE);
    }
    let whole = REGION_INFO + caps.len();
    if whole > room {
        return region_answer(index, flags, &RegionDescription { mmap: None, ..region }, &[], whole);
    }
    if !caps.is_empty() {
        flags |= REGION_CAPS;
    }
    let fd = mmap.map(|mmap| rustix::io::fcntl_dupfd_cloexec(mmap.fd, 0)).transpose()?;
    if fd.is_some() {
        flags |= REGION_MMAP;
    }
    let mut answer = region_answer(index, flags, &RegionDescription { mmap, ..region }, &caps, whole)?;
    answer.fds.extend(fd);
    Ok(answer)
}

fn region_answer(
    index: u32,
    flags: u32,
    region: &RegionDescription<'_>,
    caps: &[u8],
    whole: usize,
) -> Result<Answer, Errno> {
    let first = if caps.is_empty() { 0 } else { size(REGION_INFO)? };
    let mut payload = words(&[size(whole)?, flags, index, first]);
    payload.extend_from_slice(&region.size.to_ne_bytes());
    payload.extend_from_slice(&region.mmap.map_or(0, |mmap| mmap.offset).to_ne_bytes());
    payload.extend_from_slice(caps);
    Ok(Answer { payload, fds: Vec::new() })
}

/// Appends the header of a capability and links it to the one before. Offsets count from the start of the fixed part.
fn capability(caps: &mut Vec<u8>, id: u16) {
    let here = caps.len();
    // The one before is the first, and there are two at most.
    if let Some(next) = caps.get_mut(4..8) {
        next.copy_from_slice(&u32::try_from(REGION_INFO + here).unwrap_or(0).to_ne_bytes());
    }
    caps.extend_from_slice(&id.to_ne_bytes());
    caps.extend_from_slice(&1_u16.to_ne_bytes());
    caps.extend_from_slice(&0_u32.to_ne_bytes());
}

fn sparse_mmap(caps: &mut Vec<u8>, areas: &[super::Area]) -> Result<(), Errno> {
    capability(caps, CAP_SPARSE_MMAP);
    caps.extend_from_slice(&size(areas.len())?.to_ne_bytes());
    caps.extend_from_slice(&[0; 4]);
    for area in areas {
        caps.extend_from_slice(&area.offset.to_ne_bytes());
        caps.extend_from_slice(&area.size.to_ne_bytes());
    }
    Ok(())
}

/// `DEVICE_GET_REGION_IO_FDS`, with the entries of the specification: eventfds only. Entries whose descriptor does not
/// fit the message any more are left out: their writes come as messages, as all others do.
pub(super) fn io_fds<T: Target + ?Sized>(target: &T, peer: &Peer, payload: &[u8]) -> Result<Answer, Errno> {
    let room = argsz(payload, IO_FDS)?;
    let (flags, index, count) = (u32_at(payload, 4), u32_at(payload, 8), u32_at(payload, 12));
    if flags != 0 || count != 0 || index >= target.device_info().regions {
        return Err(Errno::INVAL);
    }
    let most = MAX_MESSAGE_FDS.min(peer.max_msg_fds as usize);
    let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
    let mut entries = Vec::new();
    for io_fd in target.io_fds(index).iter().take(MAX_MESSAGE_FDS) {
        let known = fds.iter().position(|fd| fd.as_raw_fd() == io_fd.fd.as_raw_fd());
        let position = match known {
            Some(position) => position,
            None if fds.len() == most => continue,
            None => {
                fds.push(io_fd.fd);
                fds.len() - 1
            }
        };
        entries.extend_from_slice(&io_fd.offset.to_ne_bytes());
        entries.extend_from_slice(&io_fd.size.to_ne_bytes());
        entries.extend_from_slice(&words(&[size(position)?, 0, io_fd.flags, 0]));
        entries.extend_from_slice(&io_fd.datamatch.to_ne_bytes());
    }
    let whole = IO_FDS + entries.len();
    if whole > room {
        return Ok(Answer { payload: words(&[size(whole)?, 0, index, 0]), fds: Vec::new() });
    }
    let mut payload = words(&[size(whole)?, 0, index, size(entries.len() / IO_FD)?]);
    payload.extend_from_slice(&entries);
    let fds = fds.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, 0)).collect::<Result<_, _>>()?;
    Ok(Answer { payload, fds })
}
