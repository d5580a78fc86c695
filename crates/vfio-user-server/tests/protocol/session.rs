//! Negotiation, framing, and what ends a connection.

use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

use crate::support::*;

#[test]
fn reads_and_writes_are_answered_in_order_and_in_full() {
    let mut link = Link::new();
    let mut burst = read(10, 0, 100, 4);
    burst.extend(write(11, 0, 0, 5, &[1, 2, 3]));
    burst.extend(write(12, NO_REPLY, 0, 6, &[9]));
    burst.extend(read(10, 7, 0, 256));
    link.send(&burst);
    let replies = link.replies();
    let heads: Vec<_> = replies.iter().map(|reply| (reply.id, reply.command)).collect();
    assert_eq!(heads, [(10, REGION_READ), (11, REGION_WRITE), (10, REGION_READ)]);
    assert!(replies.iter().all(Message::is_ok));
    let data: Vec<u8> = (100..104).map(|at| pattern(0, at)).collect();
    assert_eq!(replies[0].payload, [bytes![100_u64, 0_u32, 4_u32], data].concat());
    assert_eq!(replies[1].payload, bytes![5_u64, 0_u32, 3_u32]);
    assert_eq!(replies[2].payload.len(), 16 + 256);
    assert_eq!(
        link.calls(),
        [
            Call::Read(0, 100, 4),
            Call::Write(0, 5, vec![1, 2, 3]),
            Call::Write(0, 6, vec![9]),
            Call::Read(7, 0, 256)
        ]
    );
}

#[test]
fn a_message_may_come_byte_by_byte() {
    let mut link = Link::new();
    let stream = [read(1, 0, 0, 8), write(2, 0, 0, 0, &[7; 40])].concat();
    for (at, byte) in stream.iter().enumerate() {
        assert_eq!(link.session.has_partial_message(), at != 0 && at != 32);
        link.send(&[*byte]);
    }
    assert_eq!(link.replies().len(), 2);
    assert!(!link.session.has_partial_message());
}

#[test]
fn the_largest_accesses_pass() {
    let mut link = Link::new();
    let data: Vec<u8> = (0..1_u32 << 20).flat_map(|at| (at >> 5).to_ne_bytes().into_iter().take(1)).collect();
    assert!(link.ask(&write(1, 0, 0, 1 << 20, &data)).is_ok());
    assert_eq!(link.calls(), [Call::Write(0, 1 << 20, data)]);
    assert_eq!(link.ask(&read(2, 0, 0, 1 << 20)).payload.len(), 16 + (1 << 20));
    assert_eq!(link.ask(&read(3, 0, 0, (1 << 20) + 1)).errno(), Errno::INVAL);
}

#[test]
fn works_with_a_trait_object() {
    let mut session = Session::default();
    let hello = version("");
    session.spare(Channel::Main)[..hello.len()].copy_from_slice(&hello);
    session.received(Channel::Main, hello.len(), []);
    let mut device = Device::default();
    let target: &mut dyn Target = &mut device;
    assert_eq!(session.step(target), Ok(Step::Executed { bytes: hello.len(), access: false }));
    assert_eq!(session.step(target), Ok(Step::NeedInput));
    assert!(session.peer().is_some());
}

#[test]
fn version_is_answered_with_what_qemu_takes() {
    let mut link = Link::default();
    assert_eq!(link.session.peer(), None);
    link.send(&version(&format!("{{\"capabilities\":{QEMU}}}")));
    let reply = link.one();
    assert!(reply.is_ok() && reply.command == VERSION && reply.fds == 0);
    assert!(16 + reply.payload.len() <= 200);
    assert_eq!(reply.payload[..4], [0; 4], "major and minor");
    assert_eq!(reply.payload.last(), Some(&0));
    assert!(!String::from_utf8_lossy(&reply.payload).contains("write_multiple"));
    let peer = link.session.peer().unwrap();
    assert_eq!((peer.max_msg_fds, peer.write_multiple, peer.twin_socket), (16, true, false));
}

#[test]
fn version_without_data_is_answered() {
    let mut link = Link::default();
    link.send(&version(""));
    assert!(link.one().is_ok());
    assert_eq!(link.session.peer().unwrap().max_msg_fds, 1);
}

#[test]
fn a_version_that_does_not_fit_is_told_so_and_ends_it() {
    for payload in
        [bytes![1_u16, 0_u16], bytes![0_u16], bytes![], [bytes![0_u16, 1_u16], b"{}".to_vec()].concat()]
    {
        let mut link = Link::default();
        let violation = link.send_bad(&message(9, VERSION, 0, &payload));
        assert!(matches!(violation, Violation::Version(_)));
        let reply = link.one();
        assert_eq!((reply.id, reply.errno()), (9, Errno::INVAL));
        assert_eq!(link.session.peer(), None);
    }
}

#[test]
fn a_version_without_reply_ends_it_silently() {
    let mut link = Link::default();
    let violation = link.send_bad(&message(9, VERSION, NO_REPLY, &bytes![0_u16, 0_u16]));
    assert!(matches!(violation, Violation::Version(_)));
    assert_eq!(link.replies(), []);
    assert_eq!(link.session.peer(), None);
}

#[test]
fn a_second_version_is_refused_and_nothing_changes() {
    let mut link = Link::new();
    let before = link.session.peer();
    assert_eq!(link.ask(&version("{}")).errno(), Errno::INVAL);
    assert_eq!(link.ask(&version("rubbish")).errno(), Errno::INVAL);
    assert_eq!(link.session.peer(), before);
    assert!(link.ask(&read(1, 0, 0, 4)).is_ok());
}

#[test]
fn a_command_before_version_is_told_so_and_ends_it() {
    for command in [0, DMA_MAP, GET_INFO, REGION_READ, DMA_READ, RESET, 99] {
        let mut link = Link::default();
        // Its header is enough: nothing waits for, or makes room for, its body.
        let mut bad = message(3, command, 0, &[0; 16]);
        bad.truncate(16);
        assert_eq!(link.send_bad(&bad), Violation::BeforeVersion(command));
        assert_eq!(link.one().errno(), Errno::INVAL);
    }
    let mut link = Link::default();
    assert_eq!(link.send_bad(&message(3, RESET, NO_REPLY, &[])), Violation::BeforeVersion(RESET));
    assert_eq!(link.replies(), []);
    let mut link = Link::default();
    assert_eq!(link.send_bad(&message(3, DMA_READ, REPLY, &[])), Violation::BeforeVersion(DMA_READ));
    assert_eq!(link.replies(), [], "a reply is not answered");
}

#[test]
fn sizes_and_types_that_cannot_be_end_it() {
    let header = |size: u32, flags: u32| bytes![1_u16, REGION_READ, size, flags, 0_u32];
    for size in [0, 1, 15, (1 << 20) + 32 + 4096 + 1, u32::MAX] {
        let mut link = Link::new();
        assert_eq!(link.send_bad(&header(size, 0)), Violation::Size(size));
        assert!(link.session.holds().0 < 1 << 20, "nothing is allocated");
    }
    for bits in 2..16 {
        let mut link = Link::new();
        assert_eq!(link.send_bad(&header(32, bits)), Violation::Type(bits));
    }
    let mut link = Link::default();
    let long = bytes![1_u16, VERSION, 20 + 16 * 1024 + 1_u32, 0_u32, 0_u32];
    assert!(matches!(link.send_bad(&long), Violation::Size(_)));
}

#[test]
fn what_came_before_a_violation_is_answered() {
    let mut link = Link::new();
    let stream = [read(1, 0, 0, 4), write(2, 0, 0, 0, &[1]), vec![0xff; 40]].concat();
    assert!(matches!(link.send_bad(&stream), Violation::Type(15)));
    assert_eq!(link.replies().len(), 2);
}

#[test]
fn unknown_and_unagreed_commands_fail_and_the_stream_stays_in_step() {
    let mut link = Link::new();
    for command in [0, DMA_READ, DMA_WRITE, 14, 15, 16, 17, 18, 19, 0x7fff, 0xffff] {
        for size in [0, 8, 16, 100, 70_000] {
            let reply = link.ask(&message(command, command, 0, &vec![0xab; size]));
            assert_eq!((reply.id, reply.command, reply.errno()), (command, command, Errno::OPNOTSUPP));
        }
    }
    assert!(link.ask(&read(1, 0, 0, 4)).is_ok());
    assert_eq!(link.calls(), [Call::Read(0, 0, 4)]);
}

#[test]
fn nothing_is_said_to_a_command_that_wants_no_reply() {
    let mut link = Link::new();
    let mut stream = Vec::new();
    for command in 0..20 {
        if command != VERSION {
            stream.extend(message(1, command, NO_REPLY, &[]));
        }
        stream.extend(message(1, command, NO_REPLY, &[0; 32]));
    }
    stream.extend(message(1, REGION_READ, NO_REPLY, &bytes![0_u64, 0_u32, 4_u32]));
    stream.extend(message(1, GET_INFO, NO_REPLY, &bytes![16_u32, 0_u32, 0_u32, 0_u32]));
    stream.extend(message(1, REGION_INFO, NO_REPLY, &bytes![32_u32, 0_u32, 4_u32, 0_u32, 0_u64, 0_u64]));
    link.send(&stream);
    assert_eq!(link.replies(), []);
    let calls = link.calls();
    assert!(calls.contains(&Call::Read(0, 0, 4)), "it is executed all the same: {calls:?}");
    assert!(link.session.counters().errors > 20);
}

#[test]
fn other_flags_are_ignored() {
    let mut link = Link::new();
    assert!(link.ask(&message(1, REGION_READ, 0xffff_ffe0, &bytes![0_u64, 0_u32, 4_u32])).is_ok());
}

#[test]
fn counters_count() {
    let mut link = Link::new();
    link.send(&[read(1, 0, 0, 4), write(2, 0, 0, 0, &[1, 2]), read(3, 8, 0, 4), read(4, 0, 0, 0)].concat());
    let counters = link.session.counters();
    assert_eq!((counters.commands, counters.errors), (5, 1));
    assert_eq!((counters.reads, counters.read_bytes), (2, 4));
    assert_eq!((counters.writes, counters.written_bytes), (1, 2));
}

#[test]
fn output_that_is_not_read_stops_the_work_and_then_the_reading() {
    let mut link = Link::new();
    // 20 MiB of replies are asked for at once.
    let burst: Vec<u8> = (0..20).flat_map(|id| read(id, 0, 0, 1 << 20)).collect();
    link.put(Channel::Main, &burst, Vec::new());
    assert_eq!(link.work(), Ok(Step::Blocked));
    assert_eq!(link.session.counters().reads, 1, "one reply of any size passes");
    assert!(link.session.spare(Channel::Main).is_empty() && !link.session.wants_input(Channel::Main));
    let mut replies = link.replies();
    while link.work() == Ok(Step::Blocked) {
        replies.extend(link.replies());
    }
    replies.extend(link.replies());
    assert_eq!(replies.iter().map(|reply| reply.id).collect::<Vec<_>>(), (0..20).collect::<Vec<_>>());
    assert!(link.session.holds().0 < 4 << 20);
}

#[test]
fn a_flood_of_commands_is_held_up_by_its_replies() {
    let mut link = Link::new();
    let burst: Vec<u8> = (0..1000).flat_map(|id| read(id, 7, 0, 256)).collect();
    let mut sent = 0;
    let mut rounds = 0;
    loop {
        let spare = link.session.spare(Channel::Main);
        if spare.is_empty() {
            break;
        }
        let count = spare.len().min(1024);
        let piece: Vec<u8> = burst.iter().copied().cycle().skip(sent % 32).take(count).collect();
        spare[..count].copy_from_slice(&piece);
        link.session.received(Channel::Main, count, []);
        sent += count;
        rounds += 1;
        assert!(rounds < 1000, "it goes on reading");
        link.work().unwrap();
    }
    assert!(link.session.holds().0 < 1 << 20);
}

#[test]
fn an_idle_session_can_give_everything_back() {
    let mut link = Link::new();
    assert!(link.ask(&read(1, 0, 0, 1 << 20)).is_ok());
    assert!(link.session.holds().0 > 1 << 20);
    link.session.trim();
    assert_eq!(link.session.holds(), (0, 0));
    assert!(link.ask(&read(1, 0, 0, 4)).is_ok());
}
