//! The vectors of one interrupt type: edges, each with its own mask.

use std::ops::Range;
use std::os::fd::AsFd;

use fd_closer::Received;

use super::signal::Signaller;

/// Vectors of a type.
#[derive(Debug, Default)]
pub(super) struct Vectors {
    all: Vec<Vector>,
    /// How many have an eventfd.
    assigned: u32,
}

/// One vector. A mask does not depend on an eventfd; something pending does.
#[derive(Debug, Default)]
pub(super) struct Vector {
    pub(super) eventfd: Option<Received>,
    pub(super) masked: bool,
    pub(super) pending: bool,
}

impl Vectors {
    pub(super) fn new(count: u32) -> Self {
        Self { all: (0..count).map(|_| Vector::default()).collect(), assigned: 0 }
    }

    pub(super) fn count(&self) -> u32 {
        // It was made from such a number.
        u32::try_from(self.all.len()).unwrap_or(u32::MAX)
    }

    /// Whether any has an eventfd.
    pub(super) fn any_assigned(&self) -> bool {
        self.assigned > 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Vector)> {
        (0..).zip(&self.all)
    }

    /// Gives each of a range the next of `fds`, or none if there are no more. What had fired for the old one stays
    /// pending for the new one, and is forgotten without.
    pub(super) fn assign(&mut self, range: Range<usize>, fds: Vec<Received>) {
        let mut fds = fds.into_iter();
        for vector in self.all.get_mut(range).unwrap_or_default() {
            let next = fds.next();
            self.assigned -= u32::from(vector.eventfd.is_some());
            self.assigned += u32::from(next.is_some());
            vector.pending &= next.is_some();
            vector.eventfd = next;
        }
    }

    /// Fires one: dropped without an eventfd, kept while it is masked.
    pub(super) fn raise(&mut self, vector: usize, signaller: &mut Signaller) {
        let Some(vector) = self.all.get_mut(vector) else { return };
        match &vector.eventfd {
            Some(_) if vector.masked => vector.pending = true,
            Some(eventfd) => signaller.signal(eventfd.as_fd()),
            None => {}
        }
    }

    pub(super) fn mask(&mut self, vector: usize) {
        if let Some(vector) = self.all.get_mut(vector) {
            vector.masked = true;
        }
    }

    /// Lets one go, and fires it if it is pending.
    pub(super) fn unmask(&mut self, vector: usize, signaller: &mut Signaller) {
        let Some(vector) = self.all.get_mut(vector) else { return };
        vector.masked = false;
        if let Some(eventfd) = vector.eventfd.as_ref().filter(|_| vector.pending) {
            signaller.signal(eventfd.as_fd());
        }
        vector.pending = false;
    }

    /// Closes all eventfds, and forgets masks and what is pending.
    pub(super) fn clear(&mut self) {
        self.all.fill_with(Vector::default);
        self.assigned = 0;
    }

    /// Forgets what is pending.
    pub(super) fn forget_pending(&mut self) {
        self.all.iter_mut().for_each(|vector| vector.pending = false);
    }
}
