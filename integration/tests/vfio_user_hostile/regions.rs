//! Accesses of regions.

use vmm_integration::vfio_user::payload::{self, region_read, region_write, region_write_of};
use vmm_integration::vfio_user::peer::Choice;
use vmm_integration::vfio_user::{Body, MAX_TRANSFER, Message, Scene, command, errno};

const SIZE: u64 = 2 << 20;

#[test]
fn a_count_of_4_gib_is_refused_before_anything_is_allocated() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let before = scene.server().process().rss_kib();
    for count in [u32::MAX, u32::MAX - 15, 1 << 31, 1 << 30, MAX_TRANSFER + 1] {
        assert_ne!(peer.refused(&region_read(0, 0, count)), 12, "ENOMEM");
        peer.refused(&region_write_of(0, 0, count, &[]));
        peer.refused(&region_write_of(0, 0, count, &[0; 64]));
    }
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    assert!(grown < 4 << 10, "the server has grown by {grown} KiB");
    drop(peer);
    scene.unharmed();
}

#[test]
fn offsets_that_wrap_are_refused() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for offset in [u64::MAX, u64::MAX - 3, u64::MAX - 7, 1 << 63, 1 << 32, u64::MAX - SIZE + 1] {
        for count in [1, 4, 8, 4096, MAX_TRANSFER] {
            peer.refused(&region_read(0, offset, count));
        }
        peer.refused(&region_write(0, offset, &[1; 8]));
        peer.refused(&region_write(0, offset, &[1; 4096]));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_region_ends_where_it_ends() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for count in [1, 2, 4, 8, 4096] {
        let data = vec![7; count as usize];
        peer.ok(&region_write(0, SIZE - u64::from(count), &data));
        assert_eq!(peer.ok(&region_read(0, SIZE - u64::from(count), count))[16..], data);
        for beyond in [SIZE - u64::from(count) + 1, SIZE, SIZE + 1] {
            peer.refused(&region_read(0, beyond, count));
            peer.refused(&region_write(0, beyond, &data));
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn regions_that_cannot_be_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for region in [9, 10, 255, 1 << 31, u32::MAX] {
        peer.refused(&region_read(region, 0, 4));
        peer.refused(&region_write(region, 0, &[0; 4]));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn absent_regions_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for region in [1, 2, 3, 4, 5, 6, 8] {
        peer.refused(&region_read(region, 0, 1));
        peer.refused(&region_write(region, 0, &[0]));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_count_of_nothing_does_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for region in [0, 2, 7] {
        for offset in [0, 1, SIZE, u64::MAX] {
            let read = peer.tolerates(&region_read(region, offset, 0), &[]);
            if let Choice::Answered(Ok(body)) = read {
                assert_eq!(body.len(), 16);
            }
            peer.tolerates(&region_write(region, offset, &[]), &[]);
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_writes_count_is_that_of_its_data() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for (count, length) in [(4, 0), (4, 3), (4, 5), (4, 4096), (0, 4), (1, 8), (4096, 4095), (u32::MAX, 4)] {
        peer.refused(&region_write_of(0, 0, count, &vec![9; length]));
    }
    assert_eq!(peer.ok(&region_read(0, 0, 8))[16..], [0; 8], "a refused write has written");
    drop(peer);
    scene.unharmed();
}

#[test]
fn data_after_a_read_is_not_left_in_the_stream() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for length in [1, 4, 16, 4096] {
        let body = Body::new().u64(0).u32(0).u32(4).bytes(&vec![0xff; length]);
        peer.tolerates(&Message::command(command::REGION_READ, body), &[]);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_largest_read_is_one_mib() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    assert_eq!(peer.ok(&region_read(0, 0, MAX_TRANSFER)).len(), 16 + MAX_TRANSFER as usize);
    peer.refused(&region_read(0, 0, MAX_TRANSFER + 1));
    peer.refused(&region_read(0, 0, 2 * MAX_TRANSFER));
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_clients_own_limit_holds_for_reads() {
    let scene = Scene::scratch();
    let mut peer = scene.stranger();
    peer.negotiate_with("{\"capabilities\": {\"max_data_xfer_size\": 4096}}");
    assert_eq!(peer.ok(&region_read(0, 0, 4096)).len(), 16 + 4096);
    peer.refused(&region_read(0, 0, 4097));
    // What the client takes says nothing of what we take.
    peer.ok(&region_write(0, 0, &[1; 8192]));
    drop(peer);
    scene.unharmed();
}

#[test]
fn configuration_space_is_read_whole_and_no_further() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let size = payload::u64_at(&peer.ok(&payload::region_info(7, 32)), 16);
    let whole = u32::try_from(size).unwrap();
    assert!(size == 256 || size == 4096, "{size}");
    assert_eq!(peer.ok(&region_read(7, 0, whole)).len(), 16 + whole as usize);
    peer.refused(&region_read(7, 0, whole + 1));
    peer.refused(&region_read(7, 1, whole));
    peer.refused(&region_write(7, size - 1, &[0; 2]));
    drop(peer);
    scene.unharmed();
}

#[test]
fn configuration_space_takes_any_alignment() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let whole = peer.ok(&region_read(7, 0, 256))[16..].to_vec();
    for offset in 0..248_usize {
        for count in 1..=8_u8 {
            let part = peer.ok(&region_read(7, offset as u64, u32::from(count)));
            assert_eq!(part[16..], whole[offset..offset + usize::from(count)], "{count} at {offset}");
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn all_of_configuration_space_may_be_overwritten() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let whole = peer.ok(&region_read(7, 0, 256))[16..].to_vec();
    for byte in [0xff, 0x00, 0x55, 0xaa] {
        peer.ok(&region_write(7, 0, &[byte; 256]));
        for offset in 0..256 {
            peer.tolerates(&region_write(7, offset, &[byte]), &[]);
        }
        let now = peer.ok(&region_read(7, 0, 256))[16..].to_vec();
        // Vendor, device, class, header type and the list of capabilities are not the client's to change.
        for fixed in [0..4, 8..12, 14..15, 0x34..0x35] {
            assert_eq!(now[fixed.clone()], whole[fixed.clone()], "bytes {fixed:?} after {byte:#x}");
        }
    }
    peer.ok(&payload::reset());
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn odd_accesses_of_registers_do_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for offset in (0..0xa0).chain([0x1000, 0x40000, 0xf_fff0]) {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 16] {
            let choice = peer.tolerates(&region_read(0, offset, count), &[]);
            assert!(matches!(choice, Choice::Answered(_)), "{choice:?}");
        }
    }
    for offset in (0..0xa0).filter(|offset| !(0x98..0xa0).contains(offset)) {
        for count in [1, 2, 3, 4, 5, 7, 8, 9] {
            peer.tolerates(&region_write(0, offset, &vec![0; count]), &[]);
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_refusal_is_einval() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    assert_eq!(peer.refused(&region_read(99, 0, 4)), errno::EINVAL);
    assert_eq!(peer.refused(&region_read(7, u64::MAX, 4)), errno::EINVAL);
    assert_eq!(peer.refused(&region_write_of(7, 0, 4, &[0])), errno::EINVAL);
    drop(peer);
    scene.unharmed();
}

#[test]
fn replies_say_what_was_asked() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let read = peer.ok(&region_read(0, 0x1234, 8));
    assert_eq!(read[..16], Vec::from(Body::new().u64(0x1234).u32(0).u32(8)));
    let write = peer.ok(&region_write(0, 0x1234, &[1, 2, 3]));
    assert_eq!(write, Vec::from(Body::new().u64(0x1234).u32(0).u32(3)));
    drop(peer);
    scene.unharmed();
}

#[test]
fn odd_writes_to_the_starter_do_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for offset in [0, 1, 4, 8, 12, 15, 16, 4080, 4095] {
        for count in [1, 2, 4, 8, 12, 15, 16] {
            // Times 0: there is nothing to do, however it is put together.
            peer.tolerates(&region_write(2, offset, &vec![0; count]), &[]);
        }
    }
    drop(peer);
    scene.unharmed();
}
