//! What the device is asked about itself, accesses of regions, maps, and reset.

use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

use crate::support::*;

#[test]
fn device_info() {
    let mut link = Link::new();
    // 32 is what counts the header: the client of Cloud Hypervisor does.
    for argsz in [16_u32, 32, 1000] {
        let reply = link.ask(&message(1, GET_INFO, 0, &bytes![argsz, 0_u32, 0_u32, 0_u32]));
        assert_eq!(reply.payload, bytes![16_u32, 3_u32, 9_u32, 5_u32]);
    }
    for bad in [bytes![15_u32, 0_u32, 0_u32, 0_u32], bytes![16_u32, 0_u32, 0_u32], bytes![]] {
        assert_eq!(link.ask(&message(1, GET_INFO, 0, &bad)).errno(), Errno::INVAL);
    }
}

#[test]
fn irq_info() {
    let mut link = Link::new();
    let mut ask =
        |argsz: u32, index: u32| link.ask(&message(1, IRQ_INFO, 0, &bytes![argsz, 0_u32, index, 0_u32]));
    assert_eq!(ask(16, 0).payload, bytes![16_u32, 1_u32, 0_u32, 1_u32]);
    assert_eq!(ask(32, 1).payload, bytes![16_u32, 0_u32, 1_u32, 0_u32]);
    assert_eq!(ask(16, 2).payload, bytes![16_u32, 9_u32, 2_u32, 64_u32]);
    assert_eq!(ask(16, 5).errno(), Errno::INVAL);
    assert_eq!(ask(16, u32::MAX).errno(), Errno::INVAL);
    assert_eq!(ask(15, 0).errno(), Errno::INVAL);
    assert_eq!(link.ask(&message(1, IRQ_INFO, 0, &[0; 12])).errno(), Errno::INVAL);
}

fn region_info(argsz: u32, index: u32) -> Vec<u8> {
    message(1, REGION_INFO, 0, &bytes![argsz, 0_u32, index, 0_u32, 0_u64, 0_u64])
}

#[test]
fn region_info_without_mapping() {
    let mut link = Link::new();
    let plain = |flags: u32, index: u32, size: u64| bytes![32_u32, flags, index, 0_u32, size, 0_u64];
    assert_eq!(link.ask(&region_info(32, 0)).payload, plain(3, 0, 2 << 20));
    assert_eq!(link.ask(&region_info(1000, 1)).payload, plain(1, 1, 4096));
    assert_eq!(link.ask(&region_info(32, 2)).payload, plain(2, 2, 4096));
    for absent in [6, 8] {
        let reply = link.ask(&region_info(32, absent));
        assert_eq!((reply.payload, reply.fds), (plain(0, absent, 0), 0));
    }
    for (argsz, index) in [(32, 9), (32, u32::MAX), (31, 0), (0, 0)] {
        assert_eq!(link.ask(&region_info(argsz, index)).errno(), Errno::INVAL);
    }
    assert_eq!(link.ask(&message(1, REGION_INFO, 0, &[0; 28])).errno(), Errno::INVAL);
}

#[test]
fn sparse_areas_are_sent_to_those_who_have_room() {
    let mut link = Link::new();
    let whole = 32 + 16 + 2 * 16_u32;
    for argsz in [32, 33, whole - 1] {
        let reply = link.ask(&region_info(argsz, 3));
        assert_eq!(reply.payload, bytes![whole, 3_u32, 3_u32, 0_u32, 16384_u64, 0_u64]);
        assert_eq!(reply.fds, 0);
    }
    for argsz in [whole, whole + 1, u32::MAX] {
        let reply = link.ask(&region_info(argsz, 3));
        let head = bytes![whole, 15_u32, 3_u32, 32_u32, 16384_u64, 65536_u64];
        let caps = bytes![1_u16, 1_u16, 0_u32, 2_u32, 0_u32, 0_u64, 4096_u64, 8192_u64, 4096_u64];
        assert_eq!(reply.payload, [head, caps].concat());
        assert_eq!(reply.fds, 1);
    }
}

#[test]
fn a_region_that_is_mapped_as_a_whole_has_a_descriptor_and_no_areas() {
    let mut link = Link::new();
    let reply = link.ask(&region_info(32, 4));
    assert_eq!(reply.payload, bytes![32_u32, 7_u32, 4_u32, 0_u32, 16384_u64, 0_u64]);
    assert_eq!(reply.fds, 1);
}

#[test]
fn capabilities_are_chained() {
    let mut link = Link::new();
    let whole = 32 + 16 + 2 * 16 + 8_u32;
    let reply = link.ask(&region_info(whole, 5));
    assert_eq!((reply.u32(0), reply.u32(4), reply.u32(12), reply.fds), (whole, 15, 32, 1));
    assert_eq!(reply.payload.len(), whole as usize);
    assert_eq!(reply.payload[32..40], bytes![1_u16, 1_u16, 80_u32]);
    assert_eq!(reply.payload[80..88], bytes![3_u16, 1_u16, 0_u32]);
    link.device.areas.clear();
    let reply = link.ask(&region_info(40, 5));
    assert_eq!((reply.u32(0), reply.u32(4), reply.u32(12), reply.fds), (40, 15, 32, 1));
    assert_eq!(reply.payload[32..], bytes![3_u16, 1_u16, 0_u32]);
}

#[test]
fn a_client_that_takes_no_descriptors_maps_nothing() {
    let mut link = Link::with(r#"{"max_msg_fds":0}"#);
    let reply = link.ask(&region_info(1000, 3));
    assert_eq!((reply.u32(0), reply.u32(4), reply.u64(24), reply.fds), (32, 3, 0, 0));
}

#[test]
fn io_fds() {
    let mut link = Link::new();
    let ask = |argsz: u32, flags: u32, index: u32, count: u32| {
        message(1, IO_FDS, 0, &bytes![argsz, flags, index, count])
    };
    let whole = 16 + 3 * 40_u32;
    for argsz in [16, whole - 1] {
        let reply = link.ask(&ask(argsz, 0, 0, 0));
        assert_eq!((reply.payload, reply.fds), (bytes![whole, 0_u32, 0_u32, 0_u32], 0));
    }
    let reply = link.ask(&ask(whole, 0, 0, 0));
    let entry = |offset: u64, size: u64, fd: u32, flags: u32, datamatch: u64| {
        bytes![offset, size, fd, 0_u32, flags, 0_u32, datamatch]
    };
    let entries = [entry(0, 4, 0, 0, 0), entry(8, 8, 0, 1, 77), entry(16, 4, 1, 0, 0)].concat();
    assert_eq!(reply.payload, [bytes![whole, 0_u32, 0_u32, 3_u32], entries].concat());
    assert_eq!(reply.fds, 2, "shared descriptors are sent once");
    let reply = link.ask(&ask(16, 0, 1, 0));
    assert_eq!((reply.payload, reply.fds), (bytes![16_u32, 0_u32, 1_u32, 0_u32], 0));
    for bad in [
        ask(15, 0, 0, 0),
        ask(16, 1, 0, 0),
        ask(16, 0, 0, 1),
        ask(16, 0, 9, 0),
        message(1, IO_FDS, 0, &[0; 12]),
    ] {
        assert_eq!(link.ask(&bad).errno(), Errno::INVAL);
    }
}

#[test]
fn io_fds_that_the_client_cannot_take_are_left_out() {
    let mut link = Link::with(r#"{"max_msg_fds":1}"#);
    let reply = link.ask(&message(1, IO_FDS, 0, &bytes![1000_u32, 0_u32, 0_u32, 0_u32]));
    assert_eq!((reply.u32(0), reply.u32(12), reply.fds), (96, 2, 1));
    let mut link = Link::with(r#"{"max_msg_fds":0}"#);
    let reply = link.ask(&message(1, IO_FDS, 0, &bytes![1000_u32, 0_u32, 0_u32, 0_u32]));
    assert_eq!((reply.u32(0), reply.u32(12), reply.fds), (16, 0, 0));
}

#[test]
fn accesses_stay_within_their_region() {
    let mut link = Link::new();
    for (region, offset, count) in [
        (7, 256, 1),
        (7, 0, 257),
        (7, 255, 2),
        (0, u64::MAX, 1),
        (0, u64::MAX, 2),
        (0, 2 << 20, 1),
        (6, 0, 1),
        (9, 0, 4),
        (u32::MAX, 0, 4),
    ] {
        assert_eq!(
            link.ask(&read(1, region, offset, count)).errno(),
            Errno::INVAL,
            "{region} {offset} {count}"
        );
        let data = vec![0; count as usize];
        assert_eq!(link.ask(&write(1, 0, region, offset, &data)).errno(), Errno::INVAL);
    }
    assert_eq!(link.ask(&read(1, 2, 0, 4)).errno(), Errno::PERM);
    assert_eq!(link.ask(&write(1, 0, 1, 0, &[0; 4])).errno(), Errno::PERM);
    assert_eq!(link.calls(), []);
    assert!(link.ask(&read(1, 7, 255, 1)).is_ok());
    assert!(link.ask(&write(1, 0, 7, 255, &[1])).is_ok());
}

#[test]
fn an_access_of_nothing_succeeds_without_the_device() {
    let mut link = Link::new();
    assert_eq!(link.ask(&read(1, 7, 256, 0)).payload, bytes![256_u64, 7_u32, 0_u32]);
    assert_eq!(link.ask(&write(1, 0, 7, 0, &[])).payload, bytes![0_u64, 7_u32, 0_u32]);
    assert_eq!(link.calls(), []);
    assert_eq!(link.ask(&read(1, 7, 257, 0)).errno(), Errno::INVAL);
}

#[test]
fn counts_must_agree_with_sizes_and_limits() {
    let mut link = Link::with(r#"{"max_data_xfer_size":64}"#);
    assert!(link.ask(&read(1, 0, 0, 64)).is_ok());
    assert_eq!(link.ask(&read(1, 0, 0, 65)).errno(), Errno::INVAL, "the client could not take it");
    assert!(link.ask(&write(1, 0, 0, 0, &[0; 65])).is_ok(), "but we can");
    for count in [3_u32, 5, u32::MAX] {
        let bad = message(1, REGION_WRITE, 0, &[bytes![0_u64, 0_u32, count], vec![0; 4]].concat());
        assert_eq!(link.ask(&bad).errno(), Errno::INVAL);
    }
    for size in [0, 15, 17, 20] {
        assert_eq!(link.ask(&message(1, REGION_READ, 0, &vec![0; size])).errno(), Errno::INVAL);
    }
    assert_eq!(link.ask(&message(1, REGION_WRITE, 0, &[0; 15])).errno(), Errno::INVAL);
    assert_eq!(link.ask(&read(1, 0, 0, u32::MAX)).errno(), Errno::INVAL);
    let mut link = Link::new();
    // Fits a message, but is more than we have said we take.
    assert_eq!(link.ask(&write(1, 0, 0, 0, &vec![0; (1 << 20) + 1])).errno(), Errno::INVAL);
}

#[test]
fn a_failed_access_is_an_error_and_nothing_else() {
    let mut link = Link::new();
    link.device.outcomes = [Outcome::Failed(Errno::IO), Outcome::Failed(Errno::NXIO), Outcome::Done].into();
    link.send(&[read(1, 0, 0, 100), write(2, 0, 0, 0, &[0; 4]), read(3, 0, 0, 1)].concat());
    let replies = link.replies();
    assert_eq!(replies[0].errno(), Errno::IO);
    assert_eq!(replies[1].errno(), Errno::NXIO);
    assert_eq!(replies[2].payload, [bytes![0_u64, 0_u32, 1_u32], vec![pattern(0, 0)]].concat());
}

#[test]
fn reset() {
    let mut link = Link::new();
    let reply = link.ask(&message(1, RESET, 0, &[]));
    assert!(reply.is_ok() && reply.payload.is_empty());
    assert_eq!(link.calls(), [Call::Reset]);
    assert_eq!(link.ask(&message(1, RESET, 0, &[0])).errno(), Errno::INVAL);
    link.device.error = Some(Errno::BUSY);
    assert_eq!(link.ask(&message(1, RESET, 0, &[])).errno(), Errno::BUSY);
}

#[test]
fn maps() {
    let mut link = Link::new();
    let (first, second) = (file(), file());
    let names = [name(&first), name(&second)];
    let reply = link.ask_fds(&map(1, 3, 0x2100, 0x1000, 0x15000), vec![first]);
    assert!(reply.is_ok() && reply.payload.is_empty());
    assert!(link.ask_fds(&map(2, 1 | 8, 0, 0, 1), vec![second]).is_ok());
    assert!(link.ask(&map(3, 2, 999, 0xfffc_0000, 0x40000)).is_ok());
    assert!(link.ask_fds(&map(4, 1 | 4, 0, 0, 1), vec![file()]).is_ok());
    let one = DmaMap {
        iova: 0x1000,
        size: 0x15000,
        offset: 0x2100,
        readable: true,
        writable: true,
        file_io: false,
    };
    let calls = link.calls();
    assert_eq!(calls[0], Call::Map(one, Some(names[0])));
    let two = DmaMap { iova: 0, size: 1, offset: 0, readable: true, writable: false, file_io: true };
    assert_eq!(calls[1], Call::Map(two, Some(names[1])));
    // No file, so nothing to be offset.
    let three = DmaMap {
        iova: 0xfffc_0000,
        size: 0x40000,
        offset: 0,
        readable: false,
        writable: true,
        file_io: false,
    };
    assert_eq!(calls[2], Call::Map(three, None));
    link.device.error = Some(Errno::EXIST);
    assert_eq!(link.ask(&map(1, 3, 0, 0x1000, 0x1000)).errno(), Errno::EXIST);
}

#[test]
fn maps_that_cannot_be_are_refused() {
    let mut link = Link::new();
    for (flags, offset, iova, size, fds) in [
        (3, 0, 0, 0, 1),              // no size
        (3, 0, u64::MAX, 2, 1),       // wraps
        (3, 0, 1, u64::MAX, 1),       // ends where addresses do
        (3, u64::MAX, 0, 4096, 1),    // so does the file
        (0, 0, 0, 4096, 1),           // permits nothing
        (4, 0, 0, 4096, 1),           // nor does this
        (3 | 4, 0, 0, 4096, 0),       // nothing to map
        (3 | 8, 0, 0, 4096, 0),       // nothing to read
        (3 | 4 | 8, 0, 0, 4096, 1),   // both ways
        (3 | 16, 0, 0, 4096, 1),      // unknown
        (3 | 1 << 31, 0, 0, 4096, 0), // unknown
        (3, 0, 0, 4096, 2),           // too many descriptors
        (3, 0, 0, 4096, 20),          // far too many
    ] {
        let fds = (0..fds).map(|_| file()).collect();
        let reply = link.ask_fds(&map(1, flags, offset, iova, size), fds);
        assert_eq!(reply.errno(), Errno::INVAL, "{flags:#x} {offset:#x} {iova:#x} {size:#x}");
    }
    for payload in [
        bytes![31_u32, 3_u32, 0_u64, 0_u64, 4096_u64],
        bytes![32_u32, 3_u32, 0_u64, 0_u64],
        bytes![32_u32, 3_u32, 0_u64, 0_u64, 4096_u64, 0_u64],
        bytes![],
    ] {
        assert_eq!(link.ask(&message(1, DMA_MAP, 0, &payload)).errno(), Errno::INVAL);
    }
    assert_eq!(link.calls(), []);
    assert_eq!(link.session.holds().1, 0);
}

#[test]
fn unmaps() {
    let mut link = Link::new();
    let unmap = |argsz: u32, flags: u32, iova: u64, size: u64| {
        message(1, DMA_UNMAP, 0, &bytes![argsz, flags, iova, size])
    };
    let reply = link.ask(&unmap(24, 0, 0x1000, 0x2000));
    assert_eq!(reply.payload, bytes![24_u32, 0_u32, 0x1000_u64, 0x2000_u64]);
    let reply = link.ask(&unmap(40, 2, 0, 0));
    assert_eq!(reply.payload, bytes![40_u32, 2_u32, 0_u64, 0_u64]);
    assert_eq!(
        link.calls(),
        [Call::Unmap(DmaUnmap::Range { iova: 0x1000, size: 0x2000 }), Call::Unmap(DmaUnmap::All)]
    );
    for bad in [
        unmap(23, 0, 0, 1),
        unmap(24, 0, 0, 0),
        unmap(24, 0, u64::MAX, 2),
        unmap(24, 2, 1, 0),
        unmap(24, 2, 0, 1),
        unmap(24, 4, 0, 1),
        message(1, DMA_UNMAP, 0, &bytes![24_u32]),
        message(1, DMA_UNMAP, 0, &bytes![24_u32, 0_u32, 0_u64, 1_u64, 0_u64]),
        message(1, DMA_UNMAP, 0, &[]),
    ] {
        assert_eq!(link.ask(&bad).errno(), Errno::INVAL);
    }
    let bitmap = bytes![4096_u32, 1_u32, 0_u64, 4096_u64, 4096_u64, 8_u64];
    assert_eq!(link.ask(&message(1, DMA_UNMAP, 0, &bitmap)).errno(), Errno::OPNOTSUPP);
    assert_eq!(link.ask(&unmap(24, 3, 0, 0)).errno(), Errno::OPNOTSUPP);
    assert_eq!(link.calls(), []);
    link.device.error = Some(Errno::NOENT);
    assert_eq!(link.ask(&unmap(24, 0, 0, 1)).errno(), Errno::NOENT);
}
