//! `DMA_MAP` and `DMA_UNMAP`: ranges, flags, limits, and descriptors that are no memory.

use std::os::fd::AsFd;

use rustix::fs::{MemfdFlags, OFlags, SealFlags, memfd_create};
use vmm_integration::vfio_user::fds::{Tracer, every_wrong_kind, guest_memory, memory, sealed};
use vmm_integration::vfio_user::payload::{READ, UNMAP_ALL, WRITE, dma_unmap, scratch_start};
use vmm_integration::vfio_user::{Body, DmaMap, Message, Peer, Scene, command, errno};
use vmm_integration::wire::open_file;

const PAGE: u64 = 4096;
const MAX_MAPS: u64 = 65535;

#[track_caller]
fn all_refused(maps: &[DmaMap]) {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    for map in maps {
        peer.refused(&map.message());
        peer.refused_with(&map.message(), &[memory.as_fd()]);
    }
    // Nothing has stayed.
    scene.await_more_fds(1);
    peer.ok_with(&DmaMap::new(0, PAGE).message(), &[memory.as_fd()]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_map_has_a_size() {
    all_refused(&[DmaMap::new(0, 0), DmaMap::new(PAGE, 0), DmaMap::new(u64::MAX, 0)]);
}

#[test]
fn a_map_does_not_wrap() {
    all_refused(&[
        DmaMap::new(u64::MAX, 2),
        DmaMap::new(u64::MAX - PAGE + 1, 2 * PAGE),
        DmaMap::new(PAGE, u64::MAX),
        DmaMap::new(1 << 63, (1 << 63) + PAGE),
    ]);
}

#[test]
fn a_map_does_not_wrap_in_its_file() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    for offset in [u64::MAX, u64::MAX - PAGE + 1, 1 << 63, i64::MAX as u64, i64::MAX as u64 - PAGE + 2] {
        peer.refused_with(&DmaMap::new(0, PAGE).offset(offset).message(), &[memory.as_fd()]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn unknown_flags_of_a_map_are_refused() {
    let flags: Vec<DmaMap> = (4..32).map(|bit| DmaMap::new(0, PAGE).flags(3 | 1 << bit)).collect();
    all_refused(&flags);
}

#[test]
fn a_map_without_permissions_does_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    peer.tolerates(&DmaMap::new(0, PAGE).flags(0).message(), &[memory.as_fd()]);
    peer.tolerates(&scratch_start(0, 1, 16), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_maps_argsz_covers_it() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for argsz in [0, 1, 31] {
        peer.refused(&DmaMap { argsz, ..DmaMap::new(0, PAGE) }.message());
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_map_has_one_descriptor() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    for count in [2, 3, 16, 64] {
        peer.refused_with(&DmaMap::new(0, PAGE).message(), &vec![memory.as_fd(); count]);
        scene.await_more_fds(1);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn overlaps_are_refused() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(4 * PAGE, 4 * PAGE).message());
    let overlaps = [(0, 5), (3, 2), (5, 1), (7, 1), (7, 4), (4, 2), (6, 2), (4, 4), (3, 6), (0, 1 << 20)];
    for (start, pages) in overlaps {
        let map = DmaMap::new(start * PAGE, pages * PAGE).flags(READ);
        assert_eq!(peer.refused(&map.message()), errno::EEXIST, "pages {start} and {pages} more");
    }
    for (start, pages) in [(0, 4), (8, 4)] {
        peer.ok(&DmaMap::new(start * PAGE, pages * PAGE).message());
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn overlaps_with_any_of_many_maps_are_refused() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for n in 0..100 {
        peer.ok(&DmaMap::new(n * 2 * PAGE, PAGE).message());
    }
    for n in 0..100 {
        assert_eq!(peer.refused(&DmaMap::new(n * 2 * PAGE + 1, PAGE).message()), errno::EEXIST);
    }
    assert_eq!(peer.refused(&DmaMap::new(0, 1 << 40).message()), errno::EEXIST);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_map_may_end_at_the_end_of_all_addresses() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.tolerates(&DmaMap::new(u64::MAX - PAGE + 1, PAGE).message(), &[]);
    peer.tolerates(&scratch_start(u64::MAX - 15, 1, 32), &[]);
    peer.tolerates(&scratch_start(u64::MAX, 1, 1 << 20), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_file_that_is_too_short_is_refused_or_never_touched() {
    let scene = Scene::scratch();
    let short = [guest_memory(PAGE), memory(PAGE, true), memory(0, false)];
    for file in &short {
        for map in [DmaMap::new(0, 2 * PAGE), DmaMap::new(0, PAGE).offset(2 * PAGE), DmaMap::new(0, 1 << 40)]
        {
            let mut peer = scene.peer();
            if peer.call_with(&map.message(), &[file.as_fd()]).is_ok() {
                let end = u32::try_from(map.size.min(1 << 20)).unwrap();
                assert!(peer.call(&scratch_start(0, 1, end)).is_err(), "read what is not there");
            }
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn offsets_in_a_file_need_not_be_aligned() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(4 * PAGE);
    for offset in [1, 7, 4095, 4097, 8000] {
        peer.ok_with(&DmaMap::new(PAGE, PAGE).offset(offset).message(), &[memory.as_fd()]);
        peer.ok(&scratch_start(PAGE, 2, 4096));
        peer.refused(&scratch_start(PAGE + 1, 1, 4096));
        peer.ok(&dma_unmap(0, PAGE, PAGE));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn only_whole_maps_are_taken_back() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(4 * PAGE, 4 * PAGE).message());
    peer.ok(&DmaMap::new(8 * PAGE, 4 * PAGE).message());
    for (start, pages) in [(4, 1), (7, 1), (5, 2), (4, 8), (3, 6), (0, 100), (0, 4), (12, 1), (4, 5)] {
        assert_eq!(
            peer.refused(&dma_unmap(0, start * PAGE, pages * PAGE)),
            errno::ENOENT,
            "{start}, {pages}"
        );
    }
    assert_eq!(peer.ok(&dma_unmap(0, 4 * PAGE, 4 * PAGE)).len(), 24);
    assert_eq!(peer.refused(&dma_unmap(0, 4 * PAGE, 4 * PAGE)), errno::ENOENT);
    peer.ok(&dma_unmap(0, 8 * PAGE, 4 * PAGE));
    drop(peer);
    scene.unharmed();
}

#[test]
fn what_is_taken_back_may_not_wrap() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(0, PAGE).message());
    for (iova, size) in [(u64::MAX, 2), (u64::MAX, u64::MAX), (PAGE, u64::MAX), (0, 0), (0, u64::MAX)] {
        peer.refused(&dma_unmap(0, iova, size));
    }
    peer.ok(&dma_unmap(0, 0, PAGE));
    drop(peer);
    scene.unharmed();
}

#[test]
fn taking_all_back_has_no_range() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    for n in 0..10 {
        peer.ok_with(&DmaMap::new(n * PAGE, PAGE).message(), &[memory.as_fd()]);
    }
    peer.refused(&dma_unmap(UNMAP_ALL, PAGE, 0));
    peer.refused(&dma_unmap(UNMAP_ALL, 0, PAGE));
    peer.ok(&dma_unmap(UNMAP_ALL, 0, 0));
    scene.await_more_fds(1);
    assert_eq!(peer.refused(&dma_unmap(0, 0, PAGE)), errno::ENOENT);
    // There is nothing left, and nothing to complain of.
    peer.tolerates(&dma_unmap(UNMAP_ALL, 0, 0), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn dirty_bitmaps_and_unknown_flags_are_refused() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(0, PAGE).message());
    for flags in [1, 3, 4, 5, 8, 1 << 31, u32::MAX] {
        peer.refused(&dma_unmap(flags, 0, PAGE));
        let bitmap = Body::new().u32(40).u32(flags).u64(0).u64(PAGE).u64(1).u64(u64::MAX);
        peer.refused(&Message::command(command::DMA_UNMAP, bitmap));
    }
    peer.ok(&dma_unmap(0, 0, PAGE));
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_of_an_unmap_are_closed() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let mut tracer = Tracer::new();
    peer.tolerates(&dma_unmap(0, 0, PAGE), &[tracer.fd(); 3]);
    tracer.closed();
    drop(peer);
    scene.unharmed();
}

#[test]
fn maps_have_a_limit() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let burst = |peer: &mut Peer, maps: std::ops::Range<u64>| {
        let messages = maps.map(|n| DmaMap::new(n * 2 * PAGE, PAGE).message().encode());
        peer.send_bytes(&messages.collect::<Vec<_>>().concat(), &[]);
    };
    for start in (0..MAX_MAPS).step_by(1024) {
        let end = (start + 1024).min(MAX_MAPS);
        burst(&mut peer, start..end);
        for n in start..end {
            assert_eq!(peer.message().errno(), None, "map {n}");
        }
    }
    let one_more = DmaMap::new((MAX_MAPS + 1) * 2 * PAGE, PAGE);
    assert_eq!(peer.refused(&one_more.message()), errno::ENOSPC);
    peer.ok(&dma_unmap(0, 0, PAGE));
    peer.ok(&one_more.message());
    peer.ok(&dma_unmap(UNMAP_ALL, 0, 0));
    drop(peer);
    scene.unharmed();
}

#[test]
fn maps_with_descriptors_do_not_use_up_the_table() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    // More than the usual limit of descriptors: refused from some number on, or none is held.
    for n in 0..1500 {
        let answer = peer.call_with(&DmaMap::new(n * PAGE, PAGE).message(), &[memory.as_fd()]);
        if answer.is_err() {
            break;
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_bytes_of_all_maps_have_a_limit() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let huge = sealed(16 << 40, SealFlags::SHRINK);
    let mut taken = 0_u64;
    for n in 0..64 {
        let map = DmaMap::new(n << 40, 1 << 40);
        if peer.call_with(&map.message(), &[huge.as_fd()]).is_ok() {
            taken += 1;
        }
    }
    assert!(taken <= 8, "{taken} TiB were mapped");
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn what_is_no_memory_is_refused() {
    let scene = Scene::scratch();
    let dir = tempfile::tempdir().unwrap();
    let mut peer = scene.peer();
    for (name, fd) in every_wrong_kind(dir.path()).unwrap() {
        let answer = peer.call_with(&DmaMap::new(0, PAGE).message(), &[fd.as_fd()]);
        assert!(answer.is_err(), "{name} was taken for memory");
        peer.in_step();
        drop(fd);
        scene.await_more_fds(1);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_eventfd_is_no_memory() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let event = vmm_integration::vfio_user::fds::event();
    peer.refused_with(&DmaMap::new(0, PAGE).message(), &[event.as_fd()]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_servers_own_connection_is_no_memory() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let own = peer.as_fd().try_clone_to_owned().unwrap();
    peer.refused_with(&DmaMap::new(0, PAGE).message(), &[own.as_fd()]);
    drop((own, peer));
    scene.unharmed();
}

#[test]
fn files_of_other_file_systems_are_refused() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for path in ["/proc/self/exe", "/proc/cpuinfo", "/sys/kernel/mm/transparent_hugepage/enabled"] {
        let Ok(fd) = open_file(std::path::Path::new(path), OFlags::RDONLY) else { continue };
        let map = DmaMap::new(0, 16).flags(READ);
        assert!(peer.call_with(&map.message(), &[fd.as_fd()]).is_err(), "{path} was taken for memory");
        peer.in_step();
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_permission_that_the_descriptor_lacks_is_refused_or_fails() {
    let scene = Scene::scratch();
    let writable = guest_memory(PAGE);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writable));
    for (mode, flags) in [(OFlags::RDONLY, READ | WRITE), (OFlags::RDONLY, WRITE), (OFlags::WRONLY, READ)] {
        let fd = open_file(std::path::Path::new(&path), mode).unwrap();
        let mut peer = scene.peer();
        if peer.call_with(&DmaMap::new(0, PAGE).flags(flags).message(), &[fd.as_fd()]).is_ok()
            && flags == READ
        {
            assert!(peer.call(&scratch_start(0, 1, 16)).is_err(), "read what cannot be read");
        }
        peer.in_step();
    }
    scene.unharmed();
}

#[test]
fn memory_sealed_against_writing_is_read_only() {
    let scene = Scene::scratch();
    for seals in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        let fd = sealed(PAGE, seals | SealFlags::SHRINK | SealFlags::GROW);
        let mut peer = scene.peer();
        let _ = peer.call_with(&DmaMap::new(0, PAGE).message(), &[fd.as_fd()]);
        peer.in_step();
        peer.ok_with(&DmaMap::new(2 * PAGE, PAGE).flags(READ).message(), &[fd.as_fd()]);
        peer.ok(&scratch_start(2 * PAGE, 1, 4096));
    }
    scene.unharmed();
}

#[test]
fn huge_pages_do_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    // Whether there are any or not: without, its first touch would be a SIGBUS.
    let Ok(huge) =
        memfd_create("huge", MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB | MemfdFlags::ALLOW_SEALING)
    else {
        return eprintln!("skipped: this kernel has no huge pages of 2 MiB");
    };
    rustix::fs::ftruncate(&huge, 2 << 20).unwrap();
    rustix::fs::fcntl_add_seals(&huge, SealFlags::SHRINK).unwrap();
    if peer.call_with(&DmaMap::new(0, 2 << 20).message(), &[huge.as_fd()]).is_ok() {
        let _ = peer.call(&scratch_start(0, 2, 4096));
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn maps_and_unmaps_in_one_write_keep_their_descriptors_apart() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    for round in 0..50 {
        // As QEMU does it: some without a descriptor, and then one with.
        for message in [
            DmaMap::new(0, PAGE).message(),
            dma_unmap(0, 0, PAGE),
            DmaMap::new(8 * PAGE, PAGE).flags(READ).message(),
        ] {
            peer.send(&message.id(1));
        }
        peer.send_with(&DmaMap::new(0, PAGE).message().id(2), &[memory.as_fd()]);
        for id in [1, 1, 1, 2] {
            let reply = peer.message();
            assert_eq!((reply.header.id, reply.errno()), (id, None), "round {round}");
        }
        // If the descriptor had gone to another of them, this would be a DMA_READ to us.
        peer.ok(&scratch_start(0, 1, 64));
        peer.ok(&dma_unmap(0, 0, PAGE));
        peer.ok(&dma_unmap(0, 8 * PAGE, PAGE));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn maps_are_gone_with_their_client() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let memory = guest_memory(PAGE);
    peer.ok_with(&DmaMap::new(0, PAGE).message(), &[memory.as_fd()]);
    drop(peer);
    let mut next = scene.peer();
    next.refused(&scratch_start(0, 1, 16));
    next.ok_with(&DmaMap::new(0, PAGE).message(), &[memory.as_fd()]);
    drop(next);
    scene.unharmed();
}
