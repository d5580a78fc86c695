//! The protocol, command by command, as a client sees it.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests may panic")]

mod protocol_support;

use protocol_support::*;
use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

#[test]
fn reads_and_writes_are_answered_in_order_and_in_full() {
    let mut link = Link::new();
    let mut burst = read(10, 0, 100, 4);
    burst.extend(write(11, 0, 0, 5, &[1, 2, 3]));
    burst.extend(write(12, NO_REPLY, 0, 6, &[9]));
    burst.extend(read(10, 7, 0, 256));
    link.send(&burst);
    let replies = link.replies();
    assert_eq!(
        replies.iter().map(|reply| (reply.id, reply.command)).collect::<Vec<_>>(),
        [(10, 9), (11, 10), (10, 9)]
    );
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
    for byte in [read(1, 0, 0, 8), write(2, 0, 0, 0, &[7; 40])].concat() {
        link.send(&[byte]);
    }
    assert_eq!(link.replies().len(), 2);
    assert!(!link.session.has_partial_message());
}

#[test]
fn the_largest_accesses_pass() {
    let mut link = Link::new();
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| at as u8 ^ (at >> 8) as u8).collect();
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
    assert!(matches!(session.step(target), Ok(Step::Executed { .. })));
    assert_eq!(session.step(target), Ok(Step::NeedInput));
    assert!(session.peer().is_some());
}
