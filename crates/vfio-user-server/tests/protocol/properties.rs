//! How the stream is cut, and how writes are glued into reads, makes no difference.

use fd_closer::Received;
use proptest::prelude::*;
use vfio_user_server::protocol::*;

use crate::support::*;

/// A message, and how many descriptors its write carries.
type Write = (Vec<u8>, usize);

/// A message that makes sense, or nearly.
fn any_message() -> impl Strategy<Value = Write> {
    let id = 0..50_u16;
    prop_oneof![
        (id.clone(), 0..9_u32, 0..300_u64, 0..300_u32)
            .prop_map(|(id, region, offset, count)| { (read(id, region, offset, count), 0) }),
        (id.clone(), any::<bool>(), 0..9_u32, 0..300_u64, 0..300_usize).prop_map(
            |(id, quiet, region, offset, count)| {
                (write(id, if quiet { NO_REPLY } else { 0 }, region, offset, &vec![0xa5; count]), 0)
            }
        ),
        (id.clone(), 0..4_u32, 0..3_u64, 0..2_usize)
            .prop_map(|(id, flags, size, fds)| (map(id, flags, 0, 0x1000, size * 4096), fds)),
        (
            id.clone(),
            prop_oneof![Just(0x24), Just(0x21), Just(0x22), Just(0x2c)],
            0..4_u32,
            0..5_u32,
            0..5_usize
        )
            .prop_map(|(id, flags, start, count, fds)| {
                let data = if flags & 2 != 0 { vec![1; count as usize] } else { vec![] };
                (set_irqs(id, flags, 2, start, count, &data), if flags & 4 != 0 { fds } else { 0 })
            }),
        (id.clone(), 0..40_u16, 0..100_usize).prop_map(|(id, command, size)| {
            let command = if command == VERSION { 99 } else { command };
            (message(id, command, 0, &vec![0x11; size]), 0)
        }),
        (id, 0..20_u16, 0..100_usize)
            .prop_map(|(id, command, size)| (message(id, command, REPLY, &vec![0x22; size]), 0)),
    ]
}

/// What the client sees and what the device is told, with descriptors counted from the first that was sent.
fn observe(link: &mut Link, names: &[u64]) -> (Vec<Message>, Vec<Call>) {
    let replies = link.replies();
    let mut calls = link.calls();
    let index = |name: &mut u64| {
        *name = names.iter().position(|other| other == name).unwrap() as u64;
    };
    for call in &mut calls {
        match call {
            Call::Map(_, Some(fd)) => index(fd),
            Call::Irqs { fds: Some(fds), .. } => fds.iter_mut().for_each(index),
            _ => {}
        }
    }
    assert_eq!(link.session.holds().1, 0, "all descriptors are taken or closed");
    (replies, calls)
}

fn files(count: usize, names: &mut Vec<u64>) -> Vec<Received> {
    let files: Vec<_> = (0..count).map(|_| file()).collect();
    names.extend(files.iter().map(name));
    files
}

/// Each write is read on its own.
fn one_by_one(writes: &[Write]) -> (Vec<Message>, Vec<Call>) {
    let (mut link, mut names) = (Link::new(), Vec::new());
    for (bytes, fds) in writes {
        let fds = files(*fds, &mut names);
        link.send_fds(bytes, fds);
    }
    observe(&mut link, &names)
}

/// Reads as a socket gives them: what fits `rooms`, one after another, but never past a write with descriptors.
fn glued(writes: &[Write], rooms: &[usize], work: bool) -> (Vec<Message>, Vec<Call>) {
    let (mut link, mut names) = (Link::new(), Vec::new());
    let mut rooms = rooms.iter().copied().cycle();
    let mut queue: std::collections::VecDeque<_> =
        writes.iter().map(|(bytes, fds)| (bytes.as_slice(), files(*fds, &mut names))).collect();
    while !queue.is_empty() {
        let mut room = rooms.next().unwrap();
        let (mut bytes, mut fds) = (Vec::new(), Vec::new());
        while room > 0
            && let Some((write, carried)) = queue.front_mut()
        {
            let count = room.min(write.len());
            bytes.extend_from_slice(&write[..count]);
            *write = &write[count..];
            room -= count;
            fds = std::mem::take(carried);
            if write.is_empty() {
                queue.pop_front();
            }
            if !fds.is_empty() {
                break;
            }
        }
        link.put(Channel::Main, &bytes, fds);
        if work {
            link.work().unwrap();
        }
    }
    link.work().unwrap();
    observe(&mut link, &names)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_cut_gives_the_same(
        writes in prop::collection::vec(any_message(), 1..30),
        rooms in prop::collection::vec(prop_oneof![1..20_usize, 1..2000_usize], 1..20),
        work: bool,
    ) {
        prop_assert_eq!(glued(&writes, &rooms, work), one_by_one(&writes));
    }

    #[test]
    fn output_may_be_taken_in_any_pieces(
        writes in prop::collection::vec(any_message(), 1..30),
        pieces in prop::collection::vec(1..100_usize, 1..10),
    ) {
        let (expected, _) = one_by_one(&writes);
        let (mut link, mut bytes) = (Link::new(), Vec::new());
        let mut pieces = pieces.iter().copied().cycle();
        let mut take = |link: &mut Link, until: usize| {
            while link.session.output(Channel::Main).bytes.len() > until {
                let output = link.session.output(Channel::Main).bytes;
                let count = pieces.next().unwrap().min(output.len());
                bytes.extend_from_slice(&output[..count]);
                link.session.sent(Channel::Main, count);
            }
        };
        for (message, _) in &writes {
            link.send(message);
            take(&mut link, 200);
        }
        take(&mut link, 0);
        let heads: Vec<_> = parse(&bytes).iter().map(|message| (message.id, message.command)).collect();
        let told: Vec<_> = expected.iter().map(|message| (message.id, message.command)).collect();
        prop_assert_eq!(heads, told);
    }
}
