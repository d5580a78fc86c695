//! The socket for the server's own commands: as much a stranger's as the first.

use std::os::unix::net::UnixStream;

use serde_json::Value;
use vmm_integration::vfio_user::fds::Tracer;
use vmm_integration::vfio_user::payload::{dma_unmap, get_info, qemu_version, scratch_start};
use vmm_integration::vfio_user::peer::expect_dma;
use vmm_integration::vfio_user::{DmaMap, Header, Memory, Message, Peer, Scene, flags};

const OFFER: &str = "{\"capabilities\": {\"max_msg_fds\": 8, \"twin_socket\": {\"supported\": true}}}";

/// A client with two sockets and memory that is reached by messages.
#[track_caller]
fn twins(scene: &Scene) -> (Peer, Peer) {
    let mut peer = scene.stranger();
    let reply = peer.negotiate_with(OFFER);
    let text: Value = serde_json::from_slice(&reply[4..reply.len() - 1]).unwrap();
    let twin = &text["capabilities"]["twin_socket"];
    assert_eq!((twin["supported"].as_bool(), twin["fd_index"].as_u64()), (Some(true), Some(0)), "{text}");
    let mut fds = peer.take_fds();
    assert_eq!(fds.len(), 1);
    peer.ok(&DmaMap::new(0, 4096).message());
    (peer, Peer::over(UnixStream::from(fds.remove(0))).unwrap())
}

/// Has the device read: the command, and the question, which comes by the second socket.
#[track_caller]
fn asked(peer: &mut Peer, twin: &mut Peer) -> (Header, Message) {
    let started = peer.begin(&scratch_start(0, 1, 64), &[]);
    let question = twin.message();
    assert_eq!(expect_dma(&question), (0, 64));
    (started, question)
}

#[test]
fn questions_and_answers_go_over_it() {
    let scene = Scene::scratch();
    let (mut peer, mut twin) = twins(&scene);
    for size in [1, 7, 16, 96] {
        let (started, question) = asked(&mut peer, &mut twin);
        peer.in_step();
        let answer = Memory::new(0, 64).answer(&question).encode();
        twin.send_pieces(&answer, size, &[]);
        assert!(peer.outcome(&started).is_ok());
    }
    drop((peer, twin));
    scene.unharmed();
}

#[test]
fn it_is_gone_and_nothing_waits_for_it() {
    let scene = Scene::scratch();
    let (mut peer, mut twin) = twins(&scene);
    let (started, _) = asked(&mut peer, &mut twin);
    drop(twin);
    // The access fails, or the connection ends.
    if let Some(reply) = peer.next_message() {
        assert!(reply.header.id == started.id && reply.errno().is_some(), "{reply:?}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn it_is_gone_before_it_was_used() {
    let scene = Scene::scratch();
    let (mut peer, twin) = twins(&scene);
    drop(twin);
    peer.send(&scratch_start(0, 1, 64));
    if let Some(reply) = peer.next_message() {
        assert!(reply.errno().is_some(), "{reply:?}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn it_takes_no_commands() {
    let scene = Scene::scratch();
    for message in [get_info(), qemu_version(), scratch_start(0, 1, 64), Message::command(999, [])] {
        let (mut peer, mut twin) = twins(&scene);
        twin.send(&message);
        // Refused over this socket, or the end of both; not done.
        if let Some(reply) = twin.next_message() {
            assert!(reply.errno().is_some(), "{reply:?}");
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn its_garbage_is_garbage() {
    let scene = Scene::scratch();
    for message in [
        get_info().size(3).flags(flags::REPLY),
        get_info().size(u32::MAX).flags(flags::REPLY),
        get_info().flags(7),
        Message::command(11, vec![0; 80]).flags(flags::REPLY),
    ] {
        let (mut peer, mut twin) = twins(&scene);
        twin.send(&message);
        twin.finish_sending();
        while twin.next_message().is_some() {}
        // Both are one connection.
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn half_an_answer_over_it_goes_with_its_client() {
    let mut scene = Scene::scratch();
    for cut in [1, 15, 16, 40, 95] {
        let (mut peer, mut twin) = twins(&scene);
        let (_, question) = asked(&mut peer, &mut twin);
        let mut tracer = Tracer::new();
        twin.send_bytes(&Memory::new(0, 64).answer(&question).encode()[..cut], &[tracer.fd()]);
        // Half an answer there holds up nothing here.
        peer.in_step();
        drop((peer, twin));
        tracer.closed();
        scene.well();
    }
    scene.unharmed();
}

#[test]
fn an_answer_by_the_other_socket_is_no_answer() {
    let scene = Scene::scratch();
    let (mut peer, mut twin) = twins(&scene);
    let (started, question) = asked(&mut peer, &mut twin);
    let answer = Memory::new(0, 64).answer(&question);
    peer.send(&answer);
    twin.send(&answer);
    if let Some(reply) = peer.next_message() {
        assert_eq!((reply.header.id, reply.errno()), (started.id, None));
        peer.in_step();
    }
    drop((peer, twin));
    scene.unharmed();
}

#[test]
fn descriptors_over_it_are_closed() {
    let scene = Scene::scratch();
    let (mut peer, mut twin) = twins(&scene);
    let mut tracer = Tracer::new();
    let (_, question) = asked(&mut peer, &mut twin);
    twin.send_with(&Memory::new(0, 64).answer(&question), &[tracer.fd(); 8]);
    let _ = peer.next_message();
    tracer.closed();
    drop((peer, twin));
    scene.unharmed();
}

#[test]
fn memory_that_is_taken_back_needs_no_answer_over_it() {
    let scene = Scene::scratch();
    let (mut peer, mut twin) = twins(&scene);
    let (started, question) = asked(&mut peer, &mut twin);
    let unmap = peer.begin(&dma_unmap(0, 0, 4096), &[]);
    let mut replies = [peer.message(), peer.message()];
    replies.sort_by_key(|reply| reply.header.id);
    assert_eq!((replies[0].header.id, replies[1].header.id), (started.id, unmap.id));
    twin.send(&Memory::new(0, 64).answer(&question));
    peer.tolerates(&get_info(), &[]);
    drop((peer, twin));
    scene.unharmed();
}

#[test]
fn the_first_socket_goes_and_takes_it_along() {
    let scene = Scene::scratch();
    let (peer, mut twin) = twins(&scene);
    drop(peer);
    assert!(twin.next_message().is_none());
    drop(twin);
    scene.unharmed();
}

#[test]
fn it_is_never_read() {
    let mut scene = Scene::scratch();
    let (mut peer, twin) = twins(&scene);
    let burst = scratch_start(0, 1, 4096).no_reply().encode().repeat(500);
    // More questions than the second socket holds.
    peer.stuff(&burst);
    scene.monitor_answers();
    drop((peer, twin));
    scene.unharmed();
}
