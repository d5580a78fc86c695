//! Memory that changes under the server: cut, holed, gone.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FallocateFlags, OFlags, SealFlags, fallocate, fcntl_setfl, ftruncate};
use vmm_integration::vfio_user::fds::{guest_memory, memory, sealed};
use vmm_integration::vfio_user::payload::{
    READ, WRITE, dma_unmap, region_read, region_write, reset, scratch_start,
};
use vmm_integration::vfio_user::{Body, DmaMap, Peer, Scene};

const PAGE: u64 = 4096;
const MIB: u64 = 1 << 20;

#[track_caller]
fn mapped(scene: &Scene, file: &OwnedFd, size: u64) -> Peer {
    let mut peer = scene.peer();
    peer.ok_with(&DmaMap::new(0, size).message(), &[file.as_fd()]);
    peer
}

#[test]
fn memory_that_was_cut_away_is_an_error() {
    let scene = Scene::scratch();
    for sealable in [false, true] {
        let file = memory(MIB, sealable);
        let mut peer = mapped(&scene, &file, MIB);
        peer.ok(&scratch_start(0, 1, 4096));
        ftruncate(&file, 0).unwrap();
        peer.refused(&scratch_start(0, 1, 4096));
        peer.refused(&scratch_start(MIB - 16, 1, 16));
        ftruncate(&file, MIB).unwrap();
        peer.ok(&scratch_start(0, 1, 4096));
    }
    scene.unharmed();
}

#[test]
fn memory_that_was_cut_in_half_is_an_error_from_there() {
    let scene = Scene::scratch();
    let file = memory(MIB, false);
    let mut peer = mapped(&scene, &file, MIB);
    ftruncate(&file, MIB / 2 + 100).unwrap();
    peer.ok(&scratch_start(0, 1, 4096));
    peer.ok(&scratch_start(MIB / 2, 1, 100));
    peer.refused(&scratch_start(MIB / 2 + 100, 1, 16));
    peer.refused(&scratch_start(MIB / 2 + PAGE, 1, 4096));
    peer.refused(&scratch_start(MIB / 2 - 8, 1, 8192));
    drop(peer);
    scene.unharmed();
}

#[test]
fn holes_read_as_zeros() {
    let scene = Scene::scratch();
    for file in [memory(MIB, false), guest_memory(MIB)] {
        let mut peer = mapped(&scene, &file, MIB);
        peer.ok(&scratch_start(0, 2, 4096));
        fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, MIB).unwrap();
        peer.ok(&scratch_start(0, 2, 4096));
    }
    scene.unharmed();
}

#[test]
fn memory_that_is_cut_and_grown_all_the_time_kills_nobody() {
    let scene = Scene::scratch();
    let file = memory(MIB, false);
    let mut peer = mapped(&scene, &file, MIB);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                ftruncate(&file, 0).unwrap();
                ftruncate(&file, MIB).unwrap();
            }
        });
        for _ in 0..300 {
            let _ = peer.call(&scratch_start(0, 8, 65_536));
        }
        stop.store(true, Ordering::Relaxed);
    });
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn holes_that_are_punched_all_the_time_kill_nobody() {
    let scene = Scene::scratch();
    let file = guest_memory(MIB);
    let mut peer = mapped(&scene, &file, MIB);
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, MIB).unwrap();
                rustix::io::pwrite(&file, &[1; 8192], 0).unwrap();
            }
        });
        for _ in 0..300 {
            peer.ok(&scratch_start(0, 8, 65_536));
        }
        stop.store(true, Ordering::Relaxed);
    });
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn flags_that_flip_do_no_harm() {
    let scene = Scene::scratch();
    for file in [memory(MIB, false), guest_memory(MIB)] {
        let mut peer = mapped(&scene, &file, MIB);
        for flags in [OFlags::NONBLOCK, OFlags::APPEND, OFlags::NOATIME, OFlags::empty()] {
            // Some are refused for some files.
            let _ = fcntl_setfl(&file, OFlags::RDWR | flags);
            peer.ok(&scratch_start(0, 2, 4096));
        }
        let _ = rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(1 << 40));
        peer.ok(&scratch_start(0, 2, 4096));
    }
    scene.unharmed();
}

#[test]
fn seals_that_come_later_do_no_harm() {
    let scene = Scene::scratch();
    for seals in [SealFlags::SHRINK, SealFlags::FUTURE_WRITE, SealFlags::SEAL] {
        let file = memory(MIB, true);
        let mut peer = mapped(&scene, &file, MIB);
        let _ = rustix::fs::fcntl_add_seals(&file, seals);
        peer.ok(&scratch_start(0, 2, 4096));
    }
    scene.unharmed();
}

/// Has edu write its buffer to memory; the answer is in its status register.
#[track_caller]
fn edu_writes(peer: &mut Peer, to: u64, length: u64) -> bool {
    // Bus mastering, in case the device looks at it.
    peer.ok(&region_write(7, 4, &6_u16.to_le_bytes()));
    for (register, value) in [(0x80, 0x40000), (0x88, to), (0x90, length), (0x98, 1 | 2)] {
        if peer.call(&region_write(0, register, &Vec::from(Body::new().u64(value)))).is_err() {
            return false;
        }
    }
    let running = || peer.call(&region_read(0, 0x98, 8)).is_ok_and(|body| body[16] & 1 != 0);
    let mut running = running;
    vmm_integration::poll_until(vmm_integration::LIMIT, || !running())
}

#[test]
fn memory_that_may_only_be_read_is_not_written() {
    let scene = Scene::edu();
    let file = guest_memory(PAGE);
    rustix::io::pwrite(&file, &[0x5a; 4096], 0).unwrap();
    for flags in [READ, READ | WRITE] {
        let mut peer = scene.peer();
        peer.ok_with(&DmaMap::new(0x1000, PAGE).flags(flags).message(), &[file.as_fd()]);
        edu_writes(&mut peer, 0x1000, 256);
        let mut bytes = [0; 256];
        rustix::io::pread(&file, &mut bytes, 0).unwrap();
        let written = bytes == [0; 256];
        assert!(written || bytes == [0x5a; 256]);
        assert_eq!(written, flags == READ | WRITE, "flags {flags}");
        peer.in_step();
    }
    scene.unharmed();
}

#[test]
fn a_write_to_memory_that_was_cut_away_kills_nobody() {
    let scene = Scene::edu();
    for sealable in [false, true] {
        let file = memory(PAGE, sealable);
        let mut peer = scene.peer();
        peer.ok_with(&DmaMap::new(0x1000, PAGE).message(), &[file.as_fd()]);
        ftruncate(&file, 0).unwrap();
        edu_writes(&mut peer, 0x1000, 4096);
        peer.in_step();
        let size = rustix::fs::fstat(&file).unwrap().st_size;
        // A file that grows by a device's write would be a way around its owner's limits.
        assert!(size == 0 || size == 4096, "{size}");
    }
    scene.unharmed();
}

#[test]
fn a_write_to_memory_sealed_against_it_is_an_error() {
    let scene = Scene::edu();
    let file = sealed(PAGE, SealFlags::SHRINK | SealFlags::FUTURE_WRITE);
    let mut peer = scene.peer();
    if peer.call_with(&DmaMap::new(0x1000, PAGE).message(), &[file.as_fd()]).is_ok() {
        edu_writes(&mut peer, 0x1000, 256);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn dma_outside_of_all_maps_is_an_error() {
    let scene = Scene::scratch();
    let file = guest_memory(4 * PAGE);
    let mut peer = scene.peer();
    peer.ok_with(&DmaMap::new(4 * PAGE, 4 * PAGE).message(), &[file.as_fd()]);
    for (iova, length) in [
        (0, 16),
        (4 * PAGE - 1, 2),
        (8 * PAGE - 1, 2),
        (8 * PAGE, 1),
        (u64::MAX, 1),
        (u64::MAX - 4095, 4096),
        (u64::MAX, u32::MAX),
        (4 * PAGE, u32::MAX),
    ] {
        peer.refused(&scratch_start(iova, 1, length));
    }
    peer.ok(&scratch_start(8 * PAGE - 1, 1, 1));
    drop(peer);
    scene.unharmed();
}

#[test]
fn dma_over_two_maps_or_a_gap_does_no_harm() {
    let scene = Scene::scratch();
    let file = guest_memory(4 * PAGE);
    let mut peer = scene.peer();
    peer.ok_with(&DmaMap::new(0, PAGE).message(), &[file.as_fd()]);
    peer.ok_with(&DmaMap::new(PAGE, PAGE).message(), &[file.as_fd()]);
    peer.ok_with(&DmaMap::new(3 * PAGE, PAGE).message(), &[file.as_fd()]);
    peer.tolerates(&scratch_start(PAGE - 8, 1, 16), &[]);
    peer.refused(&scratch_start(2 * PAGE - 8, 1, 16));
    peer.refused(&scratch_start(PAGE, 1, 8193));
    drop(peer);
    scene.unharmed();
}

#[test]
fn memory_is_not_touched_once_it_was_taken_back() {
    let scene = Scene::scratch();
    let file = guest_memory(PAGE);
    let mut peer = mapped(&scene, &file, PAGE);
    peer.ok(&scratch_start(0, 1, 64));
    peer.ok(&dma_unmap(0, 0, PAGE));
    scene.await_more_fds(1);
    peer.refused(&scratch_start(0, 1, 64));
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_reset_keeps_the_maps() {
    let scene = Scene::scratch();
    let file = guest_memory(PAGE);
    let mut peer = mapped(&scene, &file, PAGE);
    peer.ok(&reset());
    peer.ok(&scratch_start(0, 1, 64));
    drop(peer);
    scene.unharmed();
}

#[test]
fn work_without_end_ends_with_its_client() {
    let mut scene = Scene::scratch();
    let file = guest_memory(MIB);
    for hurry in [false, true] {
        let mut peer = mapped(&scene, &file, MIB);
        // 2^32-1 times a MiB: hours.
        peer.send(&scratch_start(0, u32::MAX, 1 << 20));
        if hurry {
            peer.send(&region_read(7, 0, 4));
        }
        drop(peer);
        scene.well();
    }
    scene.unharmed();
}

#[test]
fn lengths_and_times_without_bounds_do_no_harm() {
    let scene = Scene::scratch();
    let file = guest_memory(PAGE);
    let mut peer = mapped(&scene, &file, PAGE);
    for (times, length) in [(0, 0), (0, u32::MAX), (1, 0), (u32::MAX, 0), (u32::MAX, u32::MAX), (1, u32::MAX)]
    {
        if (times, length) == (u32::MAX, 0) {
            // May take as long as it likes.
            continue;
        }
        peer.tolerates(&scratch_start(0, times, length), &[]);
    }
    drop(peer);
    scene.unharmed();
}
