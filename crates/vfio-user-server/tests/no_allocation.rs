//! DMA and interrupts allocate nothing.
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfio_user_server::dma::{DmaPolicy, DmaTable};
use vfio_user_server::irq::Interrupts;
use vfio_user_server::protocol::{DmaMap, IrqAction, IrqData, IrqIndex, SetIrqs};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: what is promised to this function is promised to that one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often `work` allocates.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    work();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn reads_and_writes_allocate_nothing() {
    let mut table = DmaTable::new(DmaPolicy::Auto, 10, 1 << 30);
    let mut counted = 0;
    for (iova, seals) in [(0, SealFlags::SHRINK), (4096, SealFlags::empty())] {
        let fd = memfd_create("dma", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        ftruncate(&fd, 4096).unwrap();
        fcntl_add_seals(&fd, seals).unwrap();
        let map = DmaMap { iova, size: 4096, offset: 0, readable: true, writable: true, file_io: false };
        counted += allocations(|| table.map(map, Some(fd.into())).unwrap());
    }
    assert!(counted > 0, "the first map of a table needs memory");
    let count = allocations(|| {
        let mut data = [0; 8192];
        for at in [0, 4000, 4090, 8000] {
            table.read(at, &mut data[..64]).unwrap();
            table.write(at, &data[..64]).unwrap();
            assert!(table.read(at, &mut data).is_ok() == (at == 0));
            table.segments(at, 64, true).unwrap().for_each(|segment| assert!(segment.local));
        }
    });
    assert_eq!(count, 0);
}

#[test]
fn interrupts_allocate_nothing() {
    let mut interrupts = Interrupts::new([1, 0, 2, 0, 0]);
    for (index, count) in [(IrqIndex::Intx, 1), (IrqIndex::Msix, 2)] {
        let fds = (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC).unwrap().into()).collect();
        let data = IrqData::Eventfds(fds);
        interrupts.set(SetIrqs { index, start: 0, count, action: IrqAction::Trigger, data }).unwrap();
    }
    let count = allocations(|| {
        for turn in 0..1000 {
            interrupts.raise(IrqIndex::Msix, turn % 4);
            interrupts.set_intx(turn % 2 == 0);
            let (index, action, data) = (IrqIndex::Intx, IrqAction::Unmask, IrqData::None);
            interrupts.set(SetIrqs { index, start: 0, count: 1, action, data }).unwrap();
        }
    });
    assert_eq!((count, interrupts.signalled()), (0, 1500));
}
