//! A device that does as the script says.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};

use fd_closer::Received;
use rustix::io::Errno;

use crate::protocol::{
    Access, AccessToken, Area, DeviceInfo, DmaMap, DmaUnmap, IoFd, IrqData, IrqInfo, Mmap, Outcome,
    RegionDescription, SetIrqs, Target,
};

/// An access that was deferred.
pub(super) struct Waiting {
    pub(super) token: AccessToken,
    /// How long it is, if it is a read.
    pub(super) read: Option<usize>,
    pub(super) no_reply: bool,
}

pub(super) struct Device {
    /// How the next access, or other command, ends.
    pub(super) decision: u8,
    pub(super) waiting: Vec<Waiting>,
    /// Commands of ours: how many bytes are to be read, `None` for writes.
    pub(super) asked: BTreeMap<u16, Option<usize>>,
    twin: bool,
    fd: Option<OwnedFd>,
    kept: Vec<Received>,
}

const AREAS: &[Area] = &[Area { offset: 0, size: 4096 }];
const REGION: u64 = 100_000;
/// The region whose writes may come in pieces.
const MEMORY: u32 = 1;

impl Device {
    pub(super) fn new(twin: bool, fd: &OwnedFd) -> Self {
        Self {
            decision: 0,
            waiting: Vec::new(),
            asked: BTreeMap::new(),
            twin,
            fd: fd.try_clone().ok(),
            kept: Vec::new(),
        }
    }

    pub(super) fn any_asked(&self, pick: usize) -> Option<u16> {
        self.asked.keys().nth(pick % self.asked.len().max(1)).copied()
    }

    fn outcome(&mut self, access: Access, length: usize, read: bool) -> Outcome {
        assert!(access.region < 4 && access.offset + length as u64 <= REGION, "out of bounds");
        match self.decision % 4 {
            0 | 1 => Outcome::Done,
            2 if !read && access.region == MEMORY => Outcome::Done,
            2 => {
                let read = read.then_some(length);
                self.waiting.push(Waiting { token: access.token, read, no_reply: false });
                Outcome::Deferred
            }
            _ => Outcome::Failed(Errno::IO),
        }
    }

    fn result(&self) -> Result<(), Errno> {
        if self.decision % 4 == 3 { Err(Errno::NOSPC) } else { Ok(()) }
    }
}

impl Target for Device {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo { reset: true, regions: 9, irqs: 5 }
    }

    fn region(&self, index: u32) -> RegionDescription<'_> {
        assert!(index < 9);
        let mmap = self.fd.as_ref().map(|fd| Mmap { fd: fd.as_fd(), offset: 0, areas: AREAS });
        RegionDescription {
            size: if index < 4 { REGION } else { 0 },
            readable: index != 2,
            writable: index != 3,
            mmap: mmap.filter(|_| index > 0),
            msix_mappable: index == 1,
        }
    }

    fn io_fds(&self, index: u32) -> Vec<IoFd<'_>> {
        let entry =
            self.fd.as_ref().map(|fd| IoFd { offset: 0, size: 4, fd: fd.as_fd(), flags: 0, datamatch: 0 });
        entry.into_iter().cycle().take(index as usize * 4).collect()
    }

    fn irq_info(&self, index: u32) -> IrqInfo {
        assert!(index < 5);
        IrqInfo { flags: 1, count: if index == 2 { 64 } else { 1 } }
    }

    fn set_irqs(&mut self, command: SetIrqs<'_>) -> Result<(), Errno> {
        assert!(command.start + command.count <= 64);
        if let IrqData::Eventfds(fds) = command.data {
            assert!(fds.is_empty() || fds.len() == command.count as usize);
            self.kept.extend(fds);
        }
        self.result()
    }

    fn dma_map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno> {
        assert!(map.size > 0 && map.iova.checked_add(map.size).is_some());
        self.kept.extend(fd);
        self.result()
    }

    fn dma_unmap(&mut self, _unmap: DmaUnmap) -> Result<(), Errno> {
        self.kept.clear();
        self.result()
    }

    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        assert!(!data.is_empty() && data.iter().all(|byte| *byte == 0), "the buffer is not zeroed");
        data.fill(3);
        self.outcome(access, data.len(), true)
    }

    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome {
        self.outcome(access, data.len(), false)
    }

    fn is_memory(&self, region: u32, offset: u64, size: u64) -> bool {
        assert!(region < 4 && offset + size <= REGION, "out of bounds");
        region == MEMORY
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.result()
    }

    fn dma_reply(&mut self, id: u16, result: Result<&[u8], Errno>) {
        let Some(count) = self.asked.remove(&id) else { panic!("a reply to nothing: {id}") };
        if let Ok(data) = result {
            assert_eq!(data.len(), count.unwrap_or(0));
        }
    }

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        if self.twin { self.fd.as_ref().and_then(|fd| fd.try_clone().ok()) } else { None }
    }
}
