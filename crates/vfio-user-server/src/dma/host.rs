//! What this host lets us do, found out once.

use std::sync::OnceLock;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::process::{Pid, Resource, getpid, getrlimit};

use crate::memory::Mapping;
use crate::sys::write_guarded;

/// The id of this process if [`write_guarded`] works in it: a seccomp filter may forbid it, a kernel may lack it.
pub(super) fn guarded_writes() -> Option<Pid> {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let own = getpid();
    let probe = || -> Option<()> {
        let file = memfd_create("probe", MemfdFlags::CLOEXEC).ok()?;
        ftruncate(&file, 1).ok()?;
        let mapping = Mapping::new(&file, 0, 1, true).ok()?;
        write_guarded(own, &mapping, 0, &[0x5A]).ok()?;
        let mut data = [0];
        (mapping.read(0, &mut data) && data == [0x5A]).then_some(())
    };
    WORKS.get_or_init(|| probe().is_some()).then_some(own)
}

/// Whether the host promises no more memory than it has (vm.overcommit_memory 2). Then even a sealed memfd may have no page to
/// give when one is touched for the first time, which would end this process. Taken to be so as long as it lives; not so,
/// as by default, if there is no /proc to ask.
pub(super) fn strict_overcommit() -> bool {
    static STRICT: OnceLock<bool> = OnceLock::new();
    *STRICT.get_or_init(|| {
        std::fs::read("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim_ascii() == b"2")
    })
}

/// Whether `pwrite` may reach this far into a file: beyond the process's limit it would be ended by `SIGXFSZ`.
pub(super) fn may_write_file_up_to(end: u64) -> bool {
    getrlimit(Resource::Fsize).current.is_none_or(|limit| end <= limit)
}
