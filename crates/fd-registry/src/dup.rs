//! A duplicate taken out of a set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use fd_closer::Received;

use crate::sets::FdSets;

/// A duplicate (close-on-exec) of a set's descriptor, made by [`FdSets::open`].
///
/// While it lives, its set lives: emptied by `remove-fd`, the set stays listed, empty, until the last duplicate
/// drops. Dropping closes the duplicate first, where nobody waits ([`fd_closer`]), and then lets go of the set; no lock
/// is held meanwhile.
///
/// There is no `into_owned`: a descriptor taken out would outlive what the set's listing says. Code that needs an
/// `OwnedFd` takes a [`try_clone`](Self::try_clone) and keeps this value beside it for as long.
#[derive(Debug)]
pub struct DupFd {
    /// `Some` until dropped.
    fd: Option<Received>,
    set: i64,
    sets: FdSets,
}

impl DupFd {
    /// The set has counted this duplicate already.
    pub(crate) fn new(fd: Received, set: i64, sets: FdSets) -> Self {
        Self { fd: Some(fd), set, sets }
    }

    /// The number of the set it came from.
    #[must_use]
    pub fn set(&self) -> i64 {
        self.set
    }

    /// A further duplicate (close-on-exec) that the set does not know of.
    ///
    /// # Errors
    /// `EMFILE` when the process is out of descriptors.
    pub fn try_clone(&self) -> io::Result<OwnedFd> {
        self.as_fd().try_clone_to_owned()
    }
}

impl AsFd for DupFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("only drop takes the descriptor"),
        }
    }
}

impl AsRawFd for DupFd {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for DupFd {
    fn drop(&mut self) {
        drop(self.fd.take());
        self.sets.dup_closed(self.set);
    }
}
