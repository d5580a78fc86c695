//! Descriptors of all kinds, and one that tells when nobody else has it any more.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, epoll, eventfd, poll};
use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::LIMIT;
use crate::wire::open_file;

/// A descriptor to give away, whose last close is noticed.
///
/// It is a pipe's writing end: the reading end, which stays here, hangs up when the last of the others is closed.
#[derive(Debug)]
pub struct Tracer {
    read: OwnedFd,
    write: Option<OwnedFd>,
}

impl Default for Tracer {
    fn default() -> Self {
        Self::new()
    }
}

impl Tracer {
    /// A new one.
    ///
    /// # Panics
    /// When this process is out of descriptors.
    #[track_caller]
    pub fn new() -> Self {
        let (read, write) =
            pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap_or_else(|e| panic!("{e}"));
        Self { read, write: Some(write) }
    }

    /// What is sent.
    ///
    /// # Panics
    /// When it is gone already.
    pub fn fd(&self) -> BorrowedFd<'_> {
        let Some(fd) = &self.write else { panic!("it is closed here already") };
        fd.as_fd()
    }

    /// Gives up our own, and waits until the server has closed all of its.
    ///
    /// # Panics
    /// When it does not within [`LIMIT`].
    #[track_caller]
    pub fn closed(&mut self) {
        self.write = None;
        let timeout = Timespec::try_from(LIMIT).unwrap_or_default();
        let ready = poll(&mut [PollFd::new(&self.read, PollFlags::empty())], Some(&timeout));
        assert_eq!(ready, Ok(1), "a descriptor that was sent is still open");
    }
}

/// An eventfd that does not block.
///
/// # Panics
/// When this process is out of descriptors.
#[track_caller]
pub fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap_or_else(|e| panic!("{e}"))
}

/// Several of them.
pub fn events(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| event()).collect()
}

/// An eventfd that blocks and is full: the next write of 1 waits for a reader.
///
/// # Panics
/// When this process is out of descriptors.
#[track_caller]
pub fn full_blocking_event() -> OwnedFd {
    let fd = eventfd(0, EventfdFlags::CLOEXEC).unwrap_or_else(|e| panic!("{e}"));
    rustix::io::write(&fd, &(u64::MAX - 1).to_ne_bytes()).unwrap_or_else(|e| panic!("{e}"));
    fd
}

/// Waits until an eventfd has been signalled, and takes the count.
///
/// # Panics
/// When it is not within [`LIMIT`].
#[track_caller]
pub fn signalled(event: &OwnedFd) -> u64 {
    let timeout = Timespec::try_from(LIMIT).unwrap_or_default();
    let ready = poll(&mut [PollFd::new(event, PollFlags::IN)], Some(&timeout));
    assert_eq!(ready, Ok(1), "no interrupt came");
    count(event)
}

/// What an eventfd has counted; 0 for nothing.
pub fn count(event: &OwnedFd) -> u64 {
    let mut bytes = [0; 8];
    match rustix::io::read(event, &mut bytes) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}

/// Borrows them all.
pub fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}

/// A memfd of this size, without seals. With room for them if `sealable`.
///
/// # Panics
/// When there is no memory.
#[track_caller]
pub fn memory(size: u64, sealable: bool) -> OwnedFd {
    let seals = if sealable { MemfdFlags::ALLOW_SEALING } else { MemfdFlags::empty() };
    let fd = memfd_create("client", MemfdFlags::CLOEXEC | seals).unwrap_or_else(|e| panic!("{e}"));
    ftruncate(&fd, size).unwrap_or_else(|e| panic!("{e}"));
    fd
}

/// A memfd with these seals.
///
/// # Panics
/// When there is no memory.
#[track_caller]
pub fn sealed(size: u64, seals: SealFlags) -> OwnedFd {
    let fd = memory(size, true);
    fcntl_add_seals(&fd, seals).unwrap_or_else(|e| panic!("{e}"));
    fd
}

/// As QEMU makes it for a guest: it cannot shrink, grow or be sealed further.
pub fn guest_memory(size: u64) -> OwnedFd {
    sealed(size, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// A descriptor of each kind that is no memory, with its name. Some need a directory for their files.
///
/// # Errors
/// When one cannot be made.
pub fn every_wrong_kind(dir: &Path) -> io::Result<Vec<(&'static str, OwnedFd)>> {
    let (pipe_out, pipe_in) = pipe_with(PipeFlags::CLOEXEC)?;
    let (socket, _) = UnixStream::pair()?;
    let (datagram, _) = std::os::unix::net::UnixDatagram::pair()?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let connected = TcpStream::connect(listener.local_addr()?)?;
    let local = dir.join("listener");
    let _ = std::fs::remove_file(&local);
    let pidfd = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty())?;
    let path_only = open_file(dir, OFlags::PATH)?;
    Ok(vec![
        ("a pipe's reading end", pipe_out),
        ("a pipe's writing end", pipe_in),
        ("a stream socket", socket.into()),
        ("a datagram socket", datagram.into()),
        ("a TCP listener", listener.into()),
        ("a TCP connection", connected.into()),
        ("a unix listener", UnixListener::bind(local)?.into()),
        ("an epoll", epoll::create(epoll::CreateFlags::CLOEXEC)?),
        ("a pidfd", pidfd),
        ("/dev/null", open_file(Path::new("/dev/null"), OFlags::RDWR)?),
        ("/dev/zero", open_file(Path::new("/dev/zero"), OFlags::RDWR)?),
        ("/dev/full", open_file(Path::new("/dev/full"), OFlags::RDWR)?),
        ("/proc/self/mem", open_file(Path::new("/proc/self/mem"), OFlags::RDWR)?),
        ("/proc/self/maps", open_file(Path::new("/proc/self/maps"), OFlags::RDONLY)?),
        ("a directory", open_file(dir, OFlags::RDONLY)?),
        ("a path without access", path_only),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tracer_sees_the_last_close() {
        let mut tracer = Tracer::new();
        let other = tracer.fd().try_clone_to_owned().unwrap();
        drop(other);
        tracer.closed();
    }

    #[test]
    fn events_count() {
        let event = event();
        assert_eq!(count(&event), 0);
        rustix::io::write(&event, &3_u64.to_ne_bytes()).unwrap();
        assert_eq!(signalled(&event), 3);
    }

    #[test]
    fn every_kind_can_be_made() {
        let dir = tempfile::tempdir().unwrap();
        let kinds = every_wrong_kind(dir.path()).unwrap();
        assert!(kinds.len() >= 16);
    }
}
