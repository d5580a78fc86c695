//! The client's eventfds: what is one, and how one is read.

use std::ffi::CStr;
use std::io::{IoSliceMut, Write};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, CWD, StatxFlags, readlinkat_raw, statx};
use rustix::io::{ReadWriteFlags, preadv2, read};

use super::signal::Signaller;

/// The bits of a file's mode that tell its type: none are set for an eventfd.
const TYPE: u16 = 0o170_000;

/// Whether a descriptor is an eventfd. The kernel knows; where it cannot be asked, /proc does; and without that, any
/// descriptor without a type will do, such as a timer's: a write to it is an error, but does not wait.
pub(crate) fn is_eventfd(signaller: &Signaller, fd: BorrowedFd<'_>) -> bool {
    signaller.is_eventfd(fd).unwrap_or_else(|| is_named_so(fd))
}

/// The answer of /proc.
fn is_named_so(fd: BorrowedFd<'_>) -> bool {
    // A file system in user space is not asked.
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    if !statx(fd, c"", flags, StatxFlags::TYPE).is_ok_and(|stat| stat.stx_mode & TYPE == 0) {
        return false;
    }
    let mut path = [0_u8; 32];
    // Fits, with its end: the number has at most ten digits.
    let _ = write!(&mut path[..31], "/proc/self/fd/{}", fd.as_raw_fd());
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return false };
    let mut name = [0_u8; 64];
    match readlinkat_raw(CWD, path, &mut name[..]) {
        Ok(length) => name.get(..length) == Some(b"anon_inode:[eventfd]"),
        Err(_) => true,
    }
}

/// Sets an eventfd's counter to 0 and gives what it was, without waiting for it to be anything else: somebody may have been
/// faster, and may have made it a blocking one.
pub(crate) fn take(fd: BorrowedFd<'_>) -> u64 {
    let mut count = [0; 8];
    // No offset: an eventfd has no position.
    let read_now = preadv2(fd, &mut [IoSliceMut::new(&mut count)], u64::MAX, ReadWriteFlags::NOWAIT);
    let read_now = match read_now {
        // Kernels before 5.8. A client that takes the count between these two makes us wait for its next.
        Err(rustix::io::Errno::OPNOTSUPP) if is_readable(fd) => read(fd, &mut count),
        other => other,
    };
    if read_now == Ok(8) { u64::from_ne_bytes(count) } else { 0 }
}

fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut set = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use std::os::fd::{AsFd, OwnedFd};

    fn strangers() -> Vec<(&'static str, OwnedFd)> {
        let (reader, writer) = std::io::pipe().unwrap();
        let (socket, _) = std::os::unix::net::UnixStream::pair().unwrap();
        let epoll = rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = rustix::time::TimerfdFlags::CLOEXEC;
        let timer = rustix::time::timerfd_create(rustix::time::TimerfdClockId::Monotonic, flags).unwrap();
        vec![
            ("pipe", reader.into()),
            ("pipe's writer", writer.into()),
            ("socket", socket.into()),
            ("epoll", epoll),
            ("timer", timer),
            ("file", tempfile::tempfile().unwrap().into()),
            ("null device", std::fs::File::open("/dev/null").unwrap().into()),
            ("directory", std::fs::File::open("/").unwrap().into()),
        ]
    }

    #[test]
    fn only_eventfds_are_eventfds_by_either_way() {
        let mut asks_kernel = Signaller::default();
        asks_kernel.prepare();
        let asks_proc = Signaller::without_aio();
        let real = eventfd(7, EventfdFlags::CLOEXEC).unwrap();
        for signaller in [&asks_kernel, &asks_proc] {
            assert!(is_eventfd(signaller, real.as_fd()));
            for (name, fd) in strangers() {
                assert!(!is_eventfd(signaller, fd.as_fd()), "{name}");
            }
        }
        let mut count = [0; 8];
        read(&real, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 7, "looking at it does not signal it");
    }

    #[test]
    fn an_empty_blocking_eventfd_is_drained_without_waiting() {
        let fd = eventfd(3, EventfdFlags::CLOEXEC).unwrap();
        assert_eq!([take(fd.as_fd()), take(fd.as_fd())], [3, 0]);
        let mut set = [PollFd::new(&fd, PollFlags::IN)];
        assert_eq!(poll(&mut set, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap(), 0);
    }
}
