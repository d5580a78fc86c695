//! All that surrounds a device but the device itself: what a [`DeviceContext`](super::DeviceContext) borrows.

use std::collections::VecDeque;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use super::timers::{Timers, Work};
use super::transfer::Transfers;
use super::watches::Watches;
use crate::Errno;
use crate::context::Handle;
use crate::context::poller::Poller;
use crate::dma::DmaTable;
use crate::irq::Interrupts;
use crate::pci::{Bars, ConfigSpace};
use crate::protocol::AccessToken;

/// A deferred access that the device has completed.
#[derive(Debug)]
pub(crate) enum Completion {
    /// With the bytes at this place of [`Completions::bytes`].
    Read(AccessToken, Range<usize>),
    Write(AccessToken),
    Failed(AccessToken, Errno),
}

/// The completed ones that have not been answered yet. Its memory is kept, so completing allocates nothing in the end.
#[derive(Debug, Default)]
pub(crate) struct Completions {
    pub(crate) list: VecDeque<Completion>,
    pub(crate) bytes: Vec<u8>,
}

impl Completions {
    pub(crate) fn read(&mut self, token: AccessToken, data: &[u8]) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(data);
        self.list.push_back(Completion::Read(token, start..self.bytes.len()));
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.bytes.clear();
    }
}

/// The access that is going on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Current {
    pub(crate) token: AccessToken,
    pub(crate) deferred: bool,
    /// It was deferred, and completed at once.
    pub(crate) completed: bool,
}

/// A device's surroundings.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) now: Instant,
    pub(crate) attached: bool,
    pub(crate) access: Option<Current>,
    pub(crate) completions: Completions,
    pub(crate) dma: DmaTable,
    pub(crate) transfers: Transfers,
    pub(crate) irqs: Interrupts,
    pub(crate) config: ConfigSpace,
    pub(crate) bars: Bars,
    pub(crate) timers: Timers,
    pub(crate) work: Work,
    pub(crate) watches: Watches,
    pub(crate) poller: Arc<Poller>,
    pub(crate) handle: Handle,
    /// Our end of a socket for commands to the client, until the context takes it.
    pub(crate) twin: Option<OwnedFd>,
    /// Accesses that wait for the device, and since when.
    pub(crate) deferred: Vec<(AccessToken, Instant)>,
    /// Accesses answered at once, until the context counts them.
    pub(crate) answered: u64,
}

impl Core {
    /// The device completes a deferred access.
    pub(crate) fn completed(&mut self, token: AccessToken) {
        if let Some(access) = &mut self.access
            && access.token == token
        {
            // In the very call that has deferred it.
            access.completed = true;
            self.answered += 1;
        } else if let Some(index) = self.deferred.iter().position(|(deferred, _)| *deferred == token) {
            let (_, since) = self.deferred.swap_remove(index);
            self.handle.counters().answered(1, since.elapsed());
        }
    }

    /// The client has gone: its memory, its interrupts, and what was under way.
    pub(crate) fn hangup(&mut self) {
        self.attached = false;
        self.completions.clear();
        self.deferred.clear();
        self.transfers.cancel();
        self.transfers.forget_commands();
        self.dma.clear();
        self.irqs.clear();
        self.timers.hangup();
        self.work.clear();
        self.twin = None;
    }

    /// As after power-on, but for the client's memory and eventfds.
    pub(crate) fn reset(&mut self) {
        self.transfers.cancel();
        self.irqs.reset();
        self.config.reset();
        self.bars.reset();
        self.timers.cancel_all();
        self.work.clear();
    }
}
