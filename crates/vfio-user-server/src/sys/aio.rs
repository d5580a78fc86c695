//! Signals eventfds without ever waiting, through the kernel's asynchronous I/O.
//!
//! A write to an eventfd waits while its counter is full, if the descriptor is not set to `O_NONBLOCK`; and that flag, like
//! the counter, is shared with whoever has given the descriptor, who can change both between any check and the write.
//! An asynchronous read can name an eventfd that its completion signals (`IOCB_FLAG_RESFD`). The kernel does so with the
//! call that its drivers use: it never waits, and leaves a full counter full. So a read of no bytes, which completes
//! within its submission, is a signal. See io_submit(2), linux/aio_abi.h.
#![expect(unsafe_code, reason = "these system calls have no wrapper")]

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::Errno;

/// Completions that a context holds before they must be taken. The host's total is limited (fs.aio-max-nr, 65536).
const EVENTS: usize = 32;

const IOCB_CMD_PREAD: u16 = 0;
const IOCB_FLAG_RESFD: u32 = 1;
/// No flag of any kernel: a request with it is refused, but not before its eventfd was looked at.
const NO_SUCH_FLAG: u32 = 1 << 30;

/// A request, `struct iocb` of linux/aio_abi.h.
#[repr(C)]
#[derive(Default)]
struct Request {
    data: u64,
    #[cfg(target_endian = "little")]
    key: u32,
    rw_flags: u32,
    #[cfg(target_endian = "big")]
    key: u32,
    opcode: u16,
    priority: i16,
    file: u32,
    buffer: u64,
    length: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    eventfd: u32,
}

/// A completion, `struct io_event`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Completion {
    data: u64,
    object: u64,
    result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Request>() == 64 && size_of::<Completion>() == 32);

/// An asynchronous I/O context. Its drop takes the kernel some 30 ms, as it waits for all processors: not for an iothread.
#[derive(Debug)]
pub(crate) struct AioContext {
    id: libc::c_ulong,
    /// Completions that were not taken yet, at most [`EVENTS`].
    unread: usize,
}

impl AioContext {
    /// Makes one, and sees that it does what it is for. `source` is an empty file.
    ///
    /// # Errors
    /// `EAGAIN` if the host has no more of them, `ENOSYS` and `EPERM` if they are not to be had, `EOPNOTSUPP` if this
    /// kernel does something else.
    pub(crate) fn new(source: BorrowedFd<'_>) -> Result<Self, Errno> {
        let mut id: libc::c_ulong = 0;
        // SAFETY: the kernel writes the context's id to `id`, which has the type that it expects.
        let made = unsafe { libc::syscall(libc::SYS_io_setup, EVENTS, &raw mut id) };
        if made != 0 {
            return Err(last_error());
        }
        let mut context = Self { id, unread: 0 };
        let own = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let file = memfd_create("no-eventfd", MemfdFlags::CLOEXEC)?;
        let told_apart = context.is_eventfd(source, own.as_fd()) && !context.is_eventfd(source, file.as_fd());
        context.signal(source, own.as_fd())?;
        let mut count = [0; 8];
        rustix::io::read(&own, &mut count)?;
        if told_apart && u64::from_ne_bytes(count) == 1 { Ok(context) } else { Err(Errno::OPNOTSUPP) }
    }

    /// Adds 1 to an eventfd's counter, unless it is full.
    ///
    /// # Errors
    /// `EINVAL` if it is none; `EAGAIN` if too many completions are on their way, which does not happen with a `source`
    /// in memory.
    pub(crate) fn signal(&mut self, source: BorrowedFd<'_>, eventfd: BorrowedFd<'_>) -> Result<(), Errno> {
        if self.unread >= EVENTS {
            self.take_completions();
        }
        self.submit(request(source, eventfd))?;
        self.unread += 1;
        Ok(())
    }

    /// Whether a descriptor is an eventfd. It is not signalled.
    pub(crate) fn is_eventfd(&self, source: BorrowedFd<'_>, fd: BorrowedFd<'_>) -> bool {
        let refused = Request { rw_flags: NO_SUCH_FLAG, ..request(source, fd) };
        self.submit(refused) == Err(Errno::OPNOTSUPP)
    }

    fn submit(&self, mut request: Request) -> Result<(), Errno> {
        let mut list = [&raw mut request];
        // SAFETY: the list has one entry, a request that both lasts and is laid out as the kernel expects. It reads no
        // bytes, so that nothing is written to any buffer, then or later; the kernel writes to its `key` during the
        // call alone. The descriptors were borrowed from their owners for the call.
        let submitted = unsafe { libc::syscall(libc::SYS_io_submit, self.id, 1_usize, list.as_mut_ptr()) };
        match submitted {
            1 => Ok(()),
            0 => Err(Errno::AGAIN),
            _ => Err(last_error()),
        }
    }

    fn take_completions(&mut self) {
        let mut events = [Completion::default(); EVENTS];
        let none = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: the kernel writes at most `EVENTS` completions to `events`, which has room for them; without a time
        // limit and with a minimum of 0 it does not wait.
        let taken = unsafe {
            libc::syscall(libc::SYS_io_getevents, self.id, 0_usize, EVENTS, events.as_mut_ptr(), none)
        };
        self.unread = self.unread.saturating_sub(usize::try_from(taken).unwrap_or(0));
    }
}

impl Drop for AioContext {
    fn drop(&mut self) {
        // SAFETY: the id is that of a context of this process, or of none any more; requests are complete.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.id) };
    }
}

/// A read of nothing from `source` that signals `eventfd`.
fn request(source: BorrowedFd<'_>, eventfd: BorrowedFd<'_>) -> Request {
    Request {
        opcode: IOCB_CMD_PREAD,
        file: source.as_raw_fd().cast_unsigned(),
        flags: IOCB_FLAG_RESFD,
        eventfd: eventfd.as_raw_fd().cast_unsigned(),
        ..Request::default()
    }
}

fn last_error() -> Errno {
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_signals_than_completions_fit_arrive() {
        let source = memfd_create("source", MemfdFlags::CLOEXEC).unwrap();
        let Ok(mut context) = AioContext::new(source.as_fd()) else {
            eprintln!("SKIPPED: this kernel has no asynchronous I/O for us");
            return;
        };
        let target = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap();
        for _ in 0..10 * EVENTS {
            context.signal(source.as_fd(), target.as_fd()).unwrap();
        }
        let mut count = [0; 8];
        rustix::io::read(&target, &mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 10 * EVENTS as u64);
        assert_eq!(context.signal(source.as_fd(), source.as_fd()), Err(Errno::INVAL));
    }
}
