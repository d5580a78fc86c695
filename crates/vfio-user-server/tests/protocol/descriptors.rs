//! Which message a read's descriptors go to.

use fd_closer::Received;
use vfio_user_server::protocol::*;

use crate::support::*;

/// The files of the maps and interrupts that the device was told of, in order; `None` for one without.
fn takers(link: &mut Link) -> Vec<Option<u64>> {
    link.calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Map(_, fd) => Some(fd),
            Call::Irqs { fds, .. } => Some(fds.and_then(|fds| fds.first().copied())),
            _ => None,
        })
        .collect()
}

fn named() -> (Vec<Received>, Option<u64>) {
    let file = file();
    let name = name(&file);
    (vec![file], Some(name))
}

#[test]
fn they_go_to_the_last_that_can_take_them() {
    // QEMU unmaps, maps without a file and maps with one, without waiting: one read shows it all.
    let mut link = Link::new();
    let (fds, taker) = named();
    let unmap = message(1, DMA_UNMAP, 0, &bytes![24_u32, 0_u32, 0_u64, 4096_u64]);
    link.send_fds(&[unmap, map(2, 1, 0, 0, 4096), map(3, 3, 0, 8192, 4096)].concat(), fds);
    assert_eq!(takers(&mut link), [None, taker]);
    assert_eq!(link.replies().len(), 3);
}

#[test]
fn what_cannot_take_any_does_not() {
    let mut link = Link::new();
    let (fds, taker) = named();
    let stream = [
        map(1, 3, 0, 0, 4096),
        set_irqs(2, 0x21, 2, 0, 1, &[]),
        read(3, 0, 0, 4),
        write(4, 0, 0, 0, &map(5, 3, 0, 4096, 4096)),
        message(6, SET_IRQS, 0, &[0; 4]),
        message(7, DMA_MAP, REPLY, &[0; 32]),
    ]
    .concat();
    link.send_fds(&stream, fds);
    assert_eq!(takers(&mut link), [taker, None], "a map within written data is no map");
}

#[test]
fn a_message_waits_until_it_is_known_to_be_the_last() {
    let mut link = Link::new();
    let (fds, taker) = named();
    let next = set_irqs(2, 0x24, 2, 0, 1, &[]);
    link.send_fds(&[map(1, 3, 0, 0, 4096), next[..23].to_vec()].concat(), fds);
    assert_eq!(link.replies(), [], "the flags of the next are not there");
    assert!(link.session.has_partial_message());
    link.send(&next[23..24]);
    assert_eq!(takers(&mut link), [None], "now it is known that they are not its");
    link.send(&next[24..]);
    assert_eq!(takers(&mut link), [taker]);
    // The same, but the next cannot take them.
    let (fds, taker) = named();
    let next = read(2, 0, 0, 4);
    link.send_fds(&[map(1, 3, 0, 0, 4096), next[..15].to_vec()].concat(), fds);
    assert_eq!(takers(&mut link), []);
    link.send(&next[15..16]);
    assert_eq!(takers(&mut link), [taker]);
}

#[test]
fn what_comes_before_does_not_wait() {
    let mut link = Link::new();
    let (fds, taker) = named();
    link.send_fds(&[read(1, 0, 0, 4), map(2, 3, 0, 0, 4096), vec![0; 3]].concat(), fds);
    assert_eq!(link.replies().len(), 1);
    assert_eq!(takers(&mut link), []);
    link.send(&read(0, 0, 0, 4)[3..]);
    assert_eq!(takers(&mut link), [taker]);
}

#[test]
fn a_message_that_began_earlier_does_not_get_them() {
    let mut link = Link::new();
    let (fds, taker) = named();
    let first = map(1, 3, 0, 0, 4096);
    link.send(&first[..20]);
    link.send_fds(&[first[20..].to_vec(), map(2, 3, 0, 4096, 4096)].concat(), fds);
    assert_eq!(takers(&mut link), [None, taker]);
    // Nothing begins there: they are closed.
    link.send(&first[..20]);
    link.send_fds(&first[20..], named().0);
    assert_eq!(takers(&mut link), [None]);
    assert_eq!(link.session.holds().1, 0);
}

#[test]
fn each_read_has_its_own() {
    let mut link = Link::new();
    let mut expected = Vec::new();
    for id in 0..10 {
        let (fds, taker) = named();
        link.put(Channel::Main, &[map(id, 1, 0, 0, 4096), map(id, 3, 0, 0, 4096)].concat(), fds);
        expected.extend([None, taker]);
    }
    link.work().unwrap();
    assert_eq!(takers(&mut link), expected);
}

#[test]
fn a_message_may_be_cut_behind_its_first_byte() {
    for cut in 1..48 {
        let mut link = Link::new();
        let (fds, taker) = named();
        let map = map(1, 3, 0, 0, 4096);
        link.send_fds(&map[..cut], fds);
        assert_eq!(takers(&mut link), []);
        link.send(&map[cut..]);
        assert_eq!(takers(&mut link), [taker], "cut at {cut}");
    }
}

#[test]
fn a_client_that_only_sends_descriptors_is_not_read_for_ever() {
    let mut link = Link::new();
    let mut reads = 0;
    loop {
        let spare = link.session.spare(Channel::Main);
        if spare.is_empty() {
            break;
        }
        let map = map(1, 3, 0, 0, 4096);
        spare[..map.len()].copy_from_slice(&map);
        link.session.received(Channel::Main, map.len(), (0..16).map(|_| file()));
        reads += 1;
        assert!(reads < 100);
    }
    assert!(link.session.holds().1 <= 80, "{:?}", link.session.holds());
    link.work().unwrap();
    assert_eq!(link.session.holds().1, 0);
    assert!(!link.session.spare(Channel::Main).is_empty());
}

#[test]
fn a_violation_and_the_end_close_them() {
    let mut link = Link::new();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let bytes = [map(1, 3, 0, 0, 4096), vec![0xff; 20], map(1, 3, 0, 0, 4096)].concat();
    link.put(Channel::Main, &bytes, vec![Received::from(writer)]);
    assert!(link.work().is_err());
    drop(link);
    let mut poll = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut poll, None).unwrap();
    assert!(poll[0].revents().contains(rustix::event::PollFlags::HUP));
}
