//! Exports a device that was written for the `vfio_user` crate's `Server`: any [`ServerBackend`] that is `Send`.
//!
//! It gets the same calls as there, with these differences, all of them for the better:
//!
//! * what is not within a region, not permitted by its flags, or wrong in itself never reaches it;
//! * maps neither overlap nor are unmapped in part;
//! * a descriptor of client memory reaches it only if its file cannot shrink, since a backend maps it by itself and would be
//!   killed by an access past the file's end; other maps with descriptors are refused, unless the client is trusted
//!   ([`DmaPolicy::Map`]);
//! * interrupt descriptors are eventfds, and not the client's: a write to one of those can wait for as long as the client
//!   likes. The backend gets eventfds of this process, and what it writes to them is passed on. Descriptors that would
//!   let it listen to the client (`EVENTFD` with `MASK` or `UNMASK`) are refused for the same reason;
//! * when the client goes, its maps are unmapped and its interrupts switched off, call by call.
//!
//! `BOOL` data, which the trait has no place for, becomes calls for single vectors.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use fd_closer::Received;
use rustix::event::{EventfdFlags, eventfd};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo as BackendIrq, ServerBackend, ServerRegion};

use crate::context::endpoint::{DeviceCall, Endpoint};
use crate::context::poller::{Poller, Token};
use crate::context::{Context, Event, Limits, Listen, ListenError, Options};
use crate::device::{Completions, Messenger};
use crate::dma::{DmaPolicy, DmaTable, MapInfo};
use crate::irq::{Signaller, VectorInfo, is_eventfd, take};
use crate::protocol::{
    Access, Area, DeviceInfo, DmaMap, DmaUnmap, IoFd, IrqAction, IrqData, IrqIndex, IrqInfo, Mmap, Outcome,
    RegionDescription, SetIrqs, Target,
};
use crate::{Errno, PciDevice};

/// Sets up the export of a [`ServerBackend`].
///
/// ```no_run
/// # use vfio_user::{IrqInfo, ServerBackend, ServerRegion};
/// # fn parts() -> (Box<dyn ServerBackend + Send>, Vec<ServerRegion>, Vec<IrqInfo>) { unimplemented!() }
/// use vfio_user_server::adapter::Builder;
/// use vfio_user_server::context::Listen;
///
/// let (backend, regions, irqs) = parts();
/// let context = Builder::new(backend, regions, irqs).listen(Listen::Path("/run/device.sock".into()))?;
/// # Ok::<(), vfio_user_server::context::ListenError>(())
/// ```
pub struct Builder {
    backend: Box<dyn ServerBackend + Send>,
    regions: Vec<ServerRegion>,
    irqs: Vec<BackendIrq>,
    resettable: bool,
    options: Options,
}

impl Builder {
    /// A backend, with what its `Server` would be given: regions by index, interrupts by index. A region's descriptor is
    /// duplicated in [`listen`](Self::listen) and stays the caller's.
    #[must_use]
    pub fn new(
        backend: Box<dyn ServerBackend + Send>,
        regions: Vec<ServerRegion>,
        irqs: Vec<BackendIrq>,
    ) -> Self {
        Self { backend, regions, irqs, resettable: true, options: Options::default() }
    }

    /// Whether the device can be reset, which clients are told. It can if this is not called.
    #[must_use]
    pub fn resettable(mut self, resettable: bool) -> Self {
        self.resettable = resettable;
        self
    }

    /// As [`context::Builder::dma`](crate::context::Builder::dma).
    #[must_use]
    pub fn dma(mut self, policy: DmaPolicy) -> Self {
        self.options.dma = policy;
        self
    }

    /// As [`context::Builder::allowed_gids`](crate::context::Builder::allowed_gids).
    #[must_use]
    pub fn allowed_gids(mut self, gids: impl IntoIterator<Item = u32>) -> Self {
        self.options.set_allowed_gids(gids);
        self
    }

    /// As [`context::Builder::allowed_uids`](crate::context::Builder::allowed_uids).
    #[must_use]
    pub fn allowed_uids(mut self, uids: impl IntoIterator<Item = u32>) -> Self {
        self.options.set_allowed_uids(uids);
        self
    }

    /// As [`context::Builder::limits`](crate::context::Builder::limits).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.set_limits(limits);
        self
    }

    /// As [`context::Builder::reconnect`](crate::context::Builder::reconnect).
    #[must_use]
    pub fn reconnect(mut self, on: bool) -> Self {
        self.options.set_reconnect(on);
        self
    }

    /// As [`context::Builder::on_event`](crate::context::Builder::on_event).
    #[must_use]
    pub fn on_event(mut self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        self.options.set_on_event(listener);
        self
    }

    /// Starts to listen.
    ///
    /// # Errors
    /// What the operating system says; `EBADF` for a region whose descriptor is none.
    pub fn listen(self, listen: Listen) -> Result<Context, ListenError> {
        let regions = self.regions.iter().map(Region::new).collect::<io::Result<Vec<_>>>()?;
        let limits = self.options.limits();
        let (maps, bytes, policy) = (limits.maps, limits.mapped_bytes, self.options.dma);
        let (backend, irqs, resettable) = (self.backend, self.irqs, self.resettable);
        Context::listen(listen, self.options, move |poller, _| {
            Ok(Box::new(BackendEndpoint {
                poller: Arc::clone(poller),
                signaller: Signaller::default(),
                passed: Vec::new(),
                next: 0,
                backend,
                regions,
                irqs,
                resettable,
                maps: DmaTable::new(policy, maps, bytes),
                completions: Completions::default(),
                answered: 0,
                calling: false,
            }))
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("regions", &self.regions.len()).finish_non_exhaustive()
    }
}

/// A region, with a descriptor of its own.
struct Region {
    size: u64,
    flags: u32,
    offset: u64,
    fd: Option<OwnedFd>,
    areas: Vec<Area>,
}

const REGION_READ: u32 = 1;
const REGION_WRITE: u32 = 2;
const REGION_MMAP: u32 = 4;

impl Region {
    fn new(region: &ServerRegion) -> io::Result<Self> {
        let areas = region.sparse_areas.iter();
        let areas = areas.map(|sparse| Area { offset: sparse.area.offset, size: sparse.area.size }).collect();
        Ok(Self {
            size: region.region_info.size,
            flags: region.region_info.flags,
            offset: region.region_info.offset,
            fd: region.mmap_fd.map(crate::sys::duplicate).transpose()?,
            areas,
        })
    }
}

/// A backend as an endpoint.
struct BackendEndpoint {
    backend: Box<dyn ServerBackend + Send>,
    regions: Vec<Region>,
    irqs: Vec<BackendIrq>,
    resettable: bool,
    /// Which maps there are. Reaching the memory is the backend's business.
    maps: DmaTable,
    /// Always empty: a backend answers at once.
    completions: Completions,
    poller: Arc<Poller>,
    signaller: Signaller,
    /// The vectors that the client has given eventfds.
    passed: Vec<Passed>,
    /// Of the next one of them.
    next: u32,
    answered: u64,
    calling: bool,
}

/// A vector whose signals are passed on.
struct Passed {
    index: IrqIndex,
    vector: u32,
    /// Never used twice, so an event of one that has gone finds nothing.
    number: u32,
    /// What the backend has a duplicate of.
    ours: OwnedFd,
    clients: Received,
}

impl BackendEndpoint {
    fn call<R>(&mut self, call: impl FnOnce(&mut dyn ServerBackend) -> io::Result<R>) -> Result<R, Errno> {
        self.calling = true;
        let result = call(&mut *self.backend);
        self.calling = false;
        // Clients take an error of 0 for success.
        result.map_err(|error| {
            Errno::from_io_error(&error).filter(|e| e.raw_os_error() > 0).unwrap_or(Errno::IO)
        })
    }

    fn outcome(&mut self, result: Result<(), Errno>) -> Outcome {
        self.answered += 1;
        match result {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::Failed(error),
        }
    }

    /// The descriptor for the backend, once the map is in the table.
    fn admit(&self, iova: u64) -> Result<File, Errno> {
        let Some(file) = self.maps.direct_file(iova) else {
            tracing::warn!(
                "a map was refused: its memory can shrink, and the device maps it by itself (see dma=map)"
            );
            return Err(Errno::PERM);
        };
        Ok(File::from(rustix::io::fcntl_dupfd_cloexec(file.fd, 0)?))
    }

    fn map_backend(&mut self, map: DmaMap, has_file: bool) -> Result<(), Errno> {
        let file = if has_file { Some(self.admit(map.iova)?) } else { None };
        let mut flags = DmaMapFlags::empty();
        flags.set(DmaMapFlags::READ, map.readable);
        flags.set(DmaMapFlags::WRITE, map.writable);
        self.call(|backend| backend.dma_map(flags, map.offset, map.iova, map.size, file))
    }

    /// No longer passes on what happens to these vectors.
    fn unpass(&mut self, index: IrqIndex, vectors: Range<u32>) {
        let poller = &self.poller;
        self.passed.retain(|passed| {
            let stays = passed.index != index || !vectors.contains(&passed.vector);
            if !stays {
                poller.remove(&passed.ours);
            }
            stays
        });
    }

    /// Passes on the signals of vectors from `start` on, and gives what the backend is to signal.
    fn pass(&mut self, index: IrqIndex, start: u32, fds: Vec<Received>) -> Result<Vec<File>, Errno> {
        self.signaller.prepare();
        if !fds.iter().all(|fd| is_eventfd(&self.signaller, fd.as_fd())) {
            return Err(Errno::INVAL);
        }
        let mut new = Vec::new();
        let mut files = Vec::new();
        for (vector, clients) in (start..).zip(fds) {
            let ours = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
            files.push(File::from(rustix::io::fcntl_dupfd_cloexec(&ours, 0)?));
            let number = self.next;
            self.next = self.next.wrapping_add(1);
            new.push(Passed { index, vector, number, ours, clients });
        }
        for passed in &new {
            self.poller.add(&passed.ours, Token::Doorbell(passed.number), true, false)?;
        }
        self.unpass(index, start..start.saturating_add(u32::try_from(new.len()).unwrap_or(u32::MAX)));
        self.passed.extend(new);
        Ok(files)
    }

    fn first_map(&self) -> Option<MapInfo> {
        self.maps.maps().next()
    }

    fn unmap_all(&mut self) {
        while let Some(map) = self.first_map() {
            let range = DmaUnmap::Range { iova: map.iova, size: map.size };
            let _ = self.call(|backend| backend.dma_unmap(DmaUnmapFlags::empty(), map.iova, map.size));
            let _ = self.maps.unmap(range);
        }
    }
}

/// `DEVICE_SET_IRQS`' flags for an action with this data.
fn irq_flags(data: u32, action: IrqAction) -> u32 {
    let action = match action {
        IrqAction::Mask => 8,
        IrqAction::Unmask => 16,
        IrqAction::Trigger => 32,
    };
    data | action
}

const DATA_NONE: u32 = 1;
const DATA_EVENTFD: u32 = 4;

impl Target for BackendEndpoint {
    fn device_info(&self) -> DeviceInfo {
        let count = |length| u32::try_from(length).unwrap_or(u32::MAX);
        DeviceInfo {
            reset: self.resettable,
            regions: count(self.regions.len()),
            irqs: count(self.irqs.len()),
        }
    }

    fn region(&self, index: u32) -> RegionDescription<'_> {
        let Some(region) = self.regions.get(index as usize) else { return RegionDescription::default() };
        let mmap = region.fd.as_ref().filter(|_| region.flags & REGION_MMAP != 0);
        RegionDescription {
            size: region.size,
            readable: region.flags & REGION_READ != 0,
            writable: region.flags & REGION_WRITE != 0,
            mmap: mmap.map(|fd| Mmap { fd: fd.as_fd(), offset: region.offset, areas: &region.areas }),
            msix_mappable: false,
        }
    }

    fn io_fds(&self, _: u32) -> Vec<IoFd<'_>> {
        Vec::new()
    }

    fn irq_info(&self, index: u32) -> IrqInfo {
        let irq = self.irqs.iter().find(|irq| irq.index == index);
        irq.map_or_else(IrqInfo::default, |irq| IrqInfo { flags: irq.flags, count: irq.count })
    }

    fn set_irqs(&mut self, command: SetIrqs<'_>) -> Result<(), Errno> {
        let SetIrqs { index, start, count, action, data } = command;
        let (irq, index) = (index, index as u32);
        match data {
            IrqData::None => {
                if count == 0 && action == IrqAction::Trigger {
                    self.unpass(irq, 0..u32::MAX);
                }
                let flags = irq_flags(DATA_NONE, action);
                self.call(|backend| backend.set_irqs(index, flags, start, count, Vec::new()))
            }
            IrqData::Bool(bytes) => {
                let flags = irq_flags(DATA_NONE, action);
                let chosen = (start..).zip(bytes).filter(|(_, byte)| **byte != 0);
                chosen.into_iter().try_for_each(|(vector, _)| {
                    self.call(|backend| backend.set_irqs(index, flags, vector, 1, Vec::new()))
                })
            }
            IrqData::Eventfds(_) if action != IrqAction::Trigger => Err(Errno::OPNOTSUPP),
            IrqData::Eventfds(fds) => {
                let flags = irq_flags(DATA_EVENTFD, action);
                let files = if fds.is_empty() {
                    self.unpass(irq, start..start.saturating_add(count));
                    Vec::new()
                } else {
                    self.pass(irq, start, fds)?
                };
                self.call(|backend| backend.set_irqs(index, flags, start, count, files))
            }
        }
    }

    fn dma_map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno> {
        let has_file = fd.is_some();
        self.maps.map(map, fd)?;
        let mapped = self.map_backend(map, has_file);
        if mapped.is_err() {
            let _ = self.maps.unmap(DmaUnmap::Range { iova: map.iova, size: map.size });
        }
        mapped
    }

    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<(), Errno> {
        match unmap {
            DmaUnmap::All => {
                self.unmap_all();
                Ok(())
            }
            DmaUnmap::Range { iova, size } => {
                self.maps.unmap(unmap)?;
                self.call(|backend| backend.dma_unmap(DmaUnmapFlags::empty(), iova, size))
            }
        }
    }

    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        let result = self.call(|backend| backend.region_read(access.region, access.offset, data));
        self.outcome(result)
    }

    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome {
        let result = self.call(|backend| backend.region_write(access.region, access.offset, data));
        self.outcome(result)
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.call(|backend| backend.reset())
    }

    fn dma_reply(&mut self, _: u16, _: Result<&[u8], Errno>) {}

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        // A backend sends no commands.
        None
    }
}

impl Endpoint for BackendEndpoint {
    fn begin_turn(&mut self, _: Instant) {}

    fn attached(&mut self) {}

    fn hangup(&mut self) {
        for passed in self.passed.drain(..) {
            self.poller.remove(&passed.ours);
        }
        // A backend that has panicked is not called again.
        if self.calling {
            return;
        }
        for number in 0..self.irqs.len() {
            let irq = self.irqs[number];
            if irq.count > 0 {
                let flags = irq_flags(DATA_NONE, IrqAction::Trigger);
                let _ = self.call(|backend| backend.set_irqs(irq.index, flags, 0, 0, Vec::new()));
            }
        }
        self.unmap_all();
    }

    fn completions(&mut self) -> &mut Completions {
        &mut self.completions
    }

    fn pump(&mut self, _: &mut dyn Messenger, _: Instant) {}

    fn serve_time(&mut self) {}

    fn next_due(&self) -> Option<Instant> {
        None
    }

    fn watch_ready(&mut self, _: u32) {}

    fn doorbell_ready(&mut self, number: u32) {
        let passed = self.passed.iter().find(|passed| passed.number == number);
        if let Some(passed) = passed.filter(|passed| take(passed.ours.as_fd()) > 0) {
            self.signaller.signal(passed.clients.as_fd());
        }
    }

    fn resample_fd(&self) -> (Option<BorrowedFd<'_>>, u64) {
        (None, 0)
    }

    fn resampled(&mut self) {}

    fn take_twin(&mut self) -> Option<OwnedFd> {
        None
    }

    fn run(&mut self, _: DeviceCall) {}

    fn maps(&self) -> Vec<MapInfo> {
        self.maps.maps().take(crate::context::MAX_REPORTED_MAPS).collect()
    }

    fn mapped(&self) -> (usize, u64) {
        (self.maps.len(), self.maps.mapped_bytes())
    }

    fn vectors(&self) -> Vec<VectorInfo> {
        let info = |passed: &Passed| VectorInfo {
            index: passed.index,
            vector: passed.vector,
            assigned: true,
            masked: false,
            pending: false,
        };
        self.passed.iter().map(info).collect()
    }

    fn take_answered(&mut self) -> u64 {
        std::mem::take(&mut self.answered)
    }

    fn interrupts(&self) -> u64 {
        self.signaller.signalled()
    }

    fn has_panicked(&self) -> bool {
        self.calling
    }

    fn into_device(self: Box<Self>) -> Option<Box<dyn PciDevice>> {
        None
    }
}
