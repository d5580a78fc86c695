//! `DEVICE_SET_IRQS`: combinations, ranges, and descriptors that are not what they should be.

use std::os::fd::AsFd;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{OFlags, fcntl_setfl};
use vmm_integration::vfio_user::fds::{
    Tracer, borrow, count, event, events, every_wrong_kind, full_blocking_event, signalled,
};
use vmm_integration::vfio_user::payload::{self, set_irqs, u32_at};
use vmm_integration::vfio_user::{Body, Message, Peer, Scene, command, irq};
use vmm_integration::wire::MAX_FDS;

const ASSIGN: u32 = irq::EVENTFD | irq::TRIGGER;
const FIRE: u32 = irq::NONE | irq::TRIGGER;
/// Of the scratch device.
const VECTORS: u32 = 8;

#[track_caller]
fn fire(peer: &mut Peer, vector: u32) {
    peer.ok(&set_irqs(FIRE, irq::MSIX, vector, 1, &[]));
}

/// A client of the scratch device with an eventfd for each of its vectors.
#[track_caller]
fn assigned(scene: &Scene) -> (Peer, Vec<std::os::fd::OwnedFd>) {
    let mut peer = scene.peer();
    let events = events(VECTORS as usize);
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, VECTORS, &[]), &borrow(&events));
    (peer, events)
}

#[track_caller]
fn all_refused(messages: impl IntoIterator<Item = Message>) {
    let scene = Scene::scratch();
    let (mut peer, events) = assigned(&scene);
    for message in messages {
        peer.refused(&message);
    }
    for vector in 0..VECTORS {
        fire(&mut peer, vector);
        assert_eq!(signalled(&events[vector as usize]), 1, "what was refused has changed vector {vector}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_scratch_device_has_the_vectors_that_these_cases_stand_on() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    assert_eq!(u32_at(&peer.ok(&payload::irq_info(irq::MSIX)), 12), VECTORS);
    assert_eq!(u32_at(&peer.ok(&payload::irq_info(irq::INTX)), 12), 1);
    drop(peer);
    scene.unharmed();
}

#[test]
fn interrupt_types_that_cannot_be_are_refused() {
    all_refused([5, 6, 255, 1 << 31, u32::MAX].map(|index| set_irqs(FIRE, index, 0, 1, &[])));
}

#[test]
fn exactly_one_kind_of_data() {
    let data = [0, 3, 5, 6, 7];
    all_refused(data.map(|data| set_irqs(data | irq::TRIGGER, irq::MSIX, 0, 1, &[1])));
}

#[test]
fn exactly_one_action() {
    let actions = [0, 24, 40, 48, 56];
    all_refused(actions.map(|action| set_irqs(irq::NONE | action, irq::MSIX, 0, 1, &[])));
}

#[test]
fn unknown_flags_are_refused() {
    all_refused((6..32).map(|bit| set_irqs(FIRE | 1 << bit, irq::MSIX, 0, 1, &[])));
}

#[test]
fn ranges_that_wrap_are_refused() {
    let mut messages = Vec::new();
    for (start, count) in [(1, u32::MAX), (u32::MAX, 1), (u32::MAX, 2), (u32::MAX - 1, 3), (4, u32::MAX - 3)]
    {
        for action in [irq::MASK, irq::UNMASK, irq::TRIGGER] {
            messages.push(set_irqs(irq::NONE | action, irq::MSIX, start, count, &[]));
            messages.push(set_irqs(irq::BOOL | action, irq::MSIX, start, count, &[]));
            messages.push(set_irqs(irq::EVENTFD | action, irq::MSIX, start, count, &[]));
        }
    }
    all_refused(messages);
}

#[test]
fn ranges_beyond_the_last_vector_are_refused() {
    let ranges = [(0, 9), (8, 1), (7, 2), (0, u32::MAX), (100, 1), (9, 0), (8, 0)];
    all_refused(ranges.map(|(start, count)| set_irqs(FIRE, irq::MSIX, start, count, &[])));
}

#[test]
fn switching_off_has_no_range() {
    all_refused([1, 7, 8, u32::MAX].map(|start| set_irqs(FIRE, irq::MSIX, start, 0, &[])));
}

#[test]
fn nothing_is_not_a_range_to_mask() {
    let flags = [irq::NONE | irq::MASK, irq::NONE | irq::UNMASK];
    all_refused(flags.map(|flags| set_irqs(flags, irq::MSIX, 0, 0, &[])));
}

#[test]
fn a_boolean_for_each_vector() {
    let messages = [(1, 0), (2, 1), (8, 7), (2, 3), (1, 4096)];
    all_refused(
        messages
            .map(|(count, length)| set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, 0, count, &vec![0; length])),
    );
}

#[test]
fn errors_and_requests_have_no_masks() {
    let mut messages = Vec::new();
    for index in [irq::ERR, irq::REQ] {
        for action in [irq::MASK, irq::UNMASK] {
            messages.push(set_irqs(irq::NONE | action, index, 0, 1, &[]));
        }
        messages.push(set_irqs(FIRE, index, 0, 2, &[]));
        messages.push(set_irqs(FIRE, index, 1, 1, &[]));
    }
    all_refused(messages);
}

#[test]
fn a_descriptor_for_each_vector() {
    let scene = Scene::scratch();
    let (mut peer, events) = assigned(&scene);
    for (count, fds) in [(1, 2), (2, 1), (8, 7), (8, 9), (4, 16), (3, 64)] {
        let mut tracer = Tracer::new();
        let fds = vec![tracer.fd(); fds];
        peer.refused_with(&set_irqs(ASSIGN, irq::MSIX, 0, count, &[]), &fds);
        tracer.closed();
    }
    for (vector, event) in (0..).zip(&events) {
        fire(&mut peer, vector);
        assert_eq!(signalled(event), 1);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_of_other_kinds_of_data_are_closed() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for (flags, data) in [(FIRE, &[][..]), (irq::BOOL | irq::TRIGGER, &[1]), (irq::NONE | irq::MASK, &[])] {
        for fds in [1, 8, 16] {
            let mut tracer = Tracer::new();
            peer.tolerates(&set_irqs(flags, irq::MSIX, 0, 1, data), &vec![tracer.fd(); fds]);
            tracer.closed();
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn descriptors_of_refused_commands_are_closed() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let refused = [
        set_irqs(ASSIGN, 9, 0, 1, &[]),
        set_irqs(ASSIGN, irq::MSIX, 8, 1, &[]),
        set_irqs(ASSIGN, irq::MSIX, u32::MAX, 1, &[]),
        set_irqs(ASSIGN | irq::MASK, irq::MSIX, 0, 1, &[]),
        set_irqs(ASSIGN | irq::NONE, irq::MSIX, 0, 1, &[]),
        set_irqs(irq::EVENTFD, irq::MSIX, 0, 1, &[]),
        set_irqs(ASSIGN, irq::MSI, 0, 200, &[]),
        Message::command(command::DEVICE_SET_IRQS, Body::new().u32(20).u32(ASSIGN)),
    ];
    for message in refused {
        let mut tracer = Tracer::new();
        peer.refused_with(&message, &[tracer.fd()]);
        tracer.closed();
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_interrupt_needs_an_eventfd() {
    let scene = Scene::scratch();
    let dir = tempfile::tempdir().unwrap();
    let mut peer = scene.peer();
    for (name, fd) in every_wrong_kind(dir.path()).unwrap() {
        let answer = peer.call_with(&set_irqs(ASSIGN, irq::MSIX, 0, 1, &[]), &[fd.as_fd()]);
        assert!(answer.is_err(), "{name} was taken for an eventfd");
        peer.in_step();
        // Fires nothing, and hurts nobody.
        peer.tolerates(&set_irqs(FIRE, irq::MSIX, 0, 1, &[]), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn one_wrong_descriptor_among_many_refuses_them_all() {
    let scene = Scene::scratch();
    let (mut peer, old) = assigned(&scene);
    let mut tracer = Tracer::new();
    let new = events(7);
    let mut fds = borrow(&new);
    fds.insert(4, tracer.fd());
    peer.refused_with(&set_irqs(ASSIGN, irq::MSIX, 0, VECTORS, &[]), &fds);
    drop(fds);
    tracer.closed();
    for (vector, event) in (0..).zip(&old) {
        fire(&mut peer, vector);
        assert_eq!(signalled(event), 1, "vector {vector} is not what it was");
    }
    assert!(new.iter().all(|event| count(event) == 0));
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_full_blocking_eventfd_blocks_nobody() {
    let mut scene = Scene::scratch();
    let mut peer = scene.peer();
    let full = full_blocking_event();
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, 1, &[]), &[full.as_fd()]);
    for _ in 0..10 {
        fire(&mut peer, 0);
    }
    peer.in_step();
    drop(peer);
    scene.well();
    scene.unharmed();
}

#[test]
fn an_eventfd_that_becomes_blocking_and_full_blocks_nobody() {
    let scene = Scene::scratch();
    let (mut peer, events) = assigned(&scene);
    for (vector, event) in (0..).zip(&events) {
        fire(&mut peer, vector);
        // The flag is shared with the server's descriptor.
        fcntl_setfl(event, OFlags::RDWR).unwrap();
        signalled(event);
        rustix::io::write(event, &(u64::MAX - 1).to_ne_bytes()).unwrap();
        fire(&mut peer, vector);
        fire(&mut peer, vector);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn flags_that_flip_while_interrupts_fire_block_nobody() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let event = event();
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, 1, &[]), &[event.as_fd()]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fcntl_setfl(&event, OFlags::RDWR).unwrap();
                fcntl_setfl(&event, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
                // Full, whenever it is not.
                let _ = rustix::io::write(&event, &(u64::MAX - 1).to_ne_bytes());
            }
        });
        for _ in 0..2000 {
            fire(&mut peer, 0);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // The other thread may be stuck in its own write.
        while count(&event) > 0 {}
    });
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_semaphore_is_an_eventfd() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let semaphore = eventfd(0, EventfdFlags::SEMAPHORE | EventfdFlags::NONBLOCK).unwrap();
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, 1, &[]), &[semaphore.as_fd()]);
    fire(&mut peer, 0);
    fire(&mut peer, 0);
    assert_eq!((signalled(&semaphore), signalled(&semaphore)), (1, 1));
    drop(peer);
    scene.unharmed();
}

#[test]
fn one_eventfd_may_serve_all_vectors() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let event = event();
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, VECTORS, &[]), &[event.as_fd(); VECTORS as usize]);
    peer.ok(&set_irqs(FIRE, irq::MSIX, 0, VECTORS, &[]));
    assert_eq!(signalled(&event), u64::from(VECTORS));
    drop(peer);
    scene.unharmed();
}

#[test]
fn replaced_eventfds_are_closed() {
    let scene = Scene::scratch();
    let (mut peer, _events) = assigned(&scene);
    let held = scene.more_fds();
    for _ in 0..50 {
        let events = events(VECTORS as usize);
        peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, VECTORS, &[]), &borrow(&events));
    }
    scene.await_more_fds(held);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_middle_range_is_taken_back_exactly() {
    let scene = Scene::scratch();
    let (mut peer, events) = assigned(&scene);
    let held = scene.more_fds();
    peer.ok(&set_irqs(ASSIGN, irq::MSIX, 3, 2, &[]));
    scene.await_more_fds(held - 2);
    for (vector, event) in (0..).zip(&events) {
        peer.tolerates(&set_irqs(FIRE, irq::MSIX, vector, 1, &[]), &[]);
        assert_eq!(count(event), u64::from(!(3..5).contains(&vector)), "vector {vector}");
    }
    peer.ok(&set_irqs(FIRE, irq::MSIX, 0, 0, &[]));
    scene.await_more_fds(held - VECTORS as usize);
    drop(peer);
    scene.unharmed();
}

#[test]
fn switching_off_what_has_no_vectors_does_no_harm() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for index in 0..5 {
        peer.tolerates(&set_irqs(FIRE, index, 0, 0, &[]), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn firing_what_is_not_assigned_does_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for vector in 0..VECTORS {
        peer.tolerates(&set_irqs(FIRE, irq::MSIX, vector, 1, &[]), &[]);
        peer.tolerates(&set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, vector, 1, &[1]), &[]);
    }
    peer.tolerates(&set_irqs(FIRE, irq::INTX, 0, 1, &[]), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn booleans_choose_exactly() {
    let scene = Scene::scratch();
    let (mut peer, events) = assigned(&scene);
    peer.ok(&set_irqs(irq::BOOL | irq::TRIGGER, irq::MSIX, 2, 4, &[1, 0, 0, 1]));
    let counts: Vec<u64> = events.iter().map(count).collect();
    assert_eq!(counts, [0, 0, 1, 0, 0, 1, 0, 0]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_masked_interrupt_is_held_back_until_it_is_let_go() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let pin = event();
    peer.ok_with(&set_irqs(ASSIGN, irq::INTX, 0, 1, &[]), &[pin.as_fd()]);
    for _ in 0..3 {
        peer.ok(&set_irqs(irq::NONE | irq::MASK, irq::INTX, 0, 1, &[]));
        // Edu raises its pin by one register and lowers it by another.
        peer.ok(&payload::region_write(0, 0x60, &1_u32.to_le_bytes()));
        assert_eq!(count(&pin), 0, "it was masked");
        peer.ok(&set_irqs(irq::NONE | irq::UNMASK, irq::INTX, 0, 1, &[]));
        assert_eq!(signalled(&pin), 1);
        peer.ok(&payload::region_write(0, 0x64, &1_u32.to_le_bytes()));
        peer.ok(&set_irqs(irq::NONE | irq::UNMASK, irq::INTX, 0, 1, &[]));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn masks_do_not_outlive_their_client() {
    let scene = Scene::scratch();
    let (mut peer, _events) = assigned(&scene);
    let _ = peer.call(&set_irqs(irq::NONE | irq::MASK, irq::MSIX, 0, VECTORS, &[]));
    drop(peer);
    let (mut peer, events) = assigned(&scene);
    for (vector, event) in (0..).zip(&events) {
        fire(&mut peer, vector);
        assert_eq!(signalled(event), 1, "vector {vector} is masked still");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn eventfds_of_masks_are_not_kept_for_ever() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let held = scene.more_fds();
    for action in [irq::MASK, irq::UNMASK] {
        for index in [irq::INTX, irq::MSIX] {
            for _ in 0..20 {
                let event = event();
                peer.tolerates(&set_irqs(irq::EVENTFD | action, index, 0, 1, &[]), &[event.as_fd()]);
            }
        }
    }
    // One for each of four combinations at the most.
    assert!(vmm_integration::poll_until(vmm_integration::LIMIT, || scene.more_fds() <= held + 4));
    drop(peer);
    scene.unharmed();
}

#[test]
fn as_many_descriptors_as_linux_carries_do_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let mut tracer = Tracer::new();
    let fds = vec![tracer.fd(); MAX_FDS];
    peer.tolerates(&set_irqs(ASSIGN, irq::MSIX, 0, u32::try_from(MAX_FDS).unwrap(), &[]), &fds);
    drop(fds);
    tracer.closed();
    drop(peer);
    scene.unharmed();
}

#[test]
fn sixteen_descriptors_come_in_one_message_whatever_was_agreed() {
    let scene = Scene::scratch();
    let mut peer = scene.stranger();
    peer.negotiate_with("{\"capabilities\": {\"max_msg_fds\": 1}}");
    let events = events(VECTORS as usize);
    peer.ok_with(&set_irqs(ASSIGN, irq::MSIX, 0, VECTORS, &[]), &borrow(&events));
    peer.ok(&set_irqs(FIRE, irq::MSIX, 0, VECTORS, &[]));
    assert!(events.iter().all(|event| signalled(event) == 1));
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_argsz_of_set_irqs_that_is_wrong_does_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    for argsz in [0, 1, 19, 21, 4096, u32::MAX] {
        let body = Body::new().u32(argsz).u32(FIRE).u32(irq::MSIX).u32(0).u32(0);
        peer.tolerates(&Message::command(command::DEVICE_SET_IRQS, body), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn interrupts_are_gone_with_their_client() {
    let scene = Scene::scratch();
    let (peer, events) = assigned(&scene);
    drop(peer);
    let mut next = scene.peer();
    for vector in 0..VECTORS {
        next.tolerates(&set_irqs(FIRE, irq::MSIX, vector, 1, &[]), &[]);
    }
    assert!(events.iter().all(|event| count(event) == 0), "an interrupt went to a client that has gone");
    drop(next);
    scene.unharmed();
}
