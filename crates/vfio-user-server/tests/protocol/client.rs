//! Another's client: Cloud Hypervisor's, over a socket. It checks nothing and waits for ever where a reply is not what it
//! expects, so that it gets through says much.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use fd_closer::Received;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use vfio_user_server::protocol::*;

use crate::support::*;

/// Serves one client until it goes. What a context does without ever blocking, this does in the plainest way.
fn serve(stream: &UnixStream) -> Device {
    let (mut session, mut device) = (Session::default(), Device::default());
    loop {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(session.spare(Channel::Main))];
        let count = recvmsg(stream, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC).unwrap().bytes;
        if count == 0 {
            return device;
        }
        let mut fds = Vec::new();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                fds.extend(rights.map(Received::from));
            }
        }
        session.received(Channel::Main, count, fds);
        while session.step(&mut device).unwrap() != Step::NeedInput {}
        while !session.output(Channel::Main).bytes.is_empty() {
            let output = session.output(Channel::Main);
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(output.fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(&output.fds)));
            let sent =
                sendmsg(stream, &[IoSlice::new(output.bytes)], &mut control, SendFlags::NOSIGNAL).unwrap();
            session.sent(Channel::Main, sent);
        }
    }
}

#[test]
fn the_client_of_cloud_hypervisor_gets_what_it_expects() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = thread::spawn(move || serve(&listener.accept().unwrap().0));
    let mut client = vfio_user::Client::new(&path).unwrap();
    // It takes the flag for its opposite.
    assert!(!client.resettable());
    let sizes: Vec<u64> = (0..9).map(|index| client.region(index).unwrap().size).collect();
    assert_eq!(sizes, [2 << 20, 4096, 4096, 16384, 16384, 16384, 0, 256, 0]);
    let mapped: Vec<_> = (0..9)
        .map(|index| {
            let region = client.region(index).unwrap();
            assert_eq!(region.file_offset.is_some(), region.flags & 4 != 0);
            (region.file_offset.as_ref().map(|file| file.start()), region.sparse_areas.len())
        })
        .collect();
    assert_eq!(mapped[3..6], [(Some(65536), 2), (Some(0), 0), (Some(4096), 2)]);
    assert_eq!(mapped[0], (None, 0));

    let mut config = [0; 256];
    client.region_read(7, 0, &mut config).unwrap();
    assert!((0..256).all(|at| config[at] == pattern(7, at as u64)));
    client.region_write(0, 12, &[1, 2, 3, 4]).unwrap();
    let large = vec![7; 1 << 20];
    client.region_write(0, 0, &large).unwrap();
    let mut back = vec![0; 1 << 20];
    client.region_read(0, 0, &mut back).unwrap();

    let irq = client.get_irq_info(2).unwrap();
    assert_eq!((irq.index, irq.flags, irq.count), (2, 9, 64));
    let events: Vec<_> = (0..16).map(|_| file()).collect();
    let raw: Vec<_> = events.iter().map(AsRawFd::as_raw_fd).collect();
    client.set_irqs(2, 0x24, 3, 16, &raw).unwrap();
    client.set_irqs(2, 0x21, 0, 0, &[]).unwrap();
    client.set_irqs(0, 0x11, 0, 1, &[]).unwrap();
    let memory = file();
    client.dma_map(0x1000, 0x10_0000, 0x8000, memory.as_raw_fd()).unwrap();
    client.dma_unmap(0x10_0000, 0x8000).unwrap();
    client.reset().unwrap();
    client.shutdown().unwrap();

    let calls = server.join().unwrap().calls;
    let irqs = |start, count, action, fds: Option<Vec<u64>>| Call::Irqs {
        index: if fds.is_none() && action == IrqAction::Unmask { IrqIndex::Intx } else { IrqIndex::Msix },
        start,
        count,
        action,
        bools: None,
        fds,
    };
    let map = DmaMap {
        iova: 0x10_0000,
        size: 0x8000,
        offset: 0x1000,
        readable: true,
        writable: true,
        file_io: false,
    };
    let expected = [
        Call::Read(7, 0, 256),
        Call::Write(0, 12, vec![1, 2, 3, 4]),
        Call::Write(0, 0, large),
        Call::Read(0, 0, 1 << 20),
        irqs(3, 16, IrqAction::Trigger, Some(events.iter().map(name).collect())),
        irqs(0, 0, IrqAction::Trigger, None),
        irqs(0, 1, IrqAction::Unmask, None),
        Call::Map(map, Some(name(&memory))),
        Call::Unmap(DmaUnmap::Range { iova: 0x10_0000, size: 0x8000 }),
        Call::Reset,
    ];
    assert_eq!(calls.len(), expected.len());
    for (call, expected) in calls.iter().zip(&expected) {
        assert!(call == expected, "{expected:?}");
    }
}
