//! Iothreads by id, and who uses them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::{Error, IoThread, Properties, Stats};

/// The iothreads of one control plane. To be shared in an `Arc`; there is no global one.
///
/// ```
/// use iothread::{Error, IoThread, IoThreads};
///
/// let iothreads = IoThreads::new();
/// iothreads.add("io0", IoThread::builder("IO io0"))?;
/// let user = iothreads.get("io0").expect("it was just added");
/// assert!(matches!(iothreads.remove("io0"), Err(Error::InUse { .. })));
/// drop(user);
/// drop(iothreads.remove("io0")?);
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Default)]
pub struct IoThreads {
    /// The map holds one reference of each, every [`IoThreadRef`] another: their count says whether one is in use.
    /// New ones are made from the map's only, under its lock, so a count of one that is seen under the lock for
    /// writing stays.
    threads: DashMap<String, Arc<IoThread>>,
    /// Set before the last ones are taken out, and looked at under the lock of the place that a new one is to get: so it is
    /// either seen there or taken out too.
    closed: AtomicBool,
}

/// One iothread of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Info {
    /// Its id.
    pub id: String,
    /// Its Linux thread id.
    pub thread_id: i32,
    /// Its properties.
    pub properties: Properties,
    /// The CPUs that it is kept to; none: it runs where the host puts it.
    pub cpu_affinity: Vec<u16>,
    /// How many [`IoThreadRef`]s there are.
    pub users: usize,
    /// Its counters.
    pub stats: Stats,
}

impl IoThreads {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a thread under an id. The map is not locked while it starts.
    ///
    /// # Errors
    /// [`Error::Closed`]; those of [`Builder::start`](crate::Builder::start), then [`Error::Duplicate`].
    pub fn add(&self, id: &str, builder: crate::Builder) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // QEMU complains of the properties first, so nothing is saved by looking for the id before.
        let thread = builder.start()?;
        match self.threads.entry(id.to_owned()) {
            Entry::Vacant(place) if self.closed.load(Ordering::Acquire) => {
                // The lock first, as below.
                drop(place);
                Err(Error::Closed)
            }
            Entry::Vacant(place) => {
                place.insert(Arc::new(thread));
                Ok(())
            }
            Entry::Occupied(place) => {
                // The lock first: dropping the thread joins it.
                drop(place);
                Err(Error::Duplicate { id: id.to_owned() })
            }
        }
    }

    /// A reference to an iothread, which keeps it from being removed.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<IoThreadRef> {
        self.threads.get(id).map(|thread| IoThreadRef(Arc::clone(&thread)))
    }

    /// Looks at an iothread without counting as its user. `look` runs under the map's lock: it must be short and must
    /// not call the registry.
    pub fn with<R>(&self, id: &str, look: impl FnOnce(&IoThread) -> R) -> Option<R> {
        self.threads.get(id).map(|thread| look(&thread))
    }

    /// How many references to an iothread there are.
    #[must_use]
    pub fn users(&self, id: &str) -> Option<usize> {
        self.threads.get(id).map(|thread| Arc::strong_count(&thread) - 1)
    }

    /// Removes an iothread that nobody uses. It stops when the returned owner is dropped.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::InUse`].
    pub fn remove(&self, id: &str) -> Result<IoThread, Error> {
        match self.threads.entry(id.to_owned()) {
            Entry::Vacant(_) => Err(Error::NotFound { id: id.to_owned() }),
            Entry::Occupied(place) if Arc::strong_count(place.get()) > 1 => {
                Err(Error::InUse { id: id.to_owned() })
            }
            Entry::Occupied(place) => {
                // The only reference, so it cannot fail.
                Arc::into_inner(place.remove()).ok_or_else(|| Error::InUse { id: id.to_owned() })
            }
        }
    }

    /// Takes all of them out, for whoever stops them, and lets none be added any more. Each stops when the last reference to
    /// it is dropped, which waits for it.
    #[must_use = "dropping it waits for the threads"]
    pub fn close(&self) -> Vec<IoThreadRef> {
        self.closed.store(true, Ordering::Release);
        let ids: Vec<String> = self.threads.iter().map(|thread| thread.key().clone()).collect();
        ids.iter().filter_map(|id| self.threads.remove(id)).map(|(_, thread)| IoThreadRef(thread)).collect()
    }

    /// All of them, in the order of their ids.
    #[must_use]
    pub fn list(&self) -> Vec<Info> {
        let mut list: Vec<Info> = self
            .threads
            .iter()
            .map(|thread| Info {
                id: thread.key().clone(),
                thread_id: thread.thread_id(),
                properties: thread.properties(),
                cpu_affinity: thread.cpu_affinity(),
                users: Arc::strong_count(&thread) - 1,
                stats: thread.stats(),
            })
            .collect();
        list.sort_unstable_by(|a, b| a.id.cmp(&b.id));
        list
    }
}

/// A use of an iothread of an [`IoThreads`]: while there is one, the iothread is not removed.
///
/// A registry that is dropped leaves the threads that are in use to their last users.
#[derive(Clone)]
pub struct IoThreadRef(Arc<IoThread>);

impl Deref for IoThreadRef {
    type Target = IoThread;

    fn deref(&self) -> &IoThread {
        &self.0
    }
}

impl fmt::Debug for IoThreadRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("IoThreadRef").field(&self.0).finish()
    }
}
