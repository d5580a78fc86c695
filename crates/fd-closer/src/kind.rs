//! Which descriptors can be closed without waiting for anybody.
//!
//! Those of memory devices, as which most descriptors come that nobody wants. A pipe's cannot: whoever has its other end may hold
//! its lock, in a call that moves bytes from memory which arrives late, for as long as he likes.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

/// The major number of /dev/null, /dev/zero, /dev/random and their like.
const MEMORY_DEVICES: u32 = 1;

/// Whether a close waits for nobody. All else may linger, wait for a lock, or ask a file system in user space, a server, a device.
/// Its file system, which may be one that never answers, is not asked.
pub(crate) fn is_quick(fd: BorrowedFd<'_>) -> bool {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(fd, c"", flags, StatxFlags::TYPE) else { return false };
    let kind = FileType::from_raw_mode(stat.stx_mode.into());
    kind == FileType::CharacterDevice && stat.stx_rdev_major == MEMORY_DEVICES
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn the_null_device_is_quick() {
        assert!(is_quick(std::fs::File::open("/dev/null").unwrap().as_fd()));
    }

    #[test]
    fn anything_else_may_take_its_time() {
        let (reader, writer) = std::io::pipe().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        let memfd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        let ends = [reader.as_fd(), writer.as_fd()];
        let others = [proc.as_fd(), memfd.as_fd(), eventfd.as_fd(), listener.as_fd(), socket.as_fd()];
        assert!(!ends.into_iter().chain(others).any(is_quick));
    }
}
