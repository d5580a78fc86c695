//! A register access, from the socket to the device and back, allocates nothing on the iothread once buffers have grown.
#![allow(unsafe_code, reason = "an allocator that counts")]
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use iothread::IoThread;
use vfio_user_server::context::{Context, Listen};
use vfio_user_server::pci::{Bar, PciSpec};
use vfio_user_server::{DeviceContext, Errno, PciDevice};

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

struct Register(u32);

impl PciDevice for Register {
    fn spec(&self) -> PciSpec {
        let bars = PciSpec::builder(1, 2).bar(0, Bar::registers(4096)).bar(1, Bar::memory(1 << 20));
        bars.build().unwrap()
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &mut [u8]) -> Result<(), Errno> {
        data.copy_from_slice(&self.0.to_le_bytes());
        Ok(())
    }

    fn write(&mut self, _: &mut DeviceContext<'_>, _: u8, _: u64, data: &[u8]) -> Result<(), Errno> {
        self.0 = u32::from_le_bytes(data.try_into().unwrap());
        Ok(())
    }

    fn reset(&mut self, _: &mut DeviceContext<'_>) {}
}

#[test]
fn accesses_allocate_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("v.sock");
    let context = Context::builder(Box::new(Register(0))).listen(Listen::Path(path.clone()));
    let iothread = IoThread::builder("IO test").start().unwrap();
    let exported = context.map_err(|(error, _)| error).unwrap().spawn(&iothread.handle()).unwrap();
    let mut client = vfio_user::Client::new(&path).unwrap();
    let mut block = vec![0; 8192];
    let mut access = |round: u32| {
        let mut register = [0; 4];
        client.region_write(0, 0, &round.to_le_bytes()).unwrap();
        client.region_read(0, 0, &mut register).unwrap();
        assert_eq!(u32::from_le_bytes(register), round);
        client.region_write(1, 4096, &block).unwrap();
        client.region_read(1, 4096, &mut block).unwrap();
    };
    (0..100).for_each(&mut access);

    let (tell, told) = channel();
    exported.handle().run(move |_, _| COUNTED.set(true));
    exported.handle().run(move |_, _| tell.send(()).unwrap());
    told.recv_timeout(Duration::from_secs(10)).unwrap();
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    (0..1000).for_each(&mut access);
    let during = ALLOCATIONS.load(Ordering::Relaxed) - before;
    assert_eq!(during, 0, "allocations in 4,000 accesses");
    assert!(exported.handle().stats().reads > 2000);
}
