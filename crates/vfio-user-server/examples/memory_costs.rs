//! What DMA and interrupts cost on this host: `cargo run --release -p vfio-user-server --example memory_costs`.

use std::hint::black_box;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfio_user_server::Errno;
use vfio_user_server::dma::{DmaPolicy, DmaTable};
use vfio_user_server::irq::Interrupts;
use vfio_user_server::protocol::{DmaMap, IrqAction, IrqData, IrqIndex, SetIrqs};

const SIZE: u64 = 1 << 20;

/// The best of many short runs, per call: others may be using the processor.
fn report(what: &str, mut call: impl FnMut()) {
    const CALLS: u32 = 500;
    let mut best = f64::MAX;
    for _ in 0..500 {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        best = best.min(start.elapsed().as_secs_f64() / f64::from(CALLS));
    }
    println!("{what:<44} {:>8.1} ns", best * 1e9);
}

fn memfd(seals: SealFlags) -> Result<OwnedFd, Errno> {
    let fd = memfd_create("costs", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, SIZE)?;
    fcntl_add_seals(&fd, seals)?;
    Ok(fd)
}

fn dma(maps: u64) -> Result<(), Errno> {
    let sealed = memfd(SealFlags::SHRINK)?;
    let shared = memfd(SealFlags::empty())?;
    for (name, fd) in [("direct", &sealed), ("copy", &shared)] {
        let mut table = DmaTable::new(DmaPolicy::Auto, 65535, u64::MAX);
        for number in 0..maps {
            let iova = number * 2 * SIZE;
            let map = DmaMap { iova, size: SIZE, offset: 0, readable: true, writable: true, file_io: false };
            let fd = (number == maps / 2).then(|| fd.try_clone()).transpose();
            table.map(map, fd.map_err(|_| Errno::MFILE)?.map(Into::into))?;
        }
        let at = maps / 2 * 2 * SIZE + 128;
        for length in [64, 4096] {
            let mut data = vec![0; length];
            report(&format!("{name}, {maps} maps: read {length}"), || {
                let _ = black_box(table.read(black_box(at), &mut data));
            });
            report(&format!("{name}, {maps} maps: write {length}"), || {
                let _ = black_box(table.write(black_box(at), &data));
            });
        }
    }
    Ok(())
}

fn interrupts() -> Result<(), Errno> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC)?;
    let mut interrupts = Interrupts::new([0, 0, 1, 0, 0]);
    let data = IrqData::Eventfds(vec![fd.try_clone().map_err(|_| Errno::MFILE)?.into()]);
    interrupts.set(SetIrqs {
        index: IrqIndex::Msix,
        start: 0,
        count: 1,
        action: IrqAction::Trigger,
        data,
    })?;
    report("interrupt", || interrupts.raise(IrqIndex::Msix, 0));
    report("for comparison: write to the eventfd", || {
        let _ = rustix::io::write(&fd, &1_u64.to_ne_bytes());
    });
    Ok(())
}

fn main() -> Result<(), Errno> {
    dma(1)?;
    dma(1000)?;
    interrupts()
}
