//! A client that holds the lock of its file as long as it likes, by writing to it from memory whose page faults it answers
//! itself. Whoever waits for that lock waits for the client.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]
#![allow(unsafe_code, reason = "userfaultfd has no safe wrapper")]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use vfio_user_server::dma::{DmaPath, DmaPolicy, DmaTable};
use vfio_user_server::protocol::DmaMap;

const PAGE: usize = 4096;

/// `_IOWR(0xAA, number, size)` of linux/userfaultfd.h.
const fn request(number: u64, size: u64) -> u64 {
    (3 << 30) | (size << 16) | (0xAA << 8) | number
}
const UFFDIO_API: u64 = request(0x3F, 24);
const UFFDIO_REGISTER: u64 = request(0x00, 32);
const UFFDIO_COPY: u64 = request(0x03, 40);

/// A page whose first touch waits until it is [filled](Self::fill).
struct LazyPage {
    address: usize,
    userfaultfd: OwnedFd,
}

impl LazyPage {
    /// `None` where only the privileged may have one.
    fn new() -> Option<Self> {
        // SAFETY: makes a descriptor.
        let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) };
        let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
        // SAFETY: it was just made, and nobody else has it.
        let userfaultfd = unsafe { OwnedFd::from_raw_fd(fd) };
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, wherever the kernel likes.
        let page = unsafe {
            libc::mmap(std::ptr::null_mut(), PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        assert_ne!(page, libc::MAP_FAILED);
        let lazy = Self { address: page.expose_provenance(), userfaultfd };
        // Version, features, ioctls; start, length, mode (missing pages), ioctls.
        let mut api = [0xAA_u64, 0, 0];
        let mut register = [lazy.address as u64, PAGE as u64, 1, 0];
        (lazy.ioctl(UFFDIO_API, &mut api) && lazy.ioctl(UFFDIO_REGISTER, &mut register)).then_some(lazy)
    }

    fn ioctl(&self, request: u64, argument: &mut [u64]) -> bool {
        // SAFETY: the argument has as many bytes as the request says, of the layout that it says.
        unsafe {
            libc::ioctl(self.userfaultfd.as_raw_fd(), request as libc::Ioctl, argument.as_mut_ptr()) == 0
        }
    }

    fn fill(&self) {
        #[repr(align(4096))]
        struct Source([u8; PAGE]);
        let source = Source([7; PAGE]);
        let from = (&raw const source.0).expose_provenance();
        assert!(self.ioctl(UFFDIO_COPY, &mut [self.address as u64, from as u64, PAGE as u64, 0, 0]));
    }
}

/// Whether a thread is in the middle of a page fault of `lazy`: the kernel has told so.
fn wait_for_fault(lazy: &LazyPage) {
    let mut message = [0; 32];
    assert_eq!(rustix::io::read(&lazy.userfaultfd, &mut message).unwrap(), 32);
}

#[test]
fn nobody_waits_for_a_client_that_holds_its_file() {
    let Some(lazy) = LazyPage::new() else {
        eprintln!("SKIPPED: no userfaultfd for the faults of system calls (needs root)");
        return;
    };
    let file = memfd_create("stall", MemfdFlags::CLOEXEC).unwrap();
    ftruncate(&file, 1 << 20).unwrap();
    let mut table = DmaTable::new(DmaPolicy::Auto, 10, 1 << 30);
    let map = DmaMap { iova: 0, size: 1 << 20, offset: 0, readable: true, writable: true, file_io: false };
    table.map(map, Some(file.try_clone().unwrap().into())).unwrap();
    assert_eq!(table.maps().next().unwrap().path, DmaPath::Copy);

    let held = AtomicBool::new(true);
    std::thread::scope(|scope| {
        let client = || {
            let page = std::ptr::with_exposed_provenance(lazy.address);
            // SAFETY: the kernel only reads the page, which is mapped for good.
            let written = unsafe { libc::pwrite(file.as_raw_fd(), page, PAGE, 8192) };
            held.store(false, Ordering::SeqCst);
            assert_eq!(written, PAGE as isize);
        };
        scope.spawn(client);
        wait_for_fault(&lazy);
        let (sender, done) = mpsc::channel();
        let (table, held, file) = (&table, &held, &file);
        scope.spawn(move || {
            // Pages that are there, and one that is not; and a map more.
            let mut data = [0; 8];
            table.read(0, &mut data).unwrap();
            table.write(4, &data).unwrap();
            table.write(65536, &data).unwrap();
            let mut other = DmaTable::new(DmaPolicy::Auto, 10, 1 << 30);
            other.map(map, Some(file.try_clone().unwrap().into())).unwrap();
            sender.send(held.load(Ordering::SeqCst)).unwrap();
        });
        let result = done.recv_timeout(Duration::from_secs(20));
        lazy.fill();
        assert_eq!(result, Ok(true), "it waits for the client");
    });
}
