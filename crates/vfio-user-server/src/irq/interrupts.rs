//! All interrupts of a device.

use std::os::fd::{AsFd, BorrowedFd};

use fd_closer::Received;
use rustix::io::Errno;

use super::intx::Intx;
use super::signal::Signaller;
use super::vectors::Vectors;
use super::{VectorInfo, eventfd};
use crate::protocol::{IrqAction, IrqData, IrqIndex, IrqInfo, SetIrqs};

/// `VFIO_IRQ_INFO_EVENTFD`.
const EVENTFD: u32 = 1;
/// `VFIO_IRQ_INFO_MASKABLE`.
const MASKABLE: u32 = 2;
/// `VFIO_IRQ_INFO_AUTOMASKED`.
const AUTOMASKED: u32 = 4;

/// The types that are edges.
const EDGES: [IrqIndex; 4] = [IrqIndex::Msi, IrqIndex::Msix, IrqIndex::Err, IrqIndex::Req];

/// The interrupts of a device, and what its client has set up for them.
#[derive(Debug, Default)]
pub struct Interrupts {
    intx: Intx,
    /// In the order of [`EDGES`].
    edges: [Vectors; 4],
    signaller: Signaller,
}

impl Interrupts {
    /// As many vectors of each [`IrqIndex`] as `counts` says. More than one INTx counts as one.
    #[must_use]
    pub fn new(counts: [u32; 5]) -> Self {
        let [intx, edges @ ..] = counts;
        Self { intx: Intx::new(intx > 0), edges: edges.map(Vectors::new), signaller: Signaller::default() }
    }

    /// The answer to `DEVICE_GET_IRQ_INFO`; nothing for an index that does not exist.
    ///
    /// MSI and MSI-X say no more than libvfio-user's servers do, though masks are taken: QEMU sends its masks to a device
    /// that offers them, which costs a message for each.
    #[must_use]
    pub fn info(&self, index: u32) -> IrqInfo {
        let (flags, count) = match index.checked_sub(1) {
            None => (EVENTFD | MASKABLE | AUTOMASKED, u32::from(self.intx.present())),
            Some(edge) => {
                let vectors = usize::try_from(edge).ok().and_then(|edge| self.edges.get(edge));
                (EVENTFD, vectors.map_or(0, Vectors::count))
            }
        };
        IrqInfo { flags: if count == 0 { 0 } else { flags }, count }
    }

    /// Does `DEVICE_SET_IRQS`.
    ///
    /// Descriptors that come with [`IrqAction::Unmask`] for INTx are its resample eventfd; with other masks they are taken
    /// and closed, which is what libvfio-user does: nobody sends them.
    ///
    /// # Errors
    /// `EINVAL` if there are no such vectors, or a descriptor is no eventfd. Nothing is done then.
    pub fn set(&mut self, command: SetIrqs<'_>) -> Result<(), Errno> {
        let SetIrqs { index, start, count, action, data } = command;
        let end = start
            .checked_add(count)
            .filter(|end| *end <= self.info(index as u32).count)
            .ok_or(Errno::INVAL)?;
        match data {
            IrqData::Eventfds(fds) => self.set_eventfds(index, start..end, action, fds),
            IrqData::None if count == 0 && action == IrqAction::Trigger => {
                match self.edges_mut(index) {
                    Some((vectors, _)) => vectors.clear(),
                    None => self.intx.clear(),
                }
                Ok(())
            }
            IrqData::None => {
                (start..end).for_each(|vector| self.act(index, vector, action));
                Ok(())
            }
            IrqData::Bool(chosen) => {
                let chosen = (start..end).zip(chosen).filter(|(_, byte)| **byte != 0);
                chosen.for_each(|(vector, _)| self.act(index, vector, action));
                Ok(())
            }
        }
    }

    fn set_eventfds(
        &mut self,
        index: IrqIndex,
        range: std::ops::Range<u32>,
        action: IrqAction,
        fds: Vec<Received>,
    ) -> Result<(), Errno> {
        if !fds.is_empty() {
            self.signaller.prepare();
            let all_are = fds.iter().all(|fd| eventfd::is_eventfd(&self.signaller, fd.as_fd()));
            if fds.len() != range.len() || !all_are {
                return Err(Errno::INVAL);
            }
        }
        let range = range.start as usize..range.end as usize;
        match (self.edges_mut(index), action) {
            (Some((vectors, _)), IrqAction::Trigger) => vectors.assign(range, fds),
            (None, _) if range.is_empty() => {}
            (None, IrqAction::Trigger) => self.intx.assign(fds.into_iter().next(), &mut self.signaller),
            (None, IrqAction::Unmask) => self.intx.set_resample(fds.into_iter().next()),
            (_, IrqAction::Mask | IrqAction::Unmask) => {}
        }
        Ok(())
    }

    /// What is done to one vector without an eventfd.
    fn act(&mut self, index: IrqIndex, vector: u32, action: IrqAction) {
        match (self.edges_mut(index), action) {
            (Some((vectors, signaller)), IrqAction::Trigger) => vectors.raise(vector as usize, signaller),
            (Some((vectors, _)), IrqAction::Mask) => vectors.mask(vector as usize),
            (Some((vectors, signaller)), IrqAction::Unmask) => vectors.unmask(vector as usize, signaller),
            (None, IrqAction::Trigger) => self.intx.try_out(&mut self.signaller),
            (None, IrqAction::Mask) => self.intx.mask(),
            (None, IrqAction::Unmask) => self.intx.unmask(&mut self.signaller),
        }
    }

    /// Fires a vector: dropped if it has no eventfd or does not exist, kept while it is masked. INTx is no edge: nothing
    /// happens, see [`set_intx`](Self::set_intx).
    pub fn raise(&mut self, index: IrqIndex, vector: u32) {
        if let Some((vectors, signaller)) = self.edges_mut(index) {
            vectors.raise(vector as usize, signaller);
        }
    }

    /// Sets the level of the interrupt pin, if the device has one. A high level fires once, and again each time the
    /// client lets go of it.
    pub fn set_intx(&mut self, high: bool) {
        if self.intx.present() {
            self.intx.set_level(high, &mut self.signaller);
        }
    }

    /// The command register switches the interrupt pin off, or on. Off, it does not fire; its level is kept.
    pub fn disable_intx(&mut self, disabled: bool) {
        self.intx.set_disabled(disabled, &mut self.signaller);
    }

    /// Whether any vector of a type has an eventfd.
    #[must_use]
    pub fn enabled(&self, index: IrqIndex) -> bool {
        match self.edges(index) {
            Some(vectors) => vectors.any_assigned(),
            None => self.intx.assigned(),
        }
    }

    /// The eventfd whose being readable means that the client lets go of INTx: then call
    /// [`resampled`](Self::resampled). It may go in any [`set`](Self::set) and in [`clear`](Self::clear); whoever watches it
    /// compares [`resample_changes`](Self::resample_changes).
    #[must_use]
    pub fn resample_fd(&self) -> Option<BorrowedFd<'_>> {
        self.intx.resample().map(AsFd::as_fd)
    }

    /// How often [`resample_fd`](Self::resample_fd) has become another, or none.
    #[must_use]
    pub fn resample_changes(&self) -> u64 {
        self.intx.resample_changes()
    }

    /// The resample eventfd is readable: resets it, and lets go of INTx. Does not wait if it is not.
    pub fn resampled(&mut self) {
        if let Some(fd) = self.intx.resample() {
            eventfd::take(fd.as_fd());
            self.intx.unmask(&mut self.signaller);
        }
    }

    /// The client has gone: all eventfds are closed, masks and what is pending forgotten. The level of INTx stays.
    pub fn clear(&mut self) {
        self.intx.clear();
        self.edges.iter_mut().for_each(Vectors::clear);
    }

    /// The device was reset: nothing is pending, INTx is low, has not fired and is not switched off. Eventfds and the client's
    /// masks stay.
    pub fn reset(&mut self) {
        self.intx.reset();
        self.edges.iter_mut().for_each(Vectors::forget_pending);
    }

    /// The vectors that the client has set up or masked, by type and number.
    pub fn vectors(&self) -> impl Iterator<Item = VectorInfo> {
        let intx = VectorInfo {
            index: IrqIndex::Intx,
            vector: 0,
            assigned: self.intx.assigned(),
            masked: self.intx.held(),
            pending: self.intx.pending(),
        };
        let edges = EDGES.into_iter().zip(&self.edges).flat_map(|(index, vectors)| {
            vectors.iter().map(move |(number, vector)| VectorInfo {
                index,
                vector: number,
                assigned: vector.eventfd.is_some(),
                masked: vector.masked,
                pending: vector.pending,
            })
        });
        std::iter::once(intx).chain(edges).filter(|info| info.assigned || info.masked)
    }

    /// Signals sent, from the start.
    #[must_use]
    pub fn signalled(&self) -> u64 {
        self.signaller.signalled()
    }

    /// `None` for INTx.
    fn edges(&self, index: IrqIndex) -> Option<&Vectors> {
        self.edges.get((index as usize).checked_sub(1)?)
    }

    fn edges_mut(&mut self, index: IrqIndex) -> Option<(&mut Vectors, &mut Signaller)> {
        let vectors = self.edges.get_mut((index as usize).checked_sub(1)?)?;
        Some((vectors, &mut self.signaller))
    }
}
