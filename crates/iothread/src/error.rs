//! What can go wrong. Texts that a QMP client sees are QEMU 7.2's.

use std::io;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A property was given a negative value. It is not stored.
    #[error("{property} value must be in range [0, 9223372036854775807]")]
    Range {
        /// The property's name.
        property: &'static str,
    },

    /// `thread-pool-min` is above `thread-pool-max`, the latter is zero, or one is above 2147483647. The values are
    /// stored all the same, as in QEMU.
    #[error("bad thread-pool-min/thread-pool-max values")]
    ThreadPool,

    /// iothreads have no such property.
    #[error("Property 'iothread.{name}' not found")]
    UnknownProperty {
        /// The name as given.
        name: String,
    },

    /// There is an iothread of that id already.
    #[error("attempt to add duplicate property '{id}' to object (type 'container')")]
    Duplicate {
        /// The id as given.
        id: String,
    },

    /// There is no iothread of that id.
    #[error("object '{id}' not found")]
    NotFound {
        /// The id as given.
        id: String,
    },

    /// Somebody holds a reference to the iothread.
    #[error("object '{id}' is in use, can not be deleted")]
    InUse {
        /// The id as given.
        id: String,
    },

    /// Their plane has ended: [`IoThreads::close`](crate::IoThreads::close).
    #[error("the control plane is closed")]
    Closed,

    /// The thread has ended or is about to.
    #[error("the iothread has stopped")]
    Stopped,

    /// The hook that runs as the thread starts has panicked.
    #[error("the iothread's start hook panicked")]
    Hook,

    /// A thread's name holds a NUL character.
    #[error("a thread's name cannot hold a NUL character")]
    Name,

    /// The thread, its epoll instance or its eventfd could not be made.
    #[error("cannot start the iothread")]
    Start(#[source] io::Error),

    /// The thread cannot be kept to the CPUs that were given. Where it may run has not changed. (What QEMU says for its
    /// thread contexts, and then which.)
    #[error("Setting CPU affinity failed: not possible on CPU {}", list(.cpus))]
    Affinity {
        /// Those on which it cannot run: the host has none of that number, or keeps this process away from it.
        cpus: Vec<u16>,
        /// `EINVAL`, or `EPERM` if the system forbids the change.
        source: io::Error,
    },

    /// The descriptor cannot be watched: `EPERM` for a regular file, `EEXIST` if this iothread watches it already.
    #[error("cannot watch the file descriptor")]
    Watch(#[source] io::Error),
}

fn list(cpus: &[u16]) -> String {
    cpus.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
