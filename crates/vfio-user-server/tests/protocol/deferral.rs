//! Accesses that are answered later, and what must wait for them.

use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

use crate::support::*;

fn deferring(count: usize) -> Link {
    let mut link = Link::new();
    link.device.outcomes = vec![Outcome::Deferred; count].into();
    link
}

fn ids(link: &mut Link) -> Vec<u16> {
    link.replies().iter().map(|reply| reply.id).collect()
}

fn dma_reply(id: u16, data: &[u8]) -> Vec<u8> {
    message(id, DMA_READ, REPLY, &[bytes![0_u64, data.len() as u64], data.to_vec()].concat())
}

#[test]
fn later_commands_are_answered_meanwhile() {
    let mut link = deferring(2);
    link.send(&[read(1, 0, 8, 4), write(2, 0, 0, 16, &[1, 2]), read(3, 0, 0, 1)].concat());
    assert_eq!((ids(&mut link), link.session.deferred()), (vec![3], 2));
    let tokens = link.device.tokens.clone();
    link.session.complete_write(tokens[1]);
    assert_eq!(link.one().payload, bytes![16_u64, 0_u32, 2_u32]);
    link.session.complete_read(tokens[0], b"late");
    let reply = link.one();
    assert_eq!((reply.id, reply.is_ok()), (1, true));
    assert_eq!(reply.payload, [bytes![8_u64, 0_u32, 4_u32], b"late".to_vec()].concat());
    // Once is enough.
    link.session.complete_read(tokens[0], b"late");
    link.session.fail(tokens[1], Errno::IO);
    assert_eq!((ids(&mut link), link.session.deferred()), (vec![], 0));
}

#[test]
fn they_can_fail() {
    let mut link = deferring(4);
    link.send(
        &[read(1, 0, 0, 4), write(2, 0, 0, 0, &[1]), read(3, 0, 0, 4), write(4, 0, 0, 0, &[1])].concat(),
    );
    let tokens = link.device.tokens.clone();
    link.session.fail(tokens[0], Errno::NODEV);
    assert_eq!(link.one().errno(), Errno::NODEV);
    // A device that mixes them up does not bring the client out of step.
    link.session.complete_read(tokens[1], b"x");
    link.session.complete_read(tokens[2], b"short");
    link.session.complete_write(tokens[3]);
    let replies = link.replies();
    assert_eq!((replies[0].errno(), replies[1].errno()), (Errno::IO, Errno::IO));
    assert!(replies[2].is_ok());
    assert_eq!(link.session.counters().errors, 3);
}

#[test]
fn one_without_a_reply_holds_up_every_later_command() {
    let mut link = deferring(1);
    link.send(
        &[read(0, 1, 0, 0), write(1, NO_REPLY, 0, 0, &[1]), read(2, 0, 0, 4), write(3, 0, 0, 0, &[1])]
            .concat(),
    );
    assert_eq!((link.work(), ids(&mut link)), (Ok(Step::Blocked), vec![0]));
    assert_eq!(link.calls(), [Call::Write(0, 0, vec![1])], "they have not been executed");
    link.session.complete_write(link.device.tokens[0]);
    assert_eq!((link.work(), ids(&mut link)), (Ok(Step::NeedInput), vec![2, 3]));
    // Nor is anything said if it fails.
    link.device.outcomes = [Outcome::Deferred].into();
    link.send(&[message(1, REGION_READ, NO_REPLY, &bytes![0_u64, 0_u32, 4_u32]), read(2, 0, 0, 4)].concat());
    link.session.fail(link.device.tokens[1], Errno::IO);
    assert_eq!((link.work(), ids(&mut link)), (Ok(Step::NeedInput), vec![2]));
}

#[test]
fn replies_behind_held_up_commands_are_reached() {
    // A posted write makes the device read the client's memory; the client has sent other commands before it answers.
    let mut link = deferring(1);
    link.send(&write(1, NO_REPLY, 0, 0, &[1]));
    let dma = link.session.dma_read(0, 4).unwrap();
    link.replies();
    link.calls();
    let map = map(3, 3, 0, 0, 4096);
    let file = file();
    let taker = name(&file);
    link.put(Channel::Main, &read(2, 0, 0, 4), vec![]);
    link.put(Channel::Main, &map, vec![file]);
    link.put(Channel::Main, &[dma_reply(dma, b"data"), read(4, 0, 8, 4)].concat(), vec![]);
    assert_eq!(link.work(), Ok(Step::Blocked));
    assert_eq!(link.calls(), [Call::Reply(dma, Ok(b"data".to_vec()))]);
    link.session.complete_write(link.device.tokens[0]);
    assert_eq!((link.work(), ids(&mut link)), (Ok(Step::NeedInput), vec![2, 3, 4]));
    let calls = link.calls();
    assert!(matches!(calls[1], Call::Map(_, Some(fd)) if fd == taker), "{calls:?}");
}

#[test]
fn what_is_held_up_is_bounded() {
    let mut link = deferring(1);
    link.send(&write(1, NO_REPLY, 0, 0, &[1]));
    link.session.dma_read(0, 4).unwrap();
    let mut sent = 0;
    while !link.session.spare(Channel::Main).is_empty() {
        link.put(Channel::Main, &write(sent, NO_REPLY, 0, 0, &[0; 1000]), vec![]);
        assert_eq!(link.work(), Ok(Step::Blocked));
        sent += 1;
        assert!(sent < 1000);
    }
    assert!(sent > 200, "there is room for some: {sent}");
    assert!(link.session.holds().0 < 1 << 20);
    link.calls();
    link.session.complete_write(link.device.tokens[0]);
    assert_eq!(link.work(), Ok(Step::NeedInput));
    assert_eq!(link.calls().len(), usize::from(sent));
}

#[test]
fn nothing_is_set_aside_where_no_reply_can_come() {
    let mut link = deferring(1);
    link.send(&[write(1, NO_REPLY, 0, 0, &[1]), read(2, 0, 0, 4)].concat());
    assert!(link.session.spare(Channel::Main).is_empty());
    link.session.complete_write(link.device.tokens[0]);
    assert!(!link.session.spare(Channel::Main).is_empty());
}

#[test]
fn there_are_not_too_many_at_once() {
    let mut link = deferring(400);
    let stream: Vec<u8> = (0..400).flat_map(|id| read(id, 0, 0, 4)).collect();
    link.put(Channel::Main, &stream, vec![]);
    assert_eq!((link.work(), link.session.deferred()), (Ok(Step::Blocked), 256));
    link.session.complete_read(link.device.tokens[200], b"data");
    assert_eq!(ids(&mut link), [200]);
    assert_eq!((link.work(), link.session.deferred()), (Ok(Step::Blocked), 256));
    for token in link.device.tokens.clone() {
        link.session.complete_read(token, b"data");
    }
    assert_eq!((link.work(), link.session.deferred()), (Ok(Step::NeedInput), 143));
}

#[test]
fn nor_too_many_bytes_of_them() {
    let mut link = deferring(100);
    let stream: Vec<u8> = (0..100).flat_map(|id| read(id, 0, 0, 1 << 20)).collect();
    link.put(Channel::Main, &stream, vec![]);
    assert_eq!((link.work(), link.session.deferred()), (Ok(Step::Blocked), 5));
    let data = vec![1; 1 << 20];
    link.session.complete_read(link.device.tokens[0], &data);
    assert_eq!(ids(&mut link), [0]);
    assert_eq!((link.work(), link.session.deferred()), (Ok(Step::Blocked), 5));
}
