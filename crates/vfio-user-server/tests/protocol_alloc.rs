//! Accesses of regions allocate nothing once buffers have grown. The allocator counts, so this test is alone in its
//! process, and counts only on its own thread.

#![allow(unsafe_code, reason = "an allocator is unsafe to implement")]
#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::os::fd::OwnedFd;

use fd_closer::Received;
use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

fn count() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: all is left to the system's allocator; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Memory that is read and written; every fourth access is deferred.
struct Memory {
    bytes: Vec<u8>,
    accesses: u64,
    token: Option<AccessToken>,
}

impl Memory {
    fn outcome(&mut self, token: AccessToken) -> Outcome {
        self.accesses += 1;
        if self.accesses.is_multiple_of(4) {
            self.token = Some(token);
            return Outcome::Deferred;
        }
        Outcome::Done
    }
}

impl Target for Memory {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo { reset: false, regions: PCI_REGIONS, irqs: PCI_IRQS }
    }

    fn region(&self, _index: u32) -> RegionDescription<'_> {
        let size = self.bytes.len() as u64;
        RegionDescription { size, readable: true, writable: true, ..RegionDescription::default() }
    }

    fn io_fds(&self, _index: u32) -> Vec<IoFd<'_>> {
        Vec::new()
    }

    fn irq_info(&self, _index: u32) -> IrqInfo {
        IrqInfo::default()
    }

    fn set_irqs(&mut self, _command: SetIrqs<'_>) -> Result<(), Errno> {
        Err(Errno::INVAL)
    }

    fn dma_map(&mut self, _map: DmaMap, _fd: Option<Received>) -> Result<(), Errno> {
        Err(Errno::INVAL)
    }

    fn dma_unmap(&mut self, _unmap: DmaUnmap) -> Result<(), Errno> {
        Err(Errno::INVAL)
    }

    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        let offset = usize::try_from(access.offset).unwrap();
        data.copy_from_slice(&self.bytes[offset..offset + data.len()]);
        self.outcome(access.token)
    }

    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome {
        let offset = usize::try_from(access.offset).unwrap();
        self.bytes[offset..offset + data.len()].copy_from_slice(data);
        self.outcome(access.token)
    }

    fn reset(&mut self) -> Result<(), Errno> {
        Ok(())
    }

    fn dma_reply(&mut self, _id: u16, _result: Result<&[u8], Errno>) {}

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        None
    }
}

fn message(command: u16, flags: u32, fields: &[&[u8]]) -> Vec<u8> {
    let payload = fields.concat();
    let size = u32::try_from(16 + payload.len()).unwrap();
    let header: [&[u8]; 5] =
        [&[1, 0], &command.to_ne_bytes(), &size.to_ne_bytes(), &flags.to_ne_bytes(), &[0; 4]];
    [header.concat(), payload].concat()
}

fn access(command: u16, flags: u32, count: u32, data: &[u8]) -> Vec<u8> {
    message(command, flags, &[&8_u64.to_ne_bytes(), &0_u32.to_ne_bytes(), &count.to_ne_bytes(), data])
}

/// Puts `bytes` in, in pieces, executes what is there and takes the output.
fn serve(session: &mut Session, memory: &mut Memory, mut bytes: &[u8]) -> usize {
    let mut out = 0;
    while !bytes.is_empty() {
        let spare = session.spare(Channel::Main);
        let count = spare.len().min(bytes.len()).min(1000);
        spare[..count].copy_from_slice(&bytes[..count]);
        session.received(Channel::Main, count, []);
        bytes = &bytes[count..];
        loop {
            let step = session.step(memory).unwrap();
            if let Some(token) = memory.token.take() {
                session.fail(token, Errno::AGAIN);
            }
            if !matches!(step, Step::Executed { .. }) {
                break;
            }
        }
        let count = session.output(Channel::Main).bytes.len();
        session.sent(Channel::Main, count);
        out += count;
    }
    out
}

#[test]
fn accesses_allocate_nothing() {
    let mut session = Session::default();
    let mut memory = Memory { bytes: vec![0; 1 << 21], accesses: 0, token: None };
    serve(&mut session, &mut memory, &message(1, 0, &[&[0; 4]]));
    let burst = [
        access(9, 0, 4, &[]),
        access(10, 0, 4, &[1; 4]),
        access(10, 0x10, 8, &[2; 8]),
        access(9, 0, 4096, &[]),
        access(10, 0, 3000, &[3; 3000]),
        access(9, 0, 1 << 23, &[]),
    ]
    .concat();
    let large = [access(9, 0, 1 << 20, &[]), access(10, 0, 1 << 20, &vec![4; 1 << 20])].concat();
    for _ in 0..8 {
        serve(&mut session, &mut memory, &burst);
    }
    let before = ALLOCATIONS.with(Cell::get);
    let (mut out, accesses) = (0, memory.accesses);
    while memory.accesses - accesses < 10_000 {
        out += serve(&mut session, &mut memory, &burst);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "small accesses");
    assert!(out > 1_000_000);
    for _ in 0..8 {
        serve(&mut session, &mut memory, &large);
    }
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..50 {
        serve(&mut session, &mut memory, &large);
    }
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 0, "large accesses");
    assert_ne!(before, 0, "the allocator counts");
}
