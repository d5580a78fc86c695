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
        self.apply(&chosen)?;
        self.chosen = chosen;
        Ok(())
    }

    fn apply(&self, cpus: &[u16]) -> Result<(), Error> {
        let failed = |source: io::Errno| Error::Affinity { cpus: cpus.to_vec(), source: source.into() };
        let set = |cpus: &CpuSet| sched_setaffinity(self.thread, cpus).map_err(failed);
        let get = || sched_getaffinity(self.thread).map_err(failed);
        if cpus.is_empty() {
            return set(&self.host.ok_or_else(|| failed(io::Errno::OPNOTSUPP))?);
        }
        let fits = |cpu: &u16| usize::from(*cpu) < CpuSet::MAX_CPU;
        let mut wanted = CpuSet::new();
        for cpu in cpus.iter().filter(|cpu| fits(cpu)) {
            wanted.set(usize::from(*cpu));
        }
        let before = get()?;
        set(&wanted)?;
        let now = get()?;
        let runs_on = |cpu: &u16| fits(cpu) && now.is_set(usize::from(*cpu));
        let missing: Vec<u16> = cpus.iter().copied().filter(|cpu| !runs_on(cpu)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        set(&before)?;
        Err(Error::Affinity { cpus: missing, source: io::Errno::INVAL.into() })
    }
}
