//! The chardevs of a plane, by id.
//!
//! Whoever opens a chardev [inserts](Chardevs::insert) it, and `chardev-add` does; from then on clients see it in
//! `query-chardev`, can hand connections to it, and can remove it while no monitor uses it. The registry owns its
//! chardevs: what is removed is closed once nobody else has it, and all are when the plane is.
//!
//! An id is taken before its chardev is opened (a [`Reservation`]), so that of two `chardev-add` one is refused
//! before it has done anything.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use chardev::Chardev;
use qmp_protocol::order::NameTable;
use tokio::sync::watch;

use crate::objects::builtin::{OtherObject, SocketObject};
use crate::objects::{Node, Objects, WeakObjects};

/// Why a chardev is not put in or taken out. QEMU 7.2's texts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChardevError {
    /// There is one of this id.
    #[error("Chardev with id '{0}' already exists")]
    Exists(String),
    /// There is none of this id.
    #[error("Chardev '{0}' not found")]
    NotFound(String),
    /// A monitor uses it.
    #[error("Chardev '{0}' is busy")]
    Busy(String),
    /// Another `chardev-add` waits for a client.
    #[error("another chardev waits for its client already; give wait=off, or remove that one")]
    Waiting,
    /// Clients can add no more.
    #[error("There are {0} chardevs already: remove some")]
    TooMany(usize),
    /// The plane has been closed.
    #[error("there are no more chardevs: the monitors are closed")]
    Closed,
}

/// The chardevs of a plane. Shared; all methods are short and may be called from anywhere.
#[derive(Debug, Default)]
pub struct Chardevs {
    state: Mutex<State>,
    /// Where they are seen, once the plane is built.
    /// Weak: the types of monitors hold this.
    objects: OnceLock<WeakObjects>,
}

#[derive(Debug, Default)]
struct State {
    /// Oldest first.
    entries: Vec<Entry>,
    /// Their ids, as QEMU keeps them.
    order: NameTable<Arc<str>>,
    reserved: Vec<Arc<str>>,
    /// A `chardev-add` waits for its client.
    waiting: bool,
    closed: bool,
}

#[derive(Debug)]
struct Entry {
    chardev: Arc<Chardev>,
    /// In the object tree. Its id may have a '/' in it, so it cannot be found by its path.
    node: Option<Arc<Node>>,
    /// Dropped with the entry, which those who wait for its end see.
    _present: watch::Sender<()>,
}

/// Ends when a chardev is taken off the registry.
#[derive(Debug)]
pub(crate) struct Presence(watch::Receiver<()>);

impl Presence {
    /// Waits until the chardev is no longer registered. Cancel-safe.
    pub(crate) async fn ended(mut self) {
        // Nothing is ever sent.
        while self.0.changed().await.is_ok() {}
    }
}

impl Chardevs {
    /// Registers a chardev under its id.
    ///
    /// # Errors
    /// When the id is taken or the plane is closed.
    pub fn insert(&self, chardev: Arc<Chardev>) -> Result<(), ChardevError> {
        self.reserve(chardev.id(), usize::MAX)?.fill(chardev).map(drop)
    }

    /// Registers a chardev, unless it is this very one that has the id.
    pub(crate) fn ensure(&self, chardev: &Arc<Chardev>) -> Result<(), ChardevError> {
        match self.get(chardev.id()) {
            Some(known) if Arc::ptr_eq(&known, chardev) => Ok(()),
            _ => self.insert(chardev.clone()),
        }
    }

    /// Takes an id for a chardev that is about to be opened, unless there are `most` already.
    pub(crate) fn reserve(&self, id: &str, most: usize) -> Result<Reservation<'_>, ChardevError> {
        let mut state = self.lock();
        if state.closed {
            return Err(ChardevError::Closed);
        }
        if state.entries.iter().any(|entry| entry.chardev.id() == id)
            || state.reserved.iter().any(|reserved| &**reserved == id)
        {
            return Err(ChardevError::Exists(id.to_owned()));
        }
        let there_are = state.entries.len() + state.reserved.len();
        if there_are >= most {
            return Err(ChardevError::TooMany(there_are));
        }
        let id: Arc<str> = id.into();
        state.reserved.push(id.clone());
        Ok(Reservation { chardevs: self, id })
    }

    /// The right to wait for a client, which one has at a time.
    pub(crate) fn wait_turn(&self) -> Result<WaitTurn<'_>, ChardevError> {
        let mut state = self.lock();
        if std::mem::replace(&mut state.waiting, true) {
            return Err(ChardevError::Waiting);
        }
        Ok(WaitTurn(self))
    }

    /// Takes off this very chardev, if it still has its id and no monitor uses it.
    pub(crate) fn remove_this(&self, chardev: &Arc<Chardev>) {
        let same = self.get(chardev.id()).is_some_and(|found| Arc::ptr_eq(&found, chardev));
        if same && let Err(error) = self.remove(chardev.id()) {
            tracing::warn!(chardev = chardev.id(), "it stays: {error}");
        }
    }

    /// The chardev of this id.
    pub fn get(&self, id: &str) -> Option<Arc<Chardev>> {
        self.lock().find(id).map(|entry| entry.chardev.clone())
    }

    /// Takes a chardev off: no monitor can use it from now on.
    ///
    /// # Errors
    /// When there is none of this id, or a monitor uses it.
    pub fn remove(&self, id: &str) -> Result<Arc<Chardev>, ChardevError> {
        let mut state = self.lock();
        let place = state.entries.iter().position(|entry| entry.chardev.id() == id);
        let place = place.ok_or_else(|| ChardevError::NotFound(id.to_owned()))?;
        if state.entries.get(place).is_some_and(|entry| entry.chardev.retire().is_err()) {
            return Err(ChardevError::Busy(id.to_owned()));
        }
        state.order.remove(id);
        let Entry { chardev, node, .. } = state.entries.remove(place);
        // Under the lock: whoever takes the id next is seen after this.
        if let Some(node) = node
            && let Some(parent) = self.container()
        {
            parent.detach(&node);
        }
        drop(state);
        Ok(chardev)
    }

    /// All chardevs, oldest first.
    pub fn list(&self) -> Vec<Arc<Chardev>> {
        self.lock().entries.iter().map(|entry| entry.chardev.clone()).collect()
    }

    /// All chardevs, in the order of `query-chardev`: the reverse of the table's that QEMU keeps them in.
    pub fn in_query_order(&self) -> Vec<Arc<Chardev>> {
        let state = self.lock();
        let by_id: HashMap<&str, &Arc<Chardev>> =
            state.entries.iter().map(|entry| (entry.chardev.id(), &entry.chardev)).collect();
        state.order.iter().rev().filter_map(|id| by_id.get(&**id)).map(|chardev| (*chardev).clone()).collect()
    }

    /// To be called once, when the plane is built: from now on chardevs are seen in the object tree.
    pub(crate) fn connect(&self, objects: &Objects) {
        self.objects.get_or_init(|| objects.downgrade());
    }

    /// What chardevs stand in.
    fn container(&self) -> Option<Arc<Node>> {
        self.objects.get().and_then(WeakObjects::upgrade)?.find("/chardevs")
    }

    fn show(&self, chardev: &Arc<Chardev>) -> Option<Arc<Node>> {
        let objects = self.objects.get().and_then(WeakObjects::upgrade)?;
        let parent = self.container()?;
        let shown = if chardev.is_socket() {
            objects.attach_node(&parent, chardev.id(), "chardev-socket", Arc::new(SocketObject::new(chardev)))
        } else {
            let kind = format!("chardev-{}", chardev.kind());
            objects.attach_node(&parent, chardev.id(), &kind, Arc::new(OtherObject))
        };
        let untold = |error| {
            tracing::warn!(chardev = chardev.id(), "it does not stand in the object tree: {error}");
        };
        shown.map_err(untold).ok()
    }

    /// Lets all go, and takes no more.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.order = NameTable::new();
        let entries = std::mem::take(&mut state.entries);
        drop(state);
        drop(entries);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn find(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.chardev.id() == id)
    }
}

/// The right to wait for a client; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct WaitTurn<'a>(&'a Chardevs);

impl Drop for WaitTurn<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting = false;
    }
}

/// An id that nobody else can take. Dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    chardevs: &'a Chardevs,
    id: Arc<str>,
}

impl Reservation<'_> {
    /// Registers the chardev, which must have been opened under this id.
    pub(crate) fn fill(self, chardev: Arc<Chardev>) -> Result<Presence, ChardevError> {
        let (present, presence) = watch::channel(());
        let mut state = self.chardevs.lock();
        if state.closed {
            return Err(ChardevError::Closed);
        }
        state.order.insert(self.id.clone());
        let node = self.chardevs.show(&chardev);
        state.entries.push(Entry { chardev, node, _present: present });
        Ok(Presence(presence))
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.chardevs.lock().reserved.retain(|id| !Arc::ptr_eq(id, &self.id));
    }
}

#[cfg(test)]
mod tests {
    use chardev::Backend;

    use super::*;

    async fn null(id: &str) -> Arc<Chardev> {
        Arc::new(Chardev::open(id, Backend::Null, 1).await.unwrap())
    }

    #[tokio::test]
    async fn by_id() {
        let chardevs = Chardevs::default();
        let a = null("a").await;
        chardevs.insert(a.clone()).unwrap();
        chardevs.ensure(&a).unwrap();
        let exists = Err(ChardevError::Exists("a".into()));
        assert_eq!(chardevs.insert(null("a").await), exists);
        assert_eq!(chardevs.ensure(&null("a").await), exists);
        assert!(Arc::ptr_eq(&chardevs.get("a").unwrap(), &a));
        assert!(chardevs.get("b").is_none());
        assert_eq!(chardevs.remove("b").unwrap_err().to_string(), "Chardev 'b' not found");
        let front_end = a.front_end(1).unwrap();
        assert_eq!(chardevs.remove("a").unwrap_err().to_string(), "Chardev 'a' is busy");
        drop(front_end);
        chardevs.remove("a").unwrap();
        assert!(a.front_end(1).is_err(), "what has been removed is not taken any more");
        chardevs.insert(null("a").await).unwrap();
    }

    #[tokio::test]
    async fn a_reservation_keeps_its_id() {
        let chardevs = Chardevs::default();
        let reservation = chardevs.reserve("a", 1).unwrap();
        assert!(chardevs.get("a").is_none() && chardevs.list().is_empty());
        assert!(matches!(chardevs.reserve("a", 1), Err(ChardevError::Exists(_))));
        assert!(matches!(chardevs.reserve("b", 1), Err(ChardevError::TooMany(1))));
        drop(reservation);
        let presence = chardevs.reserve("a", 1).unwrap().fill(null("a").await).unwrap();
        assert!(matches!(chardevs.reserve("b", 1), Err(ChardevError::TooMany(1))));
        chardevs.insert(null("b").await).unwrap(); // the program's own
        chardevs.remove("a").unwrap();
        presence.ended().await;
    }

    #[tokio::test]
    async fn listed_as_qemu_lists_them() {
        let chardevs = Chardevs::default();
        // Recorded from QEMU 7.2, with these options in this order.
        for id in
            ["compat_monitor0", "compat_monitor1", "compat_monitor2", "cl", "nul", "sk", "tcp", "fi", "nn"]
        {
            chardevs.insert(null(id).await).unwrap();
        }
        let ids: Vec<_> = chardevs.in_query_order().iter().map(|found| found.id().to_owned()).collect();
        let recorded =
            ["nul", "sk", "fi", "tcp", "cl", "compat_monitor1", "nn", "compat_monitor2", "compat_monitor0"];
        let sorted = |ids: &[&str]| ids.iter().filter(|id| **id != "compat_monitor0").count();
        assert_eq!(sorted(&recorded), 8);
        let ids: Vec<_> = ids.iter().map(String::as_str).filter(|id| *id != "compat_monitor0").collect();
        assert_eq!(ids, recorded[..8]);
        let oldest: Vec<_> = chardevs.list().iter().take(4).map(|found| found.id().to_owned()).collect();
        assert_eq!(oldest, ["compat_monitor0", "compat_monitor1", "compat_monitor2", "cl"]);
    }

    #[tokio::test]
    async fn closed_is_closed() {
        let chardevs = Chardevs::default();
        let presence = chardevs.reserve("a", 2).unwrap().fill(null("a").await).unwrap();
        let reservation = chardevs.reserve("b", 2).unwrap();
        chardevs.close();
        presence.ended().await;
        assert!(chardevs.list().is_empty() && chardevs.in_query_order().is_empty());
        assert_eq!(reservation.fill(null("b").await).unwrap_err(), ChardevError::Closed);
        assert_eq!(chardevs.insert(null("c").await), Err(ChardevError::Closed));
    }
}
