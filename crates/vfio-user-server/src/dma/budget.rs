//! How much of this process's address space clients may fill, all of them together.
//!
//! A process may have 65530 mappings (vm.max_map_count) of 128 TiB in all. Its allocator needs mappings too, and the process
//! ends when it gets none. So mappings of client memory stop well before; further maps are reached in another way.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Mappings at once, a quarter of the kernel's default limit.
const MAX_MAPPINGS: usize = 16384;
/// Mappings of one table, so that many clients must be hostile before others notice. QEMU and Cloud Hypervisor need a few
/// dozen.
pub(super) const MAX_TABLE_MAPPINGS: usize = 1024;
/// Bytes at once: half of what there is.
const MAX_BYTES: u64 = 1 << (if cfg!(target_pointer_width = "64") { 46 } else { 30 });

static MAPPINGS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

/// The right to one mapping. Given back by its drop.
#[derive(Debug)]
pub(super) struct Share {
    bytes: u64,
}

impl Share {
    /// `None` if there is no more to be had.
    pub(super) fn take(bytes: u64) -> Option<Self> {
        let add = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= MAX_BYTES);
        BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok()?;
        let one = |used: usize| (used < MAX_MAPPINGS).then(|| used + 1);
        if MAPPINGS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one).is_err() {
            BYTES.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self { bytes })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        MAPPINGS.fetch_sub(1, Ordering::Relaxed);
        BYTES.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_more_than_there_is() {
        assert!(Share::take(MAX_BYTES + 1).is_none() && Share::take(u64::MAX).is_none());
        let share = Share::take(4096).unwrap();
        assert!(Share::take(MAX_BYTES).is_none());
        drop(share);
    }
}
