//! Commands of ours and their replies, with and without a socket of their own.

use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

use crate::support::*;

fn reply(id: u16, command: u16, payload: &[u8]) -> Vec<u8> {
    message(id, command, REPLY, payload)
}

fn read_reply(id: u16, address: u64, data: &[u8]) -> Vec<u8> {
    reply(id, DMA_READ, &[bytes![address, data.len() as u64], data.to_vec()].concat())
}

#[test]
fn nothing_is_sent_before_there_is_a_client() {
    let mut link = Link::default();
    assert_eq!(
        (link.session.dma_read(0, 4), link.session.dma_write(0, &[1]), link.session.max_dma()),
        (None, None, 0)
    );
    assert!(link.session.output(Channel::Main).bytes.is_empty());
}

#[test]
fn commands_of_both_directions_mix() {
    let mut link = Link::new();
    link.send(&read(1, 0, 0, 4));
    let first = link.session.dma_read(0x1000, 5).unwrap();
    let second = link.session.dma_write(0x2000, &[1, 2, 3]).unwrap();
    assert_ne!(first, second);
    link.send(&write(first, 0, 0, 0, &[9]));
    let out = link.replies();
    assert_eq!(
        out.iter().map(|message| message.command).collect::<Vec<_>>(),
        [REGION_READ, DMA_READ, DMA_WRITE, REGION_WRITE]
    );
    assert_eq!((out[1].id, out[1].flags), (first, 0));
    assert_eq!(out[1].payload, bytes![0x1000_u64, 5_u64]);
    assert_eq!(out[2].payload, [bytes![0x2000_u64, 3_u64], vec![1, 2, 3]].concat());
    link.calls();
    // The second is answered first, and a command comes in between.
    let write_reply = reply(second, DMA_WRITE, &bytes![0x2000_u64, 3_u64]);
    link.send(&[write_reply, read(7, 0, 0, 4), read_reply(first, 0x1000, b"hello")].concat());
    assert_eq!(
        link.calls(),
        [Call::Reply(second, Ok(vec![])), Call::Read(0, 0, 4), Call::Reply(first, Ok(b"hello".to_vec()))]
    );
    assert_eq!(link.one().id, 7);
    assert_eq!(link.session.counters().dma_messages, 2);
}

#[test]
fn errors_and_replies_that_do_not_fit_fail_the_command() {
    let mut link = Link::new();
    let mut fail = |make: &dyn Fn(u16) -> Vec<u8>| {
        let id = link.session.dma_read(0x1000, 4).unwrap();
        link.send(&make(id));
        let calls = link.calls();
        let [Call::Reply(told, Err(errno))] = &calls[..] else { panic!("{calls:?}") };
        assert_eq!(*told, id);
        *errno
    };
    let error = |errno: u32| {
        move |id: u16| {
            let mut reply = message(id, DMA_READ, REPLY | ERROR, &[]);
            reply[12..16].copy_from_slice(&errno.to_ne_bytes());
            reply
        }
    };
    assert_eq!(fail(&error(19)), Errno::NODEV);
    assert_eq!(fail(&error(0)), Errno::IO);
    assert_eq!(fail(&|id| reply(id, DMA_READ, &[])), Errno::PROTO);
    assert_eq!(fail(&|id| read_reply(id, 0x1000, b"abc")), Errno::PROTO);
    assert_eq!(fail(&|id| read_reply(id, 0x1000, b"abcde")), Errno::PROTO);
    assert_eq!(fail(&|id| reply(id, DMA_WRITE, &bytes![0x1000_u64, 4_u64])), Errno::PROTO);
    let old = |id| reply(id, DMA_READ, &[bytes![0x1000_u64, 4_u32], b"dataXXXX".to_vec()].concat());
    assert_eq!(fail(&old), Errno::PROTO, "the older layout");
}

#[test]
fn replies_that_nobody_waits_for_are_ignored() {
    let mut link = Link::new();
    let id = link.session.dma_read(0, 4).unwrap();
    link.session.abandon(id);
    link.send(
        &[
            read_reply(id, 0, b"data"),
            read_reply(id, 0, b"data"),
            read_reply(0xffff, 0, b"data"),
            reply(5, REGION_READ, &[]),
            reply(5, 999, &[1; 100]),
        ]
        .concat(),
    );
    assert_eq!(link.calls(), []);
    link.replies();
    assert!(link.ask(&read(1, 0, 0, 4)).is_ok());
}

#[test]
fn counts_are_limited_by_the_client_and_by_ourselves() {
    let mut link = Link::with(r#"{"max_data_xfer_size":100}"#);
    assert_eq!(link.session.max_dma(), 100);
    assert!(link.session.dma_read(0, 100).is_some() && link.session.dma_write(0, &[0; 100]).is_some());
    assert_eq!((link.session.dma_read(0, 101), link.session.dma_write(0, &[0; 101])), (None, None));
    assert_eq!((link.session.dma_read(0, 0), link.session.dma_write(0, &[])), (None, None));
    let link = Link::with(r#"{"max_data_xfer_size":67108864}"#);
    assert_eq!(link.session.max_dma(), 1 << 20);
}

#[test]
fn there_are_not_too_many_at_once() {
    let mut link = Link::new();
    let ids: Vec<_> = std::iter::from_fn(|| link.session.dma_read(0, 4)).collect();
    assert_eq!(ids.len(), 1024);
    link.replies();
    link.send(&read_reply(ids[3], 0, b"data"));
    assert!(link.session.dma_read(0, 4).is_some() && link.session.dma_read(0, 4).is_none());
    // Nor too much output.
    let mut link = Link::new();
    let data = vec![0; 1 << 20];
    let writes = std::iter::from_fn(|| link.session.dma_write(0, &data)).count();
    assert_eq!(writes, 1);
    link.replies();
    assert!(link.session.dma_write(0, &data).is_some());
}

#[test]
fn the_largest_read_is_taken() {
    let mut link = Link::new();
    let id = link.session.dma_read(0, 1 << 20).unwrap();
    let data: Vec<u8> = (0..1_u32 << 18).flat_map(u32::to_ne_bytes).collect();
    link.send(&read_reply(id, 0, &data));
    assert_eq!(link.calls(), [Call::Reply(id, Ok(data))]);
}

fn twin() -> Link {
    let mut link = Link::default();
    link.device.twin = Some(file().into_fd());
    link.send(&version(r#"{"capabilities":{"max_msg_fds":8,"twin_socket":{"supported":true}}}"#));
    let reply = link.one();
    assert_eq!(reply.fds, 1);
    let text = String::from_utf8(reply.payload[4..reply.payload.len() - 1].to_vec()).unwrap();
    assert!(text.contains(r#""twin_socket":{"supported":true,"fd_index":0}"#) && text.len() < 180, "{text}");
    assert!(link.session.peer().unwrap().twin_socket);
    link
}

#[test]
fn a_socket_of_their_own() {
    let mut link = twin();
    let id = link.session.dma_read(0x1000, 4).unwrap();
    assert_eq!(link.replies(), []);
    assert_eq!(link.all(Channel::Twin)[0].payload, bytes![0x1000_u64, 4_u64]);
    // On the wrong socket it is no reply to anything.
    link.send(&read_reply(id, 0x1000, b"nope"));
    assert_eq!(link.calls(), []);
    let reply = read_reply(id, 0x1000, b"data");
    link.put(Channel::Twin, &reply[..20], vec![file()]);
    assert!(link.session.has_partial_message());
    link.put(Channel::Twin, &reply[20..], vec![]);
    link.work().unwrap();
    assert_eq!(link.calls(), [Call::Reply(id, Ok(b"data".to_vec()))]);
    assert_eq!(link.session.holds().1, 0);
    assert!(!link.session.has_partial_message());
}

#[test]
fn a_command_on_that_socket_ends_the_connection() {
    let mut link = twin();
    link.put(Channel::Twin, &read(1, 0, 0, 4), vec![]);
    assert_eq!(link.work(), Err(Violation::TwinCommand(REGION_READ)));
    let mut link = twin();
    link.put(Channel::Twin, &[0; 16], vec![]);
    assert_eq!(link.work(), Err(Violation::Size(0)));
}

#[test]
fn who_does_not_offer_one_or_is_declined_has_none() {
    let offer = r#"{"capabilities":{"twin_socket":{"supported":true}}}"#;
    for (hello, socket) in [
        (offer, false),
        (r#"{"capabilities":{"twin_socket":{"supported":false}}}"#, true),
        (r#"{"capabilities":{"twin_socket":{"supported":true},"max_msg_fds":0}}"#, true),
        ("{}", true),
    ] {
        let mut link = Link::default();
        link.device.twin = socket.then(|| file().into_fd());
        link.send(&version(hello));
        let reply = link.one();
        assert_eq!(reply.fds, 0);
        assert!(!String::from_utf8_lossy(&reply.payload).contains("twin"));
        assert!(link.session.spare(Channel::Twin).is_empty() && !link.session.wants_input(Channel::Twin));
        assert!(link.session.dma_read(0, 4).is_some());
        assert_eq!(link.replies().len(), 1);
    }
}
