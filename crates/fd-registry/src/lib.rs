//! File descriptors that management clients hand to a virtual machine, kept where its commands find them.
//!
//! Two stores, as QEMU has them:
//!
//! * [`FdSets`]: numbered sets, one list for the whole VMM (`add-fd`, `remove-fd`, `query-fdsets`). What takes a
//!   file name also takes `/dev/fdset/N` and gets a duplicate of the set's newest descriptor with the access mode
//!   it needs.
//! * [`NamedFds`]: descriptors by name (`getfd`, `closefd`), one store for each session or monitor.
//!
//! Invariants:
//!
//! * every descriptor has exactly one owner: the caller, a store, or a [`DupFd`];
//! * no descriptor is closed while a lock is held (a close can block: `SO_LINGER`, FUSE). Where even the caller must
//!   not block, [`FdSets::detach`] and [`NamedFds::drain`] hand the descriptors out to be closed elsewhere;
//! * nothing is global: every [`FdSets::new`] is a world of its own.
//!
//! The crate knows neither QMP nor an async runtime. All calls are short and may be made from any thread.
//!
//! ```
//! use std::os::fd::OwnedFd;
//!
//! use fd_registry::FdSets;
//! use rustix::fs::OFlags;
//!
//! let sets = FdSets::new();
//! let added = sets.add(None, Some("log".into()), OwnedFd::from(std::fs::File::open("/dev/null")?))?;
//! let dup = sets.open(&format!("/dev/fdset/{}", added.set), OFlags::RDONLY)?;
//! sets.remove(added.set, None)?;
//! assert!(sets.query()[0].fds.is_empty()); // the duplicate keeps its set
//! drop(dup);
//! assert!(sets.query().is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod dup;
mod error;
mod named;
mod room;
mod set;
mod sets;

pub use dup::DupFd;
pub use error::Error;
pub use named::NamedFds;
pub use room::Bound;
pub use sets::{Added, FdInfo, FdSetInfo, FdSets};
