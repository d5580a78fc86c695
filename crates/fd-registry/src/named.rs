//! Descriptors by name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use budget::Account;
use fd_closer::Received;

use crate::error::Error;
use crate::room::{Bound, Place};

/// Descriptors by name: what `getfd` puts in, `closefd` closes, and a command that takes an fd's name takes out.
///
/// Any text is a name here (what QEMU refuses, a leading digit, is for the command to refuse); case matters. An
/// empty store holds no memory. Descriptors are closed where nobody waits (see [`fd_closer`]); dropping the store
/// closes what is in it.
#[derive(Debug, Default)]
pub struct NamedFds {
    fds: Mutex<BTreeMap<String, Named>>,
    bound: Option<Bound>,
}

#[derive(Debug)]
struct Named {
    fd: Received,
    /// What it takes up of the store's bound.
    _place: Option<Place>,
}

impl NamedFds {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Self {
        Self { fds: Mutex::new(BTreeMap::new()), bound: None }
    }

    /// An empty store, which together with all others of this bound keeps no more than that. For what outlives whom it is
    /// counted for.
    #[must_use]
    pub const fn bounded(bound: Bound) -> Self {
        Self { fds: Mutex::new(BTreeMap::new()), bound: Some(bound) }
    }

    /// Puts a descriptor in. One that had the name before comes back, to be dropped.
    ///
    /// # Errors
    /// [`Error::TooManyNames`]: no more fit within the [bound](Self::bounded). The descriptor is closed; one that had the name
    /// stays.
    pub fn insert(
        &self,
        name: impl Into<String>,
        fd: impl Into<Received>,
    ) -> Result<Option<Received>, Error> {
        let (name, fd) = (name.into(), fd.into());
        let mut fds = self.lock();
        if let Some(named) = fds.get_mut(&name) {
            return Ok(Some(std::mem::replace(&mut named.fd, fd)));
        }
        let place = match &self.bound {
            Some(bound) => match bound.take() {
                Some(place) => Some(place),
                None => {
                    drop(fds);
                    return Err(Error::TooManyNames);
                }
            },
            None => None,
        };
        fds.insert(name, Named { fd, _place: place });
        Ok(None)
    }

    /// Takes a descriptor out.
    pub fn take(&self, name: &str) -> Option<Received> {
        self.lock().remove(name).map(|named| named.fd)
    }

    /// Closes a descriptor. `false` if there is none of this name.
    pub fn close(&self, name: &str) -> bool {
        let fd = self.take(name); // the lock is free again before the descriptor is closed
        fd.is_some()
    }

    /// Takes all descriptors out.
    #[must_use]
    pub fn drain(&self) -> Vec<Received> {
        std::mem::take(&mut *self.lock()).into_values().map(|named| named.fd).collect()
    }

    /// Takes out the descriptors that are charged to this account.
    #[must_use]
    pub fn drain_charged(&self, account: &Account) -> Vec<Received> {
        let mut fds = self.lock();
        let (out, rest) =
            std::mem::take(&mut *fds).into_iter().partition(|(_, named)| named.fd.is_charged_to(account));
        *fds = rest;
        drop(fds);
        BTreeMap::into_values(out).map(|named| named.fd).collect()
    }

    /// All names, sorted by their bytes.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Named>> {
        // A panic cannot leave the map half-changed.
        self.fds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use std::os::fd::OwnedFd;
    use std::task::Waker;

    use super::*;

    fn null() -> OwnedFd {
        std::fs::File::open("/dev/null").unwrap().into()
    }

    #[test]
    fn those_charged_to_one_account() {
        let (fds, budget) = (NamedFds::new(), budget::Budget::new(10));
        let [a, b] = [(); 2].map(|()| budget.holder(Waker::noop().clone()));
        for (name, account) in [("a", a.account()), ("b", b.account()), ("c", a.account())] {
            fds.insert(name, Received::charged(null(), account.charge(1))).unwrap();
        }
        fds.insert("d", null()).unwrap();
        assert_eq!(fds.drain_charged(&a.account()).len(), 2);
        assert_eq!((fds.names(), budget.used()), (vec!["b".to_owned(), "d".to_owned()], 1));
    }

    #[test]
    fn a_bound_goes_for_all_stores_that_have_it() {
        let bound = Bound::new(3);
        let [a, b] = [(); 2].map(|()| NamedFds::bounded(bound.clone()));
        for (fds, name) in [(&a, "a"), (&a, "b"), (&b, "a")] {
            assert!(fds.insert(name, null()).unwrap().is_none());
        }
        assert!(matches!(b.insert("b", null()), Err(Error::TooManyNames)));
        assert!(b.insert("a", null()).unwrap().is_some(), "in place of another");
        assert!(a.close("a"));
        assert!(b.insert("b", null()).unwrap().is_none());
        assert!(a.insert("a", null()).is_err());
        drop((b.drain(), a));
        for name in ["a", "b", "c"] {
            assert!(b.insert(name, null()).unwrap().is_none());
        }
        assert!(b.insert("d", null()).is_err());
    }

    #[test]
    fn insert_take_close() {
        let fds = NamedFds::new();
        assert!(fds.is_empty());
        let first = null();
        let number = first.as_raw_fd();
        assert!(fds.insert("a", first).unwrap().is_none());
        assert_eq!(fds.insert("a", null()).unwrap().unwrap().as_raw_fd(), number);
        assert!(fds.insert("", null()).unwrap().is_none());
        assert_eq!((fds.names(), fds.len()), (vec![String::new(), "a".into()], 2));
        assert!(fds.take("A").is_none());
        assert!(fds.close("a"));
        assert!(!fds.close("a"));
        assert_eq!(fds.drain().len(), 1);
        assert!(fds.take("").is_none());
    }
}
