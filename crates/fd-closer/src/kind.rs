//! Which descriptors can be closed without waiting for anybody.

use std::os::fd::BorrowedFd;

use rustix::fs::{FileType, fstat, fstatfs, major};

/// Magic numbers of file systems whose close neither talks to anybody nor waits for a device (from `statfs(2)`).
const LOCAL: [u64; 8] = [
    0x0102_1994, // tmpfs, memfd
    0x9584_58f6, // hugetlbfs
    0x0000_ef53, // ext2, ext3, ext4
    0x5846_5342, // xfs
    0x9123_683e, // btrfs
    0x794c_7630, // overlayfs
    0x0904_1934, // anonymous inodes: eventfd, epoll, timerfd, ...
    0x5049_5045, // pipefs
];

/// The major number of /dev/null, /dev/zero, /dev/random and their like.
const MEMORY_DEVICES: u32 = 1;

/// Whether closing it can take as long as whoever made it likes. When in doubt, it can.
pub(crate) fn close_may_block(fd: BorrowedFd<'_>) -> bool {
    let Ok(stat) = fstat(fd) else { return true };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => false,
        // A TCP socket may linger. A unix socket that nobody reads may have one in its queue, which dies with it.
        FileType::Socket => true,
        FileType::CharacterDevice => major(stat.st_rdev) != MEMORY_DEVICES,
        // What has no file type is an anonymous inode.
        FileType::RegularFile | FileType::Directory | FileType::Unknown => !is_local(fd),
        _ => true,
    }
}

fn is_local(fd: BorrowedFd<'_>) -> bool {
    // The field's type differs between architectures; the magic numbers fit 32 bits.
    fstatfs(fd).is_ok_and(|fs| LOCAL.contains(&(fs.f_type.cast_unsigned() & 0xffff_ffff)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_clients_usually_pass_is_closed_at_once() {
        let (reader, _writer) = std::io::pipe().unwrap();
        let null = std::fs::File::open("/dev/null").unwrap();
        let memfd = rustix::fs::memfd_create("x", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let eventfd = rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap();
        for fd in [reader.as_fd(), null.as_fd(), memfd.as_fd(), eventfd.as_fd()] {
            assert!(!close_may_block(fd), "{fd:?}");
        }
    }

    #[test]
    fn a_socket_may_linger() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(close_may_block(listener.as_fd()));
        let (socket, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(close_may_block(socket.as_fd()));
    }

    #[test]
    fn what_is_not_known_may_block() {
        let proc = std::fs::File::open("/proc/self/status").unwrap();
        assert!(close_may_block(proc.as_fd()));
    }
}
