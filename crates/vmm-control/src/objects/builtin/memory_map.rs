//! Mapping a guest's memory. Raw mappings: nothing here reads or writes what is mapped.

use chardev::reason;
use memmap2::{Advice, MmapOptions, MmapRaw};
use qmp_command::{CommandError, CommandResult};
use rustix::fs::{MemfdFlags, SealFlags};
use thread_start::{Starter, ThreadKind};

use super::memory::MemoryBackendProperties;

/// A file descriptor's part of a memfd's properties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Memfd {
    pub(super) hugetlb: bool,
    pub(super) hugetlbsize: u64,
    pub(super) seal: bool,
}

/// The mapped memory.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) map: MmapRaw,
    pub(super) file: Option<std::fs::File>,
}

/// A length that can be mapped at all, or the error that the system has for others.
fn length(size: u64) -> std::io::Result<usize> {
    let size = usize::try_from(size).ok().filter(|size| isize::try_from(*size).is_ok());
    size.ok_or_else(|| rustix::io::Errno::NOMEM.into())
}

pub(super) fn map_ram(
    id: &str,
    properties: &MemoryBackendProperties,
    starter: &Starter,
) -> CommandResult<Memory> {
    let fail = |error: std::io::Error| {
        CommandError::generic(format!("cannot set up guest memory '{id}': {}", reason(&error)))
    };
    let mut options = MmapOptions::new();
    options.len(length(properties.size).map_err(fail)?);
    if properties.reserve == Some(false) {
        options.no_reserve_swap();
    }
    if properties.share == Some(true) {
        // What is shared must have a file behind it.
        let file = rustix::fs::memfd_create("memory-backend-ram", MemfdFlags::CLOEXEC);
        let file = file.and_then(|file| rustix::fs::ftruncate(&file, properties.size).map(|()| file));
        let file = std::fs::File::from(file.map_err(|error| fail(error.into()))?);
        let map = options.map_raw(&file).map_err(fail)?;
        return prepare(Memory { map, file: Some(file) }, properties, starter);
    }
    let map = options.map_anon().map_err(fail)?;
    prepare(Memory { map: map.into(), file: None }, properties, starter)
}

pub(super) fn map_memfd(
    memfd: Memfd,
    properties: &MemoryBackendProperties,
    starter: &Starter,
) -> CommandResult<Memory> {
    let size = properties.size;
    let fail =
        |what: &str, error: std::io::Error| CommandError::generic(format!("{what}: {}", reason(&error)));
    if memfd.hugetlb && memfd.hugetlbsize != 0 && !memfd.hugetlbsize.is_power_of_two() {
        return Err(CommandError::generic("Hugepage size must be a power of 2"));
    }
    let file = create_memfd(memfd).map_err(|error| fail("failed to create memfd", error.into()))?;
    let resized = rustix::fs::ftruncate(&file, size);
    resized.map_err(|error| fail(&format!("failed to resize memfd to {size}"), error.into()))?;
    if memfd.seal {
        let seals = SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)
            .map_err(|error| fail("failed to seal memfd", error.into()))?;
    }
    let page = u64::try_from(rustix::param::page_size()).unwrap_or(4096);
    let whole = size.checked_next_multiple_of(page).unwrap_or(size);
    if whole != size {
        return Err(CommandError::generic(format!(
            "backing store size {size:#x} does not match 'size' option {whole:#x}"
        )));
    }
    let file = std::fs::File::from(file);
    let unmappable = |error| fail("unable to map backing store for guest RAM", error);
    let mut options = MmapOptions::new();
    options.len(length(size).map_err(unmappable)?);
    if properties.reserve == Some(false) {
        options.no_reserve_swap();
    }
    let map = options.map_raw(&file).map_err(unmappable)?;
    prepare(Memory { map, file: Some(file) }, properties, starter)
}

fn create_memfd(memfd: Memfd) -> Result<std::os::fd::OwnedFd, rustix::io::Errno> {
    let mut flags = MemfdFlags::CLOEXEC;
    if memfd.seal {
        flags |= MemfdFlags::ALLOW_SEALING;
    }
    if memfd.hugetlb {
        flags |= MemfdFlags::HUGETLB;
        if memfd.hugetlbsize != 0 {
            // The kernel takes the page size's logarithm in the upper bits.
            flags |= MemfdFlags::from_bits_retain(memfd.hugetlbsize.trailing_zeros() << 26);
        }
    }
    rustix::fs::memfd_create("memory-backend-memfd", flags)
}

/// Does what the properties say of the pages.
fn prepare(memory: Memory, properties: &MemoryBackendProperties, starter: &Starter) -> CommandResult<Memory> {
    let map = &memory.map;
    if properties.merge == Some(true) {
        // A kernel without it merges nothing.
        let _ = map.advise(Advice::Mergeable);
    }
    if properties.dump == Some(false) {
        let _ = map.advise(Advice::DontDump);
    }
    if properties.prealloc == Some(true) {
        populate(map, properties.prealloc_threads.unwrap_or(1), starter)
            .map_err(|error| cannot_preallocate(&error))?;
    }
    Ok(memory)
}

pub(super) fn cannot_preallocate(error: &std::io::Error) -> CommandError {
    CommandError::generic(format!("cannot preallocate memory: {}", reason(error)))
}

/// What the system could give without ending anybody for it, in bytes. `None` where it does not say.
fn available() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
}

/// Makes all pages, in parts by several threads: no more than there are processors.
pub(super) fn populate(map: &MmapRaw, threads: u32, starter: &Starter) -> std::io::Result<()> {
    // More than there is would not fail: it would end this process, or another.
    let len = u64::try_from(map.len()).unwrap_or(u64::MAX);
    if available().is_some_and(|available| len > available) {
        return Err(rustix::io::Errno::NOMEM.into());
    }
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let threads = usize::try_from(threads).unwrap_or(processors).clamp(1, processors);
    let page = rustix::param::page_size();
    let part = map.len().div_ceil(threads).next_multiple_of(page);
    std::thread::scope(|scope| {
        let start = |from: usize| {
            let len = part.min(map.len() - from);
            let body = move || map.advise_range(Advice::PopulateWrite, from, len);
            starter.start_scoped(scope, ThreadKind::Helper, "prealloc", body)
        };
        let parts: Vec<_> = (0..map.len()).step_by(part).map(start).collect();
        parts.into_iter().try_for_each(|started| {
            let joined = started?.join();
            joined.unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")))
        })
    })
}
