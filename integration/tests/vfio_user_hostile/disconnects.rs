//! Clients that go, at every moment.

use std::net::Shutdown;
use std::os::fd::AsFd;

use vmm_integration::vfio_user::fds::{borrow, events, guest_memory};
use vmm_integration::vfio_user::payload::{
    self, get_info, qemu_version, region_read, scratch_start, set_irqs,
};
use vmm_integration::vfio_user::{DmaMap, MAX_TRANSFER, Peer, Scene, irq};

#[test]
fn connects_and_leaves() {
    let mut scene = Scene::edu();
    for _ in 0..200 {
        drop(scene.server().stranger(0));
    }
    scene.unharmed();
}

#[test]
fn negotiates_and_leaves() {
    let mut scene = Scene::edu();
    for _ in 0..100 {
        drop(scene.server().peer(0));
    }
    scene.unharmed();
}

#[test]
fn leaves_without_reading_the_reply_to_version() {
    let mut scene = Scene::edu();
    for _ in 0..100 {
        let mut peer = scene.server().stranger(0);
        peer.send(&qemu_version());
    }
    scene.unharmed();
}

#[test]
fn leaves_in_the_middle_of_version() {
    let mut scene = Scene::edu();
    let bytes = qemu_version().encode();
    for cut in 1..bytes.len() {
        let mut peer = scene.server().stranger(0);
        peer.send_bytes(&bytes[..cut], &[]);
    }
    scene.unharmed();
}

#[test]
fn leaves_in_the_middle_of_a_write() {
    let scene = Scene::scratch();
    let bytes = payload::region_write(0, 0, &[9; 4096]).encode();
    for cut in [1, 15, 16, 17, 31, 32, 33, 1000, 4127] {
        let mut peer = scene.peer();
        peer.send_bytes(&bytes[..cut], &[]);
    }
    let mut peer = scene.peer();
    assert_eq!(peer.ok(&region_read(0, 0, 4))[16..], [0; 4], "half a write was done");
    drop(peer);
    scene.unharmed();
}

#[test]
fn leaves_with_commands_unanswered() {
    let mut scene = Scene::edu();
    for _ in 0..100 {
        let mut peer = scene.server().peer(0);
        peer.send_bytes(&get_info().encode().repeat(50), &[]);
    }
    scene.unharmed();
}

#[test]
fn leaves_with_a_large_reply_half_read() {
    let mut scene = Scene::scratch();
    for _ in 0..20 {
        let mut peer = scene.server().peer(0);
        for _ in 0..4 {
            peer.send(&region_read(0, 0, MAX_TRANSFER));
        }
        let mut some = [0; 100];
        rustix::io::read(&peer, &mut some).unwrap();
    }
    scene.unharmed();
}

#[test]
fn leaves_with_maps_and_interrupts() {
    let scene = Scene::scratch();
    let memory = guest_memory(1 << 20);
    for _ in 0..20 {
        let events = events(8);
        let mut peer = scene.peer();
        peer.ok_with(&set_irqs(irq::EVENTFD | irq::TRIGGER, irq::MSIX, 0, 8, &[]), &borrow(&events));
        for n in 0..16 {
            peer.ok_with(&DmaMap::new(n << 20, 1 << 20).message(), &[memory.as_fd()]);
        }
    }
    scene.unharmed();
}

#[test]
fn leaves_with_an_access_under_way() {
    let mut scene = Scene::scratch();
    let memory = guest_memory(1 << 20);
    for _ in 0..20 {
        let mut peer = scene.server().peer(0);
        peer.send_with(&DmaMap::new(0, 1 << 20).message(), &[memory.as_fd()]);
        peer.send(&scratch_start(0, 1_000_000, 4096));
    }
    scene.unharmed();
}

#[test]
fn says_that_it_sends_no_more_and_is_answered_or_let_go() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    peer.send_bytes(&get_info().encode().repeat(10), &[]);
    peer.finish_sending();
    // What was asked before may be answered; then it is over.
    while peer.next_message().is_some() {}
    drop(peer);
    scene.unharmed();
}

#[test]
fn does_not_want_to_read_any_more() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    peer.socket().shutdown(Shutdown::Read).unwrap();
    peer.send_bytes(&get_info().encode().repeat(10), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_hundred_clients_wait_for_one() {
    let mut scene = Scene::edu();
    let mut first = scene.peer();
    let path = scene.server().socket(0);
    let waiting: Vec<_> = (0..100).filter_map(|_| Peer::connect_now(&path).ok()).collect();
    assert!(!waiting.is_empty());
    for _ in 0..100 {
        first.in_step();
    }
    drop(first);
    drop(waiting);
    scene.unharmed();
}

#[test]
fn the_one_who_is_served_is_not_disturbed_by_others() {
    let mut scene = Scene::edu();
    let mut first = scene.peer();
    let path = scene.server().socket(0);
    for _ in 0..50 {
        // Once the queue is full of those who have gone, there is no room until the first one goes.
        let other = Peer::connect_now(&path).ok().map(|mut other| {
            other.send(&qemu_version());
            other
        });
        first.in_step();
        drop(other);
        first.in_step();
    }
    drop(first);
    scene.unharmed();
}

#[test]
fn a_device_keeps_its_state_from_client_to_client() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&payload::region_write(0, 0x100, b"stays"));
    drop(peer);
    let mut next = scene.peer();
    assert_eq!(next.ok(&region_read(0, 0x100, 5))[16..], *b"stays");
    drop(next);
    scene.unharmed();
}
