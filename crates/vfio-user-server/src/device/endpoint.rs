//! A [`PciDevice`] with its surroundings: what the protocol's commands do to it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use fd_closer::Received;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use super::core::{Completions, Core, Current};
use super::timers::{Timers, Work};
use super::transfer::{Messenger, Transfers};
use super::watches::Watches;
use crate::context::endpoint::{DeviceCall, Endpoint};
use crate::context::poller::{Poller, Token};
use crate::context::{Handle, Limits, MAX_REPORTED_MAPS};
use crate::dma::{DmaPolicy, DmaTable, MapInfo};
use crate::irq::{Interrupts, VectorInfo};
use crate::pci::{Bars, ConfigSpace, Handled};
use crate::protocol::{
    Access, CONFIG_REGION, DeviceInfo, DmaMap, DmaUnmap, IoFd, IrqInfo, Outcome, PCI_IRQS, PCI_REGIONS,
    RegionDescription, SetIrqs, Target,
};
use crate::{DeviceContext, Errno, PciDevice};

/// Timers called, and pieces of work done, per turn.
const CALLS_PER_TURN: usize = 32;

/// An exported PCI device.
pub(crate) struct PciEndpoint {
    device: Box<dyn PciDevice>,
    core: Core,
    resettable: bool,
    /// A call of the device is going on. Still set afterwards if it has panicked.
    calling: bool,
}

impl PciEndpoint {
    /// Takes a device. Given back if its memory cannot be had.
    pub(crate) fn new(
        device: Box<dyn PciDevice>,
        policy: DmaPolicy,
        limits: &Limits,
        poller: &Arc<Poller>,
        handle: Handle,
    ) -> Result<Self, (std::io::Error, Box<dyn PciDevice>)> {
        let spec = device.spec();
        let bars = match Bars::new(&spec) {
            Ok(bars) => bars,
            Err(error) => return Err((error, device)),
        };
        for (number, doorbell) in bars.doorbells().enumerate() {
            let token = Token::Doorbell(u32::try_from(number).unwrap_or(u32::MAX));
            if let Err(error) = poller.add(doorbell, token, true, false) {
                return Err((error.into(), device));
            }
        }
        let core = Core {
            now: Instant::now(),
            attached: false,
            access: None,
            completions: Completions::default(),
            dma: DmaTable::new(policy, limits.maps, limits.mapped_bytes),
            transfers: Transfers::default(),
            irqs: Interrupts::new([spec.intx(), spec.msi_vectors(), spec.msix_vectors(), 1, 1]),
            config: ConfigSpace::new(&spec),
            bars,
            timers: Timers::default(),
            work: Work::default(),
            watches: Watches::default(),
            poller: Arc::clone(poller),
            handle,
            twin: None,
            deferred: Vec::new(),
            answered: 0,
        };
        let resettable = spec.resettable();
        Ok(Self { device, core, resettable, calling: false })
    }

    fn call<R>(&mut self, call: impl FnOnce(&mut dyn PciDevice, &mut DeviceContext<'_>) -> R) -> R {
        self.calling = true;
        let result = call(&mut *self.device, &mut DeviceContext { core: &mut self.core });
        self.calling = false;
        result
    }

    /// Calls the device for an access that it may defer.
    fn access(
        &mut self,
        access: Access,
        call: impl FnOnce(&mut dyn PciDevice, &mut DeviceContext<'_>) -> Result<(), Errno>,
    ) -> Outcome {
        self.core.access = Some(Current { token: access.token, deferred: false, completed: false });
        let result = self.call(call);
        let current = self.core.access.take();
        let deferred = current.is_some_and(|current| current.deferred);
        let completed = current.is_some_and(|current| current.completed);
        match result {
            Err(error) => Outcome::Failed(error),
            Ok(()) if deferred => {
                if !completed {
                    self.core.deferred.push((access.token, self.core.now));
                }
                Outcome::Deferred
            }
            Ok(()) => Outcome::Done,
        }
    }

    fn read_region(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        if access.region == CONFIG_REGION {
            // It fits: the access is within the space, which is of 4096 bytes at most.
            self.core.config.read(u16::try_from(access.offset).unwrap_or(u16::MAX), data);
            return Outcome::Done;
        }
        let Some(bar) = bar(access.region) else { return Outcome::Failed(Errno::INVAL) };
        match self.core.bars.read(bar, access.offset, data) {
            Ok(Handled::All) => Outcome::Done,
            Ok(Handled::None) => self.access(access, |device, cx| device.read(cx, bar, access.offset, data)),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn write_region(&mut self, access: Access, data: &[u8]) -> Outcome {
        if access.region == CONFIG_REGION {
            // Both fit: the access is within the space, which is of 4096 bytes at most.
            if let (Ok(offset), Ok(length)) = (u16::try_from(access.offset), u16::try_from(data.len())) {
                self.core.config.write(offset, data);
                self.core.irqs.disable_intx(self.core.config.intx_disabled());
                self.call(|device, cx| device.config_written(cx, offset, length));
            }
            return Outcome::Done;
        }
        let Some(bar) = bar(access.region) else { return Outcome::Failed(Errno::INVAL) };
        match self.core.bars.write(bar, access.offset, data) {
            Ok(Handled::All) => Outcome::Done,
            Ok(Handled::None) => self.access(access, |device, cx| device.write(cx, bar, access.offset, data)),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn count(&mut self, outcome: Outcome) -> Outcome {
        self.core.answered += u64::from(outcome != Outcome::Deferred);
        outcome
    }
}

/// The BAR that a region is. Regions 0 to 5 are the BARs, 6 is the ROM.
fn bar(region: u32) -> Option<u8> {
    u8::try_from(region).ok().filter(|bar| *bar <= 6)
}

impl Target for PciEndpoint {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo { reset: self.resettable, regions: PCI_REGIONS, irqs: PCI_IRQS }
    }

    fn region(&self, index: u32) -> RegionDescription<'_> {
        self.core.bars.region(index)
    }

    fn io_fds(&self, index: u32) -> Vec<IoFd<'_>> {
        self.core.bars.io_fds(index)
    }

    fn irq_info(&self, index: u32) -> IrqInfo {
        self.core.irqs.info(index)
    }

    fn set_irqs(&mut self, command: SetIrqs<'_>) -> Result<(), Errno> {
        self.core.irqs.set(command)
    }

    fn dma_map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno> {
        self.core.dma.map(map, fd)
    }

    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<(), Errno> {
        self.core.dma.unmap(unmap)?;
        self.core.transfers.unmapped(unmap);
        Ok(())
    }

    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        let outcome = self.read_region(access, data);
        self.count(outcome)
    }

    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome {
        let outcome = self.write_region(access, data);
        self.count(outcome)
    }

    fn is_memory(&self, region: u32, offset: u64, size: u64) -> bool {
        bar(region).is_some_and(|bar| self.core.bars.is_memory(bar, offset, size))
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.core.reset();
        self.call(|device, cx| device.reset(cx));
        Ok(())
    }

    fn dma_reply(&mut self, id: u16, result: Result<&[u8], Errno>) {
        self.core.transfers.reply(id, result);
    }

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).ok()?;
        self.core.twin = Some(ours);
        Some(theirs)
    }
}

impl Endpoint for PciEndpoint {
    fn begin_turn(&mut self, now: Instant) {
        self.core.now = now;
    }

    fn attached(&mut self) {
        // What a device says of accesses of a client that has gone concerns nobody.
        self.core.completions.clear();
        self.core.attached = true;
        self.call(|device, cx| device.attached(cx));
    }

    fn hangup(&mut self) {
        self.core.hangup();
        let poller = &self.core.poller;
        self.core.bars.renew_doorbells(|old, new, number| {
            poller.remove(old);
            let token = Token::Doorbell(u32::try_from(number).unwrap_or(u32::MAX));
            if let Err(error) = poller.add(new, token, true, false) {
                tracing::warn!(%error, "a doorbell cannot be watched");
            }
        });
        // A device that has panicked is not called again.
        if !self.calling {
            self.call(|device, cx| device.hangup(cx));
        }
    }

    fn completions(&mut self) -> &mut Completions {
        &mut self.core.completions
    }

    fn pump(&mut self, messenger: &mut dyn Messenger, deadline: Instant) {
        // A device may begin its next transfer when it is told of the end of one. Each round is one for each that ended in
        // the last, so what is local and endless would go on for ever: such transfers take turns.
        for _ in 0..CALLS_PER_TURN {
            if self.core.transfers.wants_pump() {
                self.core.transfers.pump(&self.core.dma, messenger, deadline);
            }
            let Some(done) = self.core.transfers.take_ended() else { return };
            self.call(|device, cx| device.dma_done(cx, done));
        }
        if self.core.transfers.wants_pump() {
            self.core.transfers.pump(&self.core.dma, messenger, deadline);
        }
    }

    fn serve_time(&mut self) {
        let now = self.core.now;
        self.core.transfers.expire(now);
        for _ in 0..CALLS_PER_TURN {
            let Some(tag) = self.core.timers.take_due(now) else { break };
            self.call(|device, cx| device.timer(cx, tag));
        }
        // Only what was there before: work that asks for more work waits for the next turn.
        for _ in 0..self.core.work.len().min(CALLS_PER_TURN) {
            let Some(tag) = self.core.work.take() else { break };
            self.call(|device, cx| device.work(cx, tag));
        }
    }

    fn next_due(&self) -> Option<Instant> {
        if self.core.work.len() > 0 || self.core.transfers.has_ended() {
            return Some(self.core.now);
        }
        let times = [self.core.timers.next_due(), self.core.transfers.next_deadline()];
        times.into_iter().flatten().min()
    }

    fn watch_ready(&mut self, number: u32) {
        if let Some(tag) = self.core.watches.tag(number) {
            self.call(|device, cx| device.fd_ready(cx, tag));
        }
    }

    fn doorbell_ready(&mut self, number: u32) {
        let Some(bell) = self.core.bars.doorbells().nth(number as usize) else { return };
        let (tag, count) = (bell.tag(), bell.take());
        if count > 0 {
            self.call(|device, cx| device.doorbell(cx, tag, count));
        }
    }

    fn resample_fd(&self) -> (Option<BorrowedFd<'_>>, u64) {
        (self.core.irqs.resample_fd(), self.core.irqs.resample_changes())
    }

    fn resampled(&mut self) {
        self.core.irqs.resampled();
    }

    fn take_twin(&mut self) -> Option<OwnedFd> {
        self.core.twin.take()
    }

    fn run(&mut self, call: DeviceCall) {
        self.call(call);
    }

    fn maps(&self) -> Vec<MapInfo> {
        self.core.dma.maps().take(MAX_REPORTED_MAPS).collect()
    }

    fn mapped(&self) -> (usize, u64) {
        (self.core.dma.len(), self.core.dma.mapped_bytes())
    }

    fn vectors(&self) -> Vec<VectorInfo> {
        self.core.irqs.vectors().collect()
    }

    fn interrupts(&self) -> u64 {
        self.core.irqs.signalled()
    }

    fn take_answered(&mut self) -> u64 {
        std::mem::take(&mut self.core.answered)
    }

    fn has_panicked(&self) -> bool {
        self.calling
    }

    fn into_device(self: Box<Self>) -> Option<Box<dyn PciDevice>> {
        (!self.calling).then_some(self.device)
    }
}
