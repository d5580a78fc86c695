//! Clients that want too much: more than they read, resets without end, everything at once.

use vmm_integration::vfio_user::payload::{get_info, region_read, region_write, reset};
use vmm_integration::vfio_user::{MAX_TRANSFER, Scene};

#[test]
fn a_client_that_does_not_read_costs_little_memory() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let before = scene.server().process().rss_kib();
    // 100 MiB of replies, if they were all made.
    let flood = region_read(0, 0, MAX_TRANSFER).encode().repeat(100);
    let mut sent = peer.stuff(&flood);
    scene.monitor_answers();
    sent += peer.stuff(&flood[sent..]);
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    assert!(grown < 32 << 10, "the server has grown by {grown} KiB");
    // It reads after all: nothing is lost.
    let whole = sent / 32;
    for _ in 0..whole {
        assert_eq!(peer.message().body.len(), 16 + MAX_TRANSFER as usize);
    }
    peer.send_bytes(&flood[sent..sent.next_multiple_of(32)], &[]);
    if !sent.is_multiple_of(32) {
        peer.message();
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_client_that_does_not_read_small_replies_costs_little_memory() {
    let mut scene = Scene::edu();
    let mut peer = scene.peer();
    let before = scene.server().process().rss_kib();
    let flood = get_info().encode().repeat(100_000);
    let mut sent = 0;
    for _ in 0..20 {
        sent += peer.stuff(&flood[sent..]);
        scene.monitor_answers();
    }
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    assert!(grown < 16 << 10, "the server has grown by {grown} KiB");
    drop(peer);
    scene.unharmed();
}

#[test]
fn resets_without_end_are_done_one_by_one() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let burst = reset().encode().repeat(100);
    for _ in 0..20 {
        peer.send_bytes(&burst, &[]);
        for _ in 0..100 {
            assert_eq!(peer.message().errno(), None);
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn resets_between_accesses_do_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for _ in 0..200 {
        peer.send(&region_write(0, 8, &5_u32.to_le_bytes()));
        peer.send(&reset());
        peer.send(&region_read(0, 8, 4));
        for _ in 0..3 {
            assert_eq!(peer.message().errno(), None);
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_flood_of_errors_is_answered() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let burst = region_read(99, 0, 4).encode().repeat(500);
    for _ in 0..10 {
        peer.send_bytes(&burst, &[]);
        for _ in 0..500 {
            assert!(peer.message().errno().is_some());
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn buffers_are_given_back() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let before = scene.server().process().rss_kib();
    for _ in 0..5 {
        peer.ok(&region_write(0, 0, &vec![1; MAX_TRANSFER as usize]));
        peer.ok(&region_read(0, 0, MAX_TRANSFER));
    }
    drop(peer);
    scene.well();
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    // The device's own MiB, touched for the first time, and what an allocator keeps.
    assert!(grown < 12 << 10, "the server has grown by {grown} KiB");
    scene.unharmed();
}
