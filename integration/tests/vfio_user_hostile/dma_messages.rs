//! `DMA_READ` and `DMA_WRITE`: the server asks its client, and the client answers as it likes, or not at all.

use std::os::fd::AsFd;

use vmm_integration::vfio_user::fds::{Tracer, guest_memory};
use vmm_integration::vfio_user::payload::{
    READ, UNMAP_ALL, dma_unmap, get_info, region_read, region_write, reset, scratch_start, u64_at,
};
use vmm_integration::vfio_user::peer::expect_dma;
use vmm_integration::vfio_user::{Body, DmaMap, Header, Memory, Message, Peer, Scene, command, flags};

const PAGE: u64 = 4096;
const IOVA: u64 = 0x10_0000;
const SIZE: u64 = 16 * PAGE;

/// A client whose memory is reached by messages only.
#[track_caller]
fn remote(scene: &Scene) -> Peer {
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(IOVA, SIZE).message());
    peer
}

/// Has the device read 64 bytes: the command that started it, and the server's question.
#[track_caller]
fn asked(peer: &mut Peer) -> (Header, Message) {
    let started = peer.begin(&scratch_start(IOVA, 1, 64), &[]);
    let question = peer.message();
    assert_eq!(question.header.command, command::DMA_READ);
    assert_eq!(expect_dma(&question), (IOVA, 64));
    (started, question)
}

fn honest(question: &Message) -> Message {
    Memory::new(IOVA, 64).answer(question)
}

/// What must come of an answer that is none: the access fails, or the connection ends.
#[track_caller]
fn spoilt(answers: impl Fn(&Message) -> Vec<Message>) {
    let scene = Scene::scratch();
    let number = {
        let mut peer = remote(&scene);
        let (_, question) = asked(&mut peer);
        answers(&question).len()
    };
    for number in 0..number {
        let mut peer = remote(&scene);
        let (started, question) = asked(&mut peer);
        let answer = answers(&question).swap_remove(number);
        peer.send(&answer);
        let probe = peer.begin(&get_info(), &[]);
        let mut access = None;
        let mut probed = false;
        while access.is_none() || !probed {
            let Some(message) = peer.next_message() else { break };
            if message.header.id == probe.id {
                probed = true;
            } else {
                assert_eq!(message.header.id, started.id, "answer {number}: {message:?}");
                assert!(message.errno().is_some(), "taken for an answer: {answer:02x?}");
                access = message.errno();
            }
        }
    }
    scene.unharmed();
}

#[test]
fn the_client_is_asked_and_the_access_waits_for_it() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    for length in [1, 64, 4096, 65_536] {
        let mut memory = Memory::new(IOVA, usize::try_from(SIZE).unwrap());
        let started = peer.begin(&scratch_start(IOVA, 3, length), &[]);
        assert!(memory.serve(&mut peer, &started).is_ok());
        assert!(memory.served >= 3);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn the_client_is_served_while_the_server_waits_for_it() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    let (started, question) = asked(&mut peer);
    // Whether later commands overtake the access or wait behind it, the server does not take them for its answer.
    let probe = peer.begin(&get_info(), &[]);
    peer.send(&honest(&question));
    let mut replies = [peer.message(), peer.message()];
    replies.sort_by_key(|reply| reply.header.id);
    assert_eq!([replies[0].header.id, replies[1].header.id], [started.id, probe.id]);
    assert!(replies.iter().all(|reply| reply.errno().is_none()), "{replies:?}");
    drop(peer);
    scene.unharmed();
}

#[test]
fn an_answer_may_come_byte_by_byte_and_among_commands() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    for size in 1..32 {
        let (started, question) = asked(&mut peer);
        peer.send_pieces(&honest(&question).encode(), size, &[]);
        assert!(peer.outcome(&started).is_ok(), "in pieces of {size}");
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn answers_under_other_ids_are_no_answers() {
    let scene = Scene::scratch();
    for id in [1, 2, 100, 0x7fff, 0x8000, u16::MAX] {
        let mut peer = remote(&scene);
        let (started, question) = asked(&mut peer);
        let wrong = honest(&question).id(question.header.id.wrapping_add(id));
        peer.send(&wrong);
        peer.send(&honest(&question));
        // Either that was the end, or it was overlooked.
        if let Some(reply) = peer.next_message() {
            assert_eq!((reply.header.id, reply.errno()), (started.id, None));
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn answers_to_another_command_are_no_answers() {
    let scene = Scene::scratch();
    for number in [0, command::DMA_WRITE, command::REGION_READ, u16::MAX] {
        let mut peer = remote(&scene);
        let (started, question) = asked(&mut peer);
        let mut wrong = honest(&question);
        wrong.header.command = number;
        peer.send(&wrong);
        peer.send(&honest(&question));
        if let Some(reply) = peer.next_message() {
            assert_eq!(reply.header.id, started.id);
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn an_answer_echoes_its_count() {
    spoilt(|question| {
        let counts = [0, 1, 63, 65, 128, 1 << 32, (1 << 32) + 64, 1 << 63, u64::MAX];
        let answer = |count: u64| {
            Message::reply_to(&question.header, Body::new().u64(IOVA).u64(count).bytes(&[7; 64]))
        };
        counts.map(answer).to_vec()
    });
}

#[test]
fn an_answer_has_all_its_data_and_no_more() {
    spoilt(|question| {
        let lengths = [0, 1, 32, 63, 65, 4096, 65_536];
        let answer = |length| {
            Message::reply_to(&question.header, Body::new().u64(IOVA).u64(64).bytes(&vec![7; length]))
        };
        lengths.map(answer).to_vec()
    });
}

#[test]
fn an_answer_in_the_old_layout_is_no_answer() {
    // A count of 32 bits, as an early QEMU had it: its data is 4 bytes early.
    spoilt(|question| {
        vec![Message::reply_to(&question.header, Body::new().u64(IOVA).u32(64).bytes(&[7; 64]))]
    });
}

#[test]
fn an_answer_shorter_than_its_own_header_is_no_answer() {
    spoilt(|question| (0..16).map(|length| Message::reply_to(&question.header, vec![0; length])).collect());
}

#[test]
fn an_answer_echoes_its_address_or_at_least_does_no_harm() {
    let scene = Scene::scratch();
    for address in [0, IOVA + 1, u64::MAX] {
        let mut peer = remote(&scene);
        let (started, question) = asked(&mut peer);
        peer.send(&Message::reply_to(&question.header, Body::new().u64(address).u64(64).bytes(&[7; 64])));
        if let Some(reply) = peer.next_message() {
            assert_eq!(reply.header.id, started.id);
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn errors_of_the_client_are_errors_of_the_access() {
    spoilt(|question| {
        [1, 19, 14, 22, 133, 4095].map(|errno| Message::error_to(&question.header, errno)).to_vec()
    });
}

#[test]
fn an_error_without_an_errno_is_an_error() {
    spoilt(|question| {
        let odd = [0, 4096, 1 << 31, u32::MAX];
        odd.map(|errno| Message::error_to(&question.header, errno)).to_vec()
    });
}

#[test]
fn an_error_with_data_is_an_error() {
    spoilt(|question| {
        let mut answer = honest(question).flags(flags::REPLY | flags::ERROR);
        answer.header.error = 5;
        vec![answer]
    });
}

#[test]
fn an_answer_that_comes_twice_counts_once() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    let (started, question) = asked(&mut peer);
    let answer = honest(&question).encode();
    peer.send_bytes(&answer.repeat(3), &[]);
    assert!(peer.outcome(&started).is_ok());
    // The others are for nobody: overlooked, or the end.
    peer.tolerates(&get_info(), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn answers_to_no_question_do_no_harm() {
    let scene = Scene::scratch();
    for id in [0, 1, 2, u16::MAX] {
        for number in [command::DMA_READ, command::DMA_WRITE] {
            let mut peer = remote(&scene);
            let header = Header { id, command: number, size: 16, flags: 0, error: 0 };
            let answer = Message::reply_to(&header, Body::new().u64(IOVA).u64(64).bytes(&[7; 64]));
            peer.send_bytes(&answer.encode().repeat(20), &[]);
            peer.tolerates(&get_info(), &[]);
        }
    }
    scene.unharmed();
}

#[test]
fn descriptors_of_an_answer_are_closed() {
    let scene = Scene::scratch();
    for count in [1, 8, 64] {
        let mut peer = remote(&scene);
        let (_, question) = asked(&mut peer);
        let mut tracer = Tracer::new();
        peer.send_with(&honest(&question), &vec![tracer.fd(); count]);
        let _ = peer.next_message();
        tracer.closed();
    }
    scene.unharmed();
}

#[test]
fn memory_that_is_taken_back_while_the_server_waits_ends_the_wait() {
    let scene = Scene::scratch();
    for all in [false, true] {
        let mut peer = remote(&scene);
        let (started, question) = asked(&mut peer);
        let message = if all { dma_unmap(UNMAP_ALL, 0, 0) } else { dma_unmap(0, IOVA, SIZE) };
        let unmap = peer.begin(&message, &[]);
        // The access fails, or waits for an answer that still comes; the unmap is answered in either case.
        peer.send(&honest(&question));
        let mut ids = [peer.message().header.id, peer.message().header.id];
        ids.sort_unstable();
        assert_eq!(ids, [started.id, unmap.id]);
        peer.refused(&scratch_start(IOVA, 1, 64));
    }
    scene.unharmed();
}

#[test]
fn memory_that_is_taken_back_needs_no_answer_any_more() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    let (started, question) = asked(&mut peer);
    let unmap = peer.begin(&dma_unmap(0, IOVA, SIZE), &[]);
    // The client never answers: once it has taken the memory back it need not.
    let mut replies = [peer.message(), peer.message()];
    replies.sort_by_key(|reply| reply.header.id);
    assert_eq!((replies[0].header.id, replies[1].header.id), (started.id, unmap.id));
    assert!(replies[0].errno().is_some() && replies[1].errno().is_none(), "{replies:?}");
    // Late, and for nobody.
    peer.send(&honest(&question));
    peer.tolerates(&get_info(), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_reset_ends_the_wait() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    let (started, question) = asked(&mut peer);
    let again = peer.begin(&reset(), &[]);
    peer.send(&honest(&question));
    let mut ids = [peer.message().header.id, peer.message().header.id];
    ids.sort_unstable();
    assert_eq!(ids, [started.id, again.id]);
    peer.tolerates(&get_info(), &[]);
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_client_that_goes_instead_of_answering_leaves_nothing() {
    let mut scene = Scene::scratch();
    for cut in [0, 1, 15, 16, 17, 32, 60, 95] {
        let mut peer = remote(&scene);
        let (_, question) = asked(&mut peer);
        peer.send_bytes(&honest(&question).encode()[..cut], &[]);
        drop(peer);
        scene.well();
    }
    scene.unharmed();
}

#[test]
fn the_next_client_is_not_asked_for_the_one_before() {
    let scene = Scene::scratch();
    let mut peer = remote(&scene);
    let (_, question) = asked(&mut peer);
    drop(peer);
    let mut next = remote(&scene);
    next.in_step();
    next.send(&honest(&question));
    next.tolerates(&get_info(), &[]);
    drop(next);
    scene.unharmed();
}

#[test]
fn a_clients_limit_cuts_the_servers_questions() {
    let scene = Scene::scratch();
    for limit in [4096, 1000, 64] {
        let mut peer = scene.stranger();
        peer.negotiate_with(&format!("{{\"capabilities\": {{\"max_data_xfer_size\": {limit}}}}}"));
        peer.ok(&DmaMap::new(IOVA, SIZE).message());
        let mut memory = Memory::new(IOVA, usize::try_from(SIZE).unwrap());
        let started = peer.begin(&scratch_start(IOVA, 1, 10_000), &[]);
        assert!(memory.serve(&mut peer, &started).is_ok());
        assert!(memory.largest <= limit, "asked for {} bytes", memory.largest);
        assert!(memory.served as u64 >= 10_000 / limit);
    }
    scene.unharmed();
}

#[test]
fn a_limit_of_nothing_does_no_harm() {
    let scene = Scene::scratch();
    for limit in [0, 1] {
        let mut peer = scene.stranger();
        let text = format!("{{\"capabilities\": {{\"max_data_xfer_size\": {limit}}}}}\0");
        let version = vmm_integration::vfio_user::payload::version(0, 1, text);
        if peer.call(&version).is_err() {
            continue;
        }
        peer.ok(&DmaMap::new(IOVA, SIZE).message());
        let mut memory = Memory::new(IOVA, 64);
        let started = peer.begin(&scratch_start(IOVA, 1, 64), &[]);
        let _ = memory.serve(&mut peer, &started);
        assert!(memory.largest <= limit, "asked for {} bytes", memory.largest);
    }
    scene.unharmed();
}

#[test]
fn memory_without_permission_is_not_asked_for() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    peer.ok(&DmaMap::new(IOVA, SIZE).flags(2).message());
    peer.refused(&scratch_start(IOVA, 1, 64));
    peer.ok(&dma_unmap(0, IOVA, SIZE));
    peer.ok(&DmaMap::new(IOVA, SIZE).flags(READ).message());
    let (started, question) = asked(&mut peer);
    peer.send(&honest(&question));
    assert!(peer.outcome(&started).is_ok());
    drop(peer);
    scene.unharmed();
}

#[test]
fn half_by_messages_and_half_by_descriptor_does_no_harm() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let file = guest_memory(PAGE);
    peer.ok_with(&DmaMap::new(IOVA, PAGE).message(), &[file.as_fd()]);
    peer.ok(&DmaMap::new(IOVA + PAGE, PAGE).message());
    let mut memory = Memory::new(IOVA + PAGE, 4096);
    let started = peer.begin(&scratch_start(IOVA + PAGE - 64, 1, 128), &[]);
    let _ = memory.serve(&mut peer, &started);
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

/// Starts edu's DMA from its buffer to memory, and returns the server's question.
#[track_caller]
fn edu_asks(peer: &mut Peer, length: u64) -> Message {
    peer.ok(&region_write(7, 4, &6_u16.to_le_bytes()));
    for (register, value) in [(0x80, 0x40000), (0x88, IOVA), (0x90, length)] {
        peer.ok(&region_write(0, register, &Vec::from(Body::new().u64(value))));
    }
    let start = peer.begin(&region_write(0, 0x98, &Vec::from(Body::new().u64(1 | 2))), &[]);
    let mut messages = [peer.message(), peer.message()];
    messages.sort_by_key(Message::is_reply);
    let [question, reply] = messages;
    assert_eq!((reply.header.id, reply.errno()), (start.id, None));
    assert_eq!(question.header.command, command::DMA_WRITE);
    assert_eq!(
        (u64_at(&question.body, 0), question.body.len()),
        (IOVA, 16 + usize::try_from(length).unwrap())
    );
    question
}

#[test]
fn answers_to_a_write_of_any_shape_do_no_harm() {
    let scene = Scene::edu();
    let shapes: [fn(&Header) -> Message; 8] = [
        |to| Message::reply_to(to, Body::new().u64(IOVA).u64(64)),
        |to| Message::reply_to(to, Body::new().u64(IOVA).u32(64)),
        |to| Message::reply_to(to, []),
        |to| Message::reply_to(to, Body::new().u64(IOVA).u64(63)),
        |to| Message::reply_to(to, Body::new().u64(IOVA).u64(u64::MAX)),
        |to| Message::reply_to(to, Body::new().u64(IOVA).u64(64).bytes(&[0; 64])),
        |to| Message::error_to(to, 14),
        |to| Message::error_to(to, 0),
    ];
    for (number, shape) in shapes.iter().enumerate() {
        let mut peer = remote(&scene);
        let question = edu_asks(&mut peer, 64);
        peer.send(&shape(&question.header));
        peer.tolerates(&region_read(0, 0, 4), &[]);
        if number == 0 {
            peer.in_step();
        }
    }
    scene.unharmed();
}

#[test]
fn a_write_that_is_never_answered_ends_with_its_client() {
    let mut scene = Scene::edu();
    for _ in 0..5 {
        let mut peer = remote(&scene);
        edu_asks(&mut peer, 4096);
        drop(peer);
        scene.well();
    }
    scene.unharmed();
}
