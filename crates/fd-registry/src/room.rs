//! How much fits into all sets of a VMM, and how much under names.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::Error;

/// What is taken, of how much.
#[derive(Debug, Clone)]
pub(crate) struct Rooms(Arc<State>);

#[derive(Debug)]
struct State {
    descriptors: Bounded,
    opaque: Bounded,
}

#[derive(Debug)]
struct Bounded {
    taken: AtomicUsize,
    limit: usize,
}

impl Bounded {
    fn new(limit: usize) -> Self {
        Self { taken: AtomicUsize::new(0), limit }
    }

    /// Takes as much if it is there.
    fn take(&self, amount: usize) -> bool {
        let fits = |taken: usize| taken.checked_add(amount).filter(|sum| *sum <= self.limit);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok()
    }

    fn give(&self, amount: usize) {
        self.taken.fetch_sub(amount, Ordering::Relaxed);
    }
}

/// How many descriptors all that share this may keep. A clone is the same.
#[derive(Debug, Clone)]
pub struct Bound(Arc<Bounded>);

impl Bound {
    /// So many.
    #[must_use]
    pub fn new(descriptors: usize) -> Self {
        Self(Arc::new(Bounded::new(descriptors)))
    }

    pub(crate) fn take(&self) -> Option<Place> {
        self.0.take(1).then(|| Place(self.0.clone()))
    }
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Bounded>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.give(1);
    }
}

impl Default for Rooms {
    fn default() -> Self {
        Self::new(usize::MAX, usize::MAX)
    }
}

impl Rooms {
    pub(crate) fn new(descriptors: usize, opaque: usize) -> Self {
        Self(Arc::new(State { descriptors: Bounded::new(descriptors), opaque: Bounded::new(opaque) }))
    }

    /// Room for one descriptor with a text of so many bytes.
    pub(crate) fn take(&self, opaque: usize) -> Result<Room, Error> {
        if !self.0.descriptors.take(1) {
            return Err(Error::TooMany);
        }
        if !self.0.opaque.take(opaque) {
            self.0.descriptors.give(1);
            return Err(Error::OpaqueTooLong);
        }
        Ok(Room { all: self.0.clone(), opaque })
    }
}

/// What one descriptor takes up, until it is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    all: Arc<State>,
    opaque: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.all.descriptors.give(1);
        self.all.opaque.give(self.opaque);
    }
}
