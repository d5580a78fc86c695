//! Clients that let a server wait: it waits for a while, and not at anybody's cost. With the library alone, whose deadlines
//! can be short.

use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmm_integration::LIMIT;
use vmm_integration::vfio_user::fds::{Tracer, guest_memory};
use vmm_integration::vfio_user::payload::{get_info, qemu_version, region_read, region_write, scratch_start};
use vmm_integration::vfio_user::server::Device;
use vmm_integration::vfio_user::{DmaMap, MAX_TRANSFER, Memory, Peer, Scene, Server, errno};

const DEADLINE: Duration = Duration::from_millis(150);

#[track_caller]
fn scene(options: &[&str]) -> Scene {
    Scene::over(Server::library(&[Device::Scratch], options))
}

/// Sends these bytes one at a time, a little apart, which is what such a client does; whether it was cut off meanwhile.
#[track_caller]
fn drip(peer: &mut Peer, bytes: &[u8]) -> bool {
    let start = Instant::now();
    for byte in bytes {
        peer.send_bytes(&[*byte], &[]);
        sleep(Duration::from_millis(10));
        let pause = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = poll(&mut [PollFd::new(&peer, PollFlags::RDHUP)], Some(&pause)) == Ok(1);
        if gone || start.elapsed() > LIMIT {
            return gone;
        }
    }
    false
}

#[test]
fn silence_after_the_connect_ends_it() {
    let scene = scene(&["negotiation-ms=500"]);
    let start = Instant::now();
    let mut peer = scene.stranger();
    peer.ended();
    assert!(start.elapsed() >= DEADLINE.mul_f64(0.9), "after {:?} already", start.elapsed());
    drop(peer);
    scene.unharmed();
}

#[test]
fn silence_in_the_middle_of_version_ends_the_connection() {
    let scene = scene(&["negotiation-ms=500"]);
    let bytes = qemu_version().encode();
    for cut in [1, 15, 16, 20, bytes.len() - 1] {
        let mut tracer = Tracer::new();
        let mut peer = scene.stranger();
        peer.send_bytes(&bytes[..cut], &[tracer.fd()]);
        peer.ended();
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn a_version_that_drips_is_cut_off() {
    let scene = scene(&["negotiation-ms=500"]);
    let mut peer = scene.stranger();
    assert!(drip(&mut peer, &qemu_version().encode()), "every byte has bought it time");
    drop(peer);
    scene.unharmed();
}

#[test]
fn silence_in_the_middle_of_a_message_ends_the_connection() {
    let scene = scene(&["stall-ms=400"]);
    let bytes = region_write(0, 0, &[1; 64]).encode();
    for cut in [1, 15, 16, 32, bytes.len() - 1] {
        let mut peer = scene.peer();
        peer.send_bytes(&bytes[..cut], &[]);
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_message_that_drips_is_cut_off() {
    let scene = scene(&["stall-ms=400"]);
    let mut peer = scene.peer();
    assert!(drip(&mut peer, &region_write(0, 0, &[1; 4096]).encode()), "every byte has bought it time");
    drop(peer);
    scene.unharmed();
}

#[test]
fn replies_that_are_not_read_end_the_connection() {
    let scene = scene(&["stall-ms=400"]);
    let mut peer = scene.peer();
    peer.stuff(&region_read(0, 0, MAX_TRANSFER).encode().repeat(10));
    // It is still there, and does nothing; the server has let go of it.
    scene.await_more_fds(0);
    while peer.next_message().is_some() {}
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_client_with_nothing_to_say_may_stay() {
    let scene = scene(&["negotiation-ms=500", "stall-ms=400", "reply-ms=150"]);
    let mut peer = scene.peer();
    let pause = Timespec::try_from(DEADLINE * 4).unwrap();
    let ended = poll(&mut [PollFd::new(&peer, PollFlags::IN | PollFlags::RDHUP)], Some(&pause));
    assert_eq!(ended, Ok(0), "it was dropped, or something came");
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_question_that_is_never_answered_is_an_error() {
    let scene = scene(&["reply-ms=150"]);
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(0, 4096).message());
    for _ in 0..2 {
        let started = peer.begin(&scratch_start(0, 1, 64), &[]);
        let question = peer.next_message().unwrap();
        assert!(!question.is_reply(), "{question:?}");
        let reply = peer.next_message().unwrap();
        assert_eq!(reply.header.id, started.id);
        assert!(reply.errno().is_some_and(|errno| errno != 0), "{reply:?}");
        // Too late, and for nobody.
        let answer = Memory::new(0, 64).answer(&question);
        peer.send(&answer);
        peer.tolerates(&get_info(), &[]);
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn half_an_answer_is_no_answer() {
    let scene = scene(&["reply-ms=150", "stall-ms=400"]);
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(0, 4096).message());
    peer.begin(&scratch_start(0, 1, 64), &[]);
    let answer = Memory::new(0, 64).answer(&peer.message()).encode();
    peer.send_bytes(&answer[..answer.len() - 1], &[]);
    while peer.next_message().is_some() {}
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_next_in_the_queue_is_served_once_a_silent_one_was_dropped() {
    let mut scene = scene(&["negotiation-ms=500"]);
    let silent = scene.stranger();
    let mut next = scene.server().stranger(0);
    next.negotiate();
    next.in_step();
    drop((silent, next));
    scene.unharmed();
}

#[test]
fn a_limit_of_maps_holds() {
    let scene = scene(&["maps=4"]);
    let mut peer = scene.peer();
    let memory = guest_memory(4096);
    for n in 0..4 {
        peer.ok_with(&DmaMap::new(n * 4096, 4096).message(), &[memory.as_fd()]);
    }
    let fifth = DmaMap::new(4 * 4096, 4096).message();
    assert_eq!(peer.refused_with(&fifth, &[memory.as_fd()]), errno::ENOSPC);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_limit_of_mapped_bytes_holds() {
    let scene = scene(&["mapped-bytes=8192"]);
    let mut peer = scene.peer();
    let memory = guest_memory(16_384);
    assert_eq!(peer.refused_with(&DmaMap::new(0, 8193).message(), &[memory.as_fd()]), errno::ENOSPC);
    peer.ok_with(&DmaMap::new(0, 8192).message(), &[memory.as_fd()]);
    assert_eq!(peer.refused_with(&DmaMap::new(8192, 1).message(), &[memory.as_fd()]), errno::ENOSPC);
    drop(peer);
    scene.unharmed();
}
