//! The properties of an iothread: QEMU 7.2's names, defaults, ranges and errors.
//!
//! A negative value is refused and not stored. The relation of `thread-pool-min` to `thread-pool-max` is another
//! matter: it is looked at when a thread is started and, at run time, after `thread-pool-*` or `aio-max-batch` was
//! *stored*, so a value that it refuses is what a later read gives, and a bad pair makes the setting of
//! `aio-max-batch` fail as well (recorded from 7.2.22).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;
use crate::adaptive::Limits;

/// The properties' names, in the order in which QEMU lists them.
pub const NAMES: [&str; 6] =
    ["poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch", "thread-pool-min", "thread-pool-max"];

const POLL_MAX_NS: usize = 0;
const POLL_GROW: usize = 1;
const POLL_SHRINK: usize = 2;
const THREAD_POOL_MIN: usize = 4;
const THREAD_POOL_MAX: usize = 5;

/// The values of all properties of one iothread, each in `0..=i64::MAX`.
///
/// | name | default | meaning |
/// |---|---|---|
/// | `poll-max-ns` | 32768 | longest busy polling before a wait, in nanoseconds; 0: none |
/// | `poll-grow` | 0 | factor by which polling grows; 0: the default factor, 2 |
/// | `poll-shrink` | 0 | divisor by which it shrinks; 0: back to nothing |
/// | `aio-max-batch` | 0 | requests submitted at once; 0: the engine's default |
/// | `thread-pool-min` | 0 | worker threads kept |
/// | `thread-pool-max` | 64 | worker threads at most |
///
/// The `poll-*` ones steer adaptive polling of handlers that were added with a hook ([`Handle::add_polled`]); the other
/// three are kept, checked and given back.
///
/// [`Handle::add_polled`]: crate::Handle::add_polled
///
/// ```
/// let mut properties = iothread::Properties::default();
/// properties.set("poll-max-ns", 0)?;
/// assert_eq!(properties.get("poll-max-ns")?, 0);
/// # Ok::<(), iothread::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Properties([i64; NAMES.len()]);

impl Default for Properties {
    fn default() -> Self {
        Self([32768, 0, 0, 0, 0, 64])
    }
}

impl Properties {
    /// The value of a property.
    ///
    /// # Errors
    /// [`Error::UnknownProperty`].
    pub fn get(&self, name: &str) -> Result<i64, Error> {
        index(name).map(|index| self.0[index])
    }

    /// Stores a value. That of the thread pool's bounds is checked by [`Properties::check`], not here.
    ///
    /// # Errors
    /// [`Error::UnknownProperty`], and [`Error::Range`] for a negative value.
    pub fn set(&mut self, name: &str, value: i64) -> Result<(), Error> {
        let index = index(name)?;
        if value < 0 {
            return Err(Error::Range { property: NAMES[index] });
        }
        self.0[index] = value;
        Ok(())
    }

    /// Checks the bounds of the thread pool against each other.
    ///
    /// # Errors
    /// [`Error::ThreadPool`] if min > max, max is 0, or either is above 2147483647.
    pub fn check(&self) -> Result<(), Error> {
        let (min, max) = (self.0[THREAD_POOL_MIN], self.0[THREAD_POOL_MAX]);
        if min > max || max == 0 || max > i64::from(i32::MAX) { Err(Error::ThreadPool) } else { Ok(()) }
    }

    /// [`Properties::set`], then [`Properties::check`] where QEMU does so for a thread that runs.
    pub(crate) fn set_running(&mut self, name: &str, value: i64) -> Result<(), Error> {
        self.set(name, value)?;
        if name.starts_with("poll-") { Ok(()) } else { self.check() }
    }
}

/// The polling properties as the thread reads them: without a lock, and with a version that says when to look again.
#[derive(Debug)]
pub(crate) struct PollSettings {
    max_ns: AtomicU64,
    grow: AtomicU64,
    shrink: AtomicU64,
    version: AtomicU64,
}

impl PollSettings {
    pub(crate) fn new(properties: &Properties) -> Self {
        let value = |index: usize| AtomicU64::new(properties.0[index].unsigned_abs());
        Self {
            max_ns: value(POLL_MAX_NS),
            grow: value(POLL_GROW),
            shrink: value(POLL_SHRINK),
            version: AtomicU64::new(0),
        }
    }

    /// Takes over what was set. Called by one thread at a time.
    pub(crate) fn store(&self, properties: &Properties) {
        let set = |place: &AtomicU64, index: usize| {
            place.store(properties.0[index].unsigned_abs(), Ordering::Relaxed);
        };
        set(&self.max_ns, POLL_MAX_NS);
        set(&self.grow, POLL_GROW);
        set(&self.shrink, POLL_SHRINK);
        // Whoever sees the new version sees the values; whoever has read some of them early reads them again.
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Changes with every [`PollSettings::store`]. To be read before [`PollSettings::limits`].
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits {
            max_ns: self.max_ns.load(Ordering::Relaxed),
            grow: self.grow.load(Ordering::Relaxed),
            shrink: self.shrink.load(Ordering::Relaxed),
        }
    }
}

fn index(name: &str) -> Result<usize, Error> {
    NAMES
        .iter()
        .position(|known| *known == name)
        .ok_or_else(|| Error::UnknownProperty { name: name.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_pair_stays_stored() {
        let mut properties = Properties::default();
        let error = properties.set_running("thread-pool-min", 65).unwrap_err();
        assert_eq!(error.to_string(), "bad thread-pool-min/thread-pool-max values");
        assert_eq!(properties.get("thread-pool-min").unwrap(), 65);
        assert!(matches!(properties.set_running("aio-max-batch", 7), Err(Error::ThreadPool)));
        assert_eq!(properties.get("aio-max-batch").unwrap(), 7);
        properties.set_running("poll-max-ns", 5).unwrap();
        properties.set_running("thread-pool-max", 100).unwrap();
        assert!(properties.set_running("thread-pool-max", 0).is_err());
        assert!(properties.set_running("thread-pool-max", 1 << 31).is_err());
        properties.set_running("thread-pool-max", (1 << 31) - 1).unwrap();
    }

    #[test]
    fn errors_have_qemus_texts() {
        let mut properties = Properties::default();
        for name in NAMES {
            let error = properties.set(name, -1).unwrap_err();
            assert_eq!(error.to_string(), format!("{name} value must be in range [0, 9223372036854775807]"));
            properties.set(name, i64::MAX).unwrap();
        }
        assert_eq!(properties.get("nope").unwrap_err().to_string(), "Property 'iothread.nope' not found");
    }
}
