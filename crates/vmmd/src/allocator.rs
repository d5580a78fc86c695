//! The allocator of the C library: what is large goes back to the system when it is freed.

#![cfg_attr(
    target_env = "gnu",
    expect(unsafe_code, reason = "the C library's allocator has no safe way to be set up")
)]

/// From so many bytes on memory is mapped for itself. With 128 KiB, glibc's own beginning, buffers that grow and go cost half as much time
/// again (a person's line of 4,000 keys, whose echo is long); with 4 MiB, clients that never read left 200 MiB.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 1 << 20;

/// To be called before anything is allocated that is large. By itself glibc takes what was freed for a sign of how large the pieces
/// are that a program uses, and keeps as much: what clients do not read, and take with them, would stay for good.
pub fn set_up() {
    #[cfg(target_env = "gnu")]
    for threshold in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: it takes two numbers, and a lock of its own. It refuses numbers that it does not know.
        unsafe { libc::mallopt(threshold, LARGE) };
    }
}
