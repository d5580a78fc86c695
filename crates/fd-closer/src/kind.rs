//! Which descriptors can be closed without waiting for anybody.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, FileType, StatxFlags, statx};

/// The major number of /dev/null, /dev/zero, /dev/random and their like.
const MEMORY_DEVICES: u32 = 1;

/// What a descriptor is, as far as closing it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its close waits for nobody.
    Quick,
    /// Anything else: its close may linger, or ask a file system in user space, a server, a device.
    Other,
}

/// Looks at a descriptor without asking its file system, which may be one that never answers.
pub(crate) fn of(fd: BorrowedFd<'_>) -> Kind {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    let Ok(stat) = statx(fd, c"", flags, StatxFlags::TYPE) else { return Kind::Other };
    match FileType::from_raw_mode(stat.stx_mode.into()) {
        FileType::Fifo => Kind::Quick,
        FileType::CharacterDevice if stat.stx_rdev_major == MEMORY_DEVICES => Kind::Quick,
        _ => Kind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn pipes_and_the_null_device_are_quick() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!((of(reader.as_fd()), of(null.as_fd())), (Kind::Quick, Kind::Quick));
    }

    #[test]
    fn anything_else_may_take_its_time() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        let memfd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        for fd in [proc.as_fd(), memfd.as_fd(), eventfd.as_fd(), listener.as_fd(), socket.as_fd()] {
            assert_eq!(of(fd), Kind::Other);
        }
    }
}
