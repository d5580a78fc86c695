//! Headers, sizes and pieces.

use vmm_integration::vfio_user::fds::{Tracer, event, signalled};
use vmm_integration::vfio_user::payload::{self, u32_at};
use vmm_integration::vfio_user::peer::Choice;
use vmm_integration::vfio_user::{Body, DmaMap, MAX_TRANSFER, Message, Scene, command, flags, irq};

#[test]
fn a_size_below_the_headers_ends_the_connection() {
    let scene = Scene::edu();
    for size in 0..16 {
        let mut peer = scene.peer();
        peer.send(&payload::get_info().size(size));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_first_size_below_the_headers_ends_the_connection() {
    let scene = Scene::edu();
    for size in 0..20 {
        let mut peer = scene.stranger();
        peer.send(&payload::qemu_version().size(size));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn a_size_over_the_limit_ends_the_connection_before_anything_is_allocated() {
    let mut scene = Scene::edu();
    let before = scene.server().process().rss_kib();
    for size in [MAX_TRANSFER + 32 + 4096 + 1, 1 << 24, 1 << 31, u32::MAX] {
        for command in [command::REGION_WRITE, command::DMA_MAP, command::DEVICE_SET_IRQS, 999] {
            let mut peer = scene.peer();
            peer.send(&Message::command(command, vec![0; 64]).size(size));
            peer.ended();
        }
    }
    let grown = scene.server().process().rss_kib().saturating_sub(before);
    assert!(grown < 8 << 10, "the server has grown by {grown} KiB");
    scene.unharmed();
}

#[test]
fn the_largest_message_is_taken() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let data: Vec<u8> = (0..=u8::MAX).cycle().take(MAX_TRANSFER as usize).collect();
    peer.ok(&payload::region_write(0, 0, &data));
    assert!(peer.ok(&payload::region_read(0, 0, MAX_TRANSFER))[16..] == data[..]);
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn unknown_types_end_the_connection() {
    let scene = Scene::edu();
    for kind in 2..16 {
        let mut peer = scene.peer();
        peer.send(&payload::get_info().flags(kind));
        peer.ended();
    }
    scene.unharmed();
}

#[test]
fn replies_that_nobody_waits_for_do_no_harm() {
    let scene = Scene::edu();
    for number in 0..20 {
        for flags in [flags::REPLY, flags::REPLY | flags::ERROR] {
            let mut message = payload::get_info().flags(flags);
            message.header.command = number;
            let choice = scene.peer().tolerates(&message, &[]);
            assert!(!matches!(choice, Choice::Answered(_)), "a reply to a reply: {choice:?}");
        }
    }
    scene.unharmed();
}

#[test]
fn unknown_flags_do_no_harm() {
    let scene = Scene::edu();
    for bit in 6..32 {
        scene.peer().tolerates(&payload::get_info().flags(1 << bit), &[]);
    }
    scene.unharmed();
}

#[test]
fn a_command_that_says_error_does_no_harm() {
    let scene = Scene::edu();
    let mut message = payload::get_info().flags(flags::ERROR);
    message.header.error = 5;
    scene.peer().tolerates(&message, &[]);
    scene.unharmed();
}

#[test]
fn the_error_field_of_a_command_is_reserved() {
    let scene = Scene::edu();
    let mut message = payload::get_info();
    message.header.error = u32::MAX;
    let mut peer = scene.peer();
    assert_eq!(peer.ok(&message).len(), 16);
    drop(peer);
    scene.unharmed();
}

#[test]
fn unknown_commands_are_refused_and_their_bodies_skipped() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for number in [0, 14, 19, 20, 255, 256, 0x7fff, u16::MAX] {
        for length in [0, 1, 15, 16, 17, 4096, 100_000] {
            peer.refused(&Message::command(number, vec![0xff; length]));
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn commands_of_the_server_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for number in [command::DMA_READ, command::DMA_WRITE] {
        for length in [0, 8, 16, 32] {
            peer.refused(&Message::command(number, vec![0; length]));
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn migration_is_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for feature in 0..16_u32 {
        for action in [0, 1 << 16, 1 << 17, 1 << 18, 3 << 16, 5 << 16, 7 << 16] {
            let body = Body::new().u32(24).u32(feature | action).bytes(&[0; 24]);
            peer.refused(&Message::command(command::DEVICE_FEATURE, body));
            peer.refused(&Message::command(
                command::DEVICE_FEATURE,
                Body::new().u32(8).u32(feature | action),
            ));
        }
    }
    peer.refused(&Message::command(command::MIG_DATA_READ, Body::new().u32(8).u32(u32::MAX)));
    peer.refused(&Message::command(command::MIG_DATA_WRITE, Body::new().u32(8).u32(4).bytes(&[1; 4])));
    drop(peer);
    scene.unharmed();
}

#[test]
fn writes_in_bulk_are_refused_when_not_agreed_on() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for count in [0, 1, 2, u64::MAX] {
        let body = Body::new().u64(count).u64(0).u32(0).u32(8).u64(0);
        peer.refused(&Message::command(command::REGION_WRITE_MULTI, body));
    }
    drop(peer);
    scene.unharmed();
}

/// A valid command of each kind; the descriptor it goes with is an eventfd where it needs one.
fn valid() -> Vec<Message> {
    vec![
        payload::get_info(),
        payload::region_info(7, 32),
        payload::irq_info(irq::INTX),
        payload::region_io_fds(0, 16),
        payload::set_irqs(irq::NONE | irq::TRIGGER, irq::INTX, 0, 0, &[]),
        payload::set_irqs(irq::BOOL | irq::TRIGGER, irq::INTX, 0, 1, &[1]),
        payload::region_read(7, 0, 4),
        payload::region_write(7, 0x3c, &[1]),
        DmaMap::new(0, 4096).message(),
        payload::dma_unmap(0, 0, 4096),
        payload::reset(),
    ]
}

#[test]
fn every_command_may_be_cut_anywhere() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for message in valid() {
        let whole = peer.call(&message);
        let whole = whole.map(|body| body.len());
        // Do it again, to come to the same state.
        for cut in 1..message.encode().len() {
            if message.header.command == command::DMA_MAP {
                peer.ok(&payload::dma_unmap(0, 0, 4096));
            } else if message.header.command == command::DMA_UNMAP {
                peer.ok(&DmaMap::new(0, 4096).message());
            }
            let bytes = message.encode();
            peer.send_bytes(&bytes[..cut], &[]);
            peer.send_bytes(&bytes[cut..], &[]);
            let reply = peer.message();
            let got = reply.errno().map_or(Ok(reply.body.len()), Err);
            assert_eq!(got, whole, "{message:?} cut at {cut}");
        }
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn every_command_may_come_byte_by_byte() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for message in valid() {
        peer.send_pieces(&message.encode(), 1, &[]);
        let reply = peer.message();
        assert_eq!(reply.header.command, message.header.command);
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_cut_command_keeps_the_descriptor_of_its_first_byte() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let bytes = payload::set_irqs(irq::EVENTFD | irq::TRIGGER, irq::INTX, 0, 1, &[]).encode();
    for size in 1..bytes.len() {
        let event = event();
        peer.send_pieces(&bytes, size, &[std::os::fd::AsFd::as_fd(&event)]);
        assert_eq!(peer.message().errno(), None, "in pieces of {size}");
        peer.ok(&payload::set_irqs(irq::NONE | irq::TRIGGER, irq::INTX, 0, 1, &[]));
        assert_eq!(signalled(&event), 1, "in pieces of {size}");
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn a_large_write_may_come_in_small_pieces() {
    let scene = Scene::scratch();
    let mut peer = scene.peer();
    let data: Vec<u8> = (0..=250).cycle().take(MAX_TRANSFER as usize).collect();
    for size in [997, 4096, 65_537, MAX_TRANSFER as usize] {
        peer.send_pieces(&payload::region_write(0, 0, &data).encode(), size, &[]);
        assert_eq!(peer.message().errno(), None, "in pieces of {size}");
        assert!(peer.ok(&payload::region_read(0, 0, MAX_TRANSFER))[16..] == data[..], "in pieces of {size}");
        peer.ok(&payload::region_write(0, 0, &[0; 4096]));
    }
    peer.in_step();
    drop(peer);
    scene.unharmed();
}

#[test]
fn many_commands_in_one_write_are_answered_in_order() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    let mut bytes = Vec::new();
    for id in 0..500 {
        bytes.extend(payload::region_read(7, u64::from(id % 64), 1).id(id).encode());
    }
    peer.send_bytes(&bytes, &[]);
    for id in 0..500 {
        let reply = peer.message();
        assert_eq!((reply.header.id, reply.errno(), reply.body.len()), (id, None, 17));
        assert_eq!(u32_at(&reply.body, 0), u32::from(id % 64));
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn ids_may_repeat_even_at_the_same_time() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for id in [0, 7, u16::MAX] {
        let bytes = payload::get_info().id(id).encode().repeat(20);
        peer.send_bytes(&bytes, &[]);
        for _ in 0..20 {
            let reply = peer.message();
            assert_eq!((reply.header.id, reply.errno(), reply.body.len()), (id, None, 16));
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn bodies_that_are_too_short_are_refused() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for message in valid().into_iter().filter(|message| !message.body.is_empty()) {
        for length in 0..message.body.len() {
            // What a write has too little of is data, what SET_IRQS has too little of are booleans: all must be there.
            let cut = Message::command(message.header.command, &message.body[..length]);
            peer.refused(&cut);
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn bodies_that_are_too_long_are_not_left_in_the_stream() {
    let scene = Scene::edu();
    let mut peer = scene.peer();
    for message in valid() {
        for more in [1, 3, 8, 16, 100, 4096] {
            let body = [&message.body[..], &vec![0xff; more]].concat();
            let choice = peer.tolerates(&Message::command(message.header.command, body), &[]);
            assert!(matches!(choice, Choice::Answered(_)), "{choice:?} for {more} more of {message:?}");
        }
    }
    drop(peer);
    scene.unharmed();
}

#[test]
fn half_a_message_and_then_nothing_disturbs_nobody() {
    let mut scene = Scene::edu();
    let bytes = payload::region_write(7, 0x3c, &[1]).encode();
    for cut in 1..bytes.len() {
        let mut tracer = Tracer::new();
        let mut peer = scene.peer();
        peer.send_bytes(&bytes[..cut], &[tracer.fd()]);
        scene.monitor_answers();
        drop(peer);
        tracer.closed();
    }
    scene.unharmed();
}
