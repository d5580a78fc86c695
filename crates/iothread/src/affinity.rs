//! Which CPUs a thread may run on.
//!
//! The kernel takes a set of which it can use a part and forgets the rest. Here such a set is refused, and the thread
//! stays where it was.

use rustix::io;
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

use crate::Error;

/// A thread, and where the host put it.
#[derive(Debug)]
pub(crate) struct Affinity {
    thread: Option<Pid>,
    /// Where it may run if nothing is said. `None` if the kernel does not tell.
    host: Option<CpuSet>,
    /// Ascending, each once; empty: as the host put it.
    chosen: Vec<u16>,
}

impl Affinity {
    /// Of a thread that runs and whose affinity nobody has set here yet.
    pub(crate) fn of(thread_id: i32) -> Self {
        let thread = Pid::from_raw(thread_id);
        Self { thread, host: sched_getaffinity(thread).ok(), chosen: Vec::new() }
    }

    pub(crate) fn chosen(&self) -> Vec<u16> {
        self.chosen.clone()
    }

    /// Lets the thread run on these CPUs only; on none: as the host put it. After an error nothing has changed.
    pub(crate) fn set(&mut self, cpus: &[u16]) -> Result<(), Error> {
        let mut chosen = cpus.to_vec();
        chosen.sort_unstable();
        chosen.dedup();
        if chosen.is_empty() && self.chosen.is_empty() {
            return Ok(());
        }
        self.apply(&chosen)
            .map_err(|source| Error::Affinity { cpus: chosen.clone(), source: source.into() })?;
        self.chosen = chosen;
        Ok(())
    }

    fn apply(&self, cpus: &[u16]) -> io::Result<()> {
        if cpus.is_empty() {
            return sched_setaffinity(self.thread, &self.host.ok_or(io::Errno::OPNOTSUPP)?);
        }
        let mut wanted = CpuSet::new();
        for cpu in cpus {
            if usize::from(*cpu) >= CpuSet::MAX_CPU {
                return Err(io::Errno::INVAL);
            }
            wanted.set(usize::from(*cpu));
        }
        let before = sched_getaffinity(self.thread)?;
        sched_setaffinity(self.thread, &wanted)?;
        if sched_getaffinity(self.thread)? == wanted {
            return Ok(());
        }
        sched_setaffinity(self.thread, &before)?;
        Err(io::Errno::INVAL)
    }
}
