//! What a device is asked about itself.

use vmm_integration::vfio_user::payload::{self, u32_at, u64_at};
use vmm_integration::vfio_user::{Body, Message, Peer, Scene, command};

#[test]
fn a_larger_argsz_of_get_info_is_taken() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for argsz in [16, 17, 32, 4096, u32::MAX] {
        let message = Message::command(command::DEVICE_GET_INFO, Body::new().u32(argsz).u32(0).u32(0).u32(0));
        assert_eq!(peer.ok(&message).len(), 16, "argsz {argsz}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_smaller_argsz_of_get_info_does_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for argsz in [0, 1, 15] {
        let message = Message::command(command::DEVICE_GET_INFO, Body::new().u32(argsz).u32(0).u32(0).u32(0));
        peer.tolerates(&message, &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn every_region_has_an_answer_in_full() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for index in 0..9 {
        let reply = peer.ok(&payload::region_info(index, 32));
        assert_eq!(reply.len(), 32, "region {index}");
        assert_eq!(u32_at(&reply, 8), index);
    }
    let absent = peer.ok(&payload::region_info(8, 32));
    assert_eq!(
        (u32_at(&absent, 4), u64_at(&absent, 16)),
        (0, 0),
        "an absent region has no size and no flags"
    );
    drop(peer);
    scene.unharmed();
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for index in [9, 10, 255, 1 << 31, u32::MAX] {
        peer.refused(&payload::region_info(index, 32));
        peer.refused(&payload::region_info(index, u32::MAX));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn region_info_is_never_larger_than_its_argsz() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for index in 0..9 {
        for argsz in [32, 33, 40, 48, 63, 64, 4096] {
            let reply = peer.ok(&payload::region_info(index, argsz));
            assert!(reply.len() <= argsz as usize && reply.len() >= 32, "{} bytes for {argsz}", reply.len());
            let full = u32_at(&reply, 0);
            assert_eq!(reply.len() > 32, full > 32 && argsz >= full, "argsz {argsz}, needs {full}");
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_huge_argsz_of_region_info_is_no_wish_for_memory() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let before = scene.server().process().rss_kib();
    for index in 0..9 {
        let reply = peer.ok(&payload::region_info(index, u32::MAX));
        assert!(reply.len() < 1024, "{} bytes", reply.len());
    }
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    assert!(grown < 4 << 10, "the server has grown by {grown} KiB");
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_argsz_below_region_infos_size_does_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for argsz in [0, 1, 16, 31] {
        peer.tolerates(&payload::region_info(7, argsz), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn interrupt_types_that_cannot_be_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for index in 0..5 {
        let reply = peer.ok(&payload::irq_info(index));
        assert_eq!((reply.len(), u32_at(&reply, 8)), (16, index));
    }
    for index in [5, 6, 255, 1 << 31, u32::MAX] {
        peer.refused(&payload::irq_info(index));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_argsz_below_irq_infos_size_does_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for argsz in [0, 8, 15, u32::MAX] {
        let body = Body::new().u32(argsz).u32(0).u32(0).u32(0);
        peer.tolerates(&Message::command(command::DEVICE_GET_IRQ_INFO, body), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn io_fds_of_regions_that_cannot_be_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for index in [9, 255, u32::MAX] {
        peer.refused(&payload::region_io_fds(index, 4096));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn io_fds_stay_within_their_argsz() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for index in 0..9 {
        for argsz in [16, 17, 55, 56, 4096, u32::MAX] {
            let Ok(reply) = peer.call(&payload::region_io_fds(index, argsz)) else { continue };
            assert!(reply.len() <= argsz as usize, "{} bytes for {argsz}", reply.len());
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn io_fds_with_flags_or_a_count_do_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let ask = |peer: &mut Peer, argsz, flags, count| {
        let body = Body::new().u32(argsz).u32(flags).u32(0).u32(count);
        peer.tolerates(&Message::command(command::DEVICE_GET_REGION_IO_FDS, body), &[]);
    };
    for argsz in [0, 15, 16, 4096, u32::MAX] {
        for flags in [0, 1, u32::MAX] {
            for count in [0, 1, u32::MAX] {
                ask(&mut peer, argsz, flags, count);
            }
        }
    }
    drop(peer);
    scene.unharmed();
}
