//! Scratch's DMA allocates nothing once its buffer has grown.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use iothread::IoThread;
use pci_devices::Scratch;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfio_user_server::context::{Context, Listen};

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(false) };
}

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: all of it is the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTED.get() {
            ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        }
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn dma_allocates_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let context = Context::builder(Box::new(Scratch::new())).listen(Listen::Path(path.clone()));
    let iothread = IoThread::builder("IO test").start().unwrap();
    let exported = context.map_err(|(error, _)| error).unwrap().spawn(&iothread.handle()).unwrap();
    let mut client = vfio_user::Client::new(&path).unwrap();
    let memory = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&memory, 1 << 20).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    client.dma_map(0, 0, 1 << 20, memory.as_raw_fd()).unwrap();
    // Some end within their first turn, some are deferred.
    let mut dma = |round: u32| {
        let (times, length) = if round.is_multiple_of(2) { (3, 4096) } else { (100, 64 << 10) };
        let command = [&0x1000_u64.to_le_bytes()[..], &u32::to_le_bytes(times), &u32::to_le_bytes(length)];
        client.region_write(2, 0, &command.concat()).unwrap();
    };
    (0..50).for_each(&mut dma);

    let (tell, told) = channel();
    exported.handle().run(move |_, _| COUNTED.set(true));
    exported.handle().run(move |_, _| tell.send(()).unwrap());
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..100).for_each(&mut dma);
    let during = ALLOCATIONS.load(Ordering::Relaxed) - before;
    let mut reads = [0; 8];
    client.region_read(2, 0x10, &mut reads).unwrap();
    assert_eq!(u64::from_le_bytes(reads), 75 * 103);
    assert_eq!(during, 0, "allocations in 5,150 reads");
}
