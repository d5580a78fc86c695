//! `DEVICE_SET_IRQS` in its combinations. The device has one INTx, no MSI, 64 MSI-X vectors, one ERR and no REQ.

use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

use crate::support::*;

const NONE: u32 = 1;
const BOOL: u32 = 2;
const EVENTFD: u32 = 4;
const MASK: u32 = 8;
const UNMASK: u32 = 16;
const TRIGGER: u32 = 32;

fn call(index: IrqIndex, start: u32, count: u32, action: IrqAction) -> Call {
    Call::Irqs { index, start, count, action, bools: None, fds: None }
}

fn files(count: usize) -> (Vec<fd_closer::Received>, Vec<u64>) {
    let files: Vec<_> = (0..count).map(|_| file()).collect();
    let names = files.iter().map(name).collect();
    (files, names)
}

#[test]
fn all_vectors_of_a_range() {
    let mut link = Link::new();
    for (action, is) in [(MASK, IrqAction::Mask), (UNMASK, IrqAction::Unmask), (TRIGGER, IrqAction::Trigger)]
    {
        let reply = link.ask(&set_irqs(1, NONE | action, 2, 3, 5, &[]));
        assert!(reply.is_ok() && reply.payload.is_empty());
        assert_eq!(link.calls(), [call(IrqIndex::Msix, 3, 5, is)]);
        assert!(link.ask(&set_irqs(1, NONE | action, 0, 0, 1, &[])).is_ok());
        assert_eq!(link.calls(), [call(IrqIndex::Intx, 0, 1, is)]);
    }
}

#[test]
fn some_vectors_of_a_range() {
    let mut link = Link::new();
    for action in [MASK, UNMASK, TRIGGER] {
        assert!(link.ask(&set_irqs(1, BOOL | action, 2, 60, 4, &[1, 0, 2, 0])).is_ok());
        let calls = link.calls();
        let [Call::Irqs { start: 60, count: 4, bools: Some(bools), fds: None, .. }] = &calls[..] else {
            panic!("{calls:?}")
        };
        assert_eq!(bools, &[1, 0, 2, 0]);
        for data in [&[][..], &[1], &[0; 3], &[0; 5]] {
            assert_eq!(link.ask(&set_irqs(1, BOOL | action, 2, 60, 4, data)).errno(), Errno::INVAL);
        }
    }
}

#[test]
fn switching_an_index_off() {
    let mut link = Link::new();
    assert!(link.ask(&set_irqs(1, NONE | TRIGGER, 2, 0, 0, &[])).is_ok());
    assert_eq!(link.calls(), [call(IrqIndex::Msix, 0, 0, IrqAction::Trigger)]);
    for (flags, start) in [
        (NONE | TRIGGER, 1),
        (NONE | MASK, 0),
        (NONE | UNMASK, 0),
        (BOOL | TRIGGER, 0),
        (EVENTFD | TRIGGER, 0),
        (EVENTFD | MASK, 0),
    ] {
        assert_eq!(link.ask(&set_irqs(1, flags, 2, start, 0, &[])).errno(), Errno::INVAL);
    }
    // An index without vectors has no range at all.
    assert_eq!(link.ask(&set_irqs(1, NONE | TRIGGER, 1, 0, 0, &[])).errno(), Errno::INVAL);
}

#[test]
fn eventfds_are_assigned_one_for_each_vector() {
    let mut link = Link::new();
    for (count, action, is) in [
        (1, TRIGGER, IrqAction::Trigger),
        (16, TRIGGER, IrqAction::Trigger),
        (2, MASK, IrqAction::Mask),
        (2, UNMASK, IrqAction::Unmask),
    ] {
        let (files, names) = files(count);
        let count = u32::try_from(count).unwrap();
        assert!(link.ask_fds(&set_irqs(1, EVENTFD | action, 2, 8, count, &[]), files).is_ok());
        let calls = link.calls();
        let expected =
            Call::Irqs { index: IrqIndex::Msix, start: 8, count, action: is, bools: None, fds: Some(names) };
        assert_eq!(calls, [expected]);
    }
    assert!(link.ask(&set_irqs(1, EVENTFD | TRIGGER, 2, 8, 20, &[])).is_ok());
    let calls = link.calls();
    assert!(
        matches!(&calls[..], [Call::Irqs { fds: Some(fds), count: 20, .. }] if fds.is_empty()),
        "de-assigned"
    );
}

#[test]
fn any_other_number_of_eventfds_is_refused() {
    let mut link = Link::new();
    for (count, sent) in [(1, 2), (2, 1), (3, 16), (16, 15), (16, 17), (17, 17), (17, 20), (64, 64)] {
        let (files, _) = files(sent);
        let reply = link.ask_fds(&set_irqs(1, EVENTFD | TRIGGER, 2, 0, count, &[]), files);
        assert_eq!(reply.errno(), Errno::INVAL, "{sent} for {count}");
    }
    assert_eq!((link.calls(), link.session.holds().1), (vec![], 0));
}

#[test]
fn descriptors_with_other_data_are_closed() {
    let mut link = Link::new();
    let (files, _) = files(3);
    assert!(link.ask_fds(&set_irqs(1, NONE | TRIGGER, 2, 0, 3, &[]), files).is_ok());
    assert_eq!(link.session.holds().1, 0);
}

#[test]
fn flags_are_one_data_and_one_action() {
    let mut link = Link::new();
    let good = [NONE, BOOL, EVENTFD].map(|data| [MASK, UNMASK, TRIGGER].map(|action| data | action)).concat();
    for flags in (0..256).chain([1 << 31 | NONE | TRIGGER, 0x100 | NONE | TRIGGER]) {
        let data: &[u8] = if flags & 7 == BOOL { &[1] } else { &[] };
        let reply = link.ask(&set_irqs(1, flags, 2, 0, 1, data));
        assert_eq!(reply.is_ok(), good.contains(&flags), "{flags:#x}");
        if !reply.is_ok() {
            assert_eq!(reply.errno(), Errno::INVAL);
        }
    }
}

#[test]
fn ranges_stay_within_the_index() {
    let mut link = Link::new();
    for (index, start, count) in [
        (2, 64, 1),
        (2, 63, 2),
        (2, 0, 65),
        (2, 1, u32::MAX),
        (2, u32::MAX, 1),
        (2, u32::MAX, u32::MAX),
        (0, 1, 1),
        (0, 0, 2),
        (1, 0, 1),
        (4, 0, 1),
        (5, 0, 1),
        (u32::MAX, 0, 1),
    ] {
        for flags in [NONE | TRIGGER, NONE | MASK, EVENTFD | TRIGGER] {
            assert_eq!(link.ask(&set_irqs(1, flags, index, start, count, &[])).errno(), Errno::INVAL);
        }
    }
    assert!(link.ask(&set_irqs(1, NONE | TRIGGER, 2, 63, 1, &[])).is_ok());
    assert!(link.ask(&set_irqs(1, NONE | TRIGGER, 2, 0, 64, &[])).is_ok());
}

#[test]
fn err_is_only_triggered() {
    let mut link = Link::new();
    assert!(link.ask_fds(&set_irqs(1, EVENTFD | TRIGGER, 3, 0, 1, &[]), vec![file()]).is_ok());
    assert!(link.ask(&set_irqs(1, NONE | TRIGGER, 3, 0, 0, &[])).is_ok());
    for flags in [NONE | MASK, NONE | UNMASK, EVENTFD | MASK] {
        assert_eq!(link.ask(&set_irqs(1, flags, 3, 0, 1, &[])).errno(), Errno::INVAL);
    }
}

#[test]
fn sizes_are_checked_but_argsz_is_what_the_client_likes() {
    let mut link = Link::new();
    let with = |argsz: u32, more: usize| {
        let fixed = bytes![argsz, NONE | TRIGGER, 2_u32, 0_u32, 1_u32];
        message(1, SET_IRQS, 0, &[fixed, vec![0; more]].concat())
    };
    for argsz in [20, 21, 36, u32::MAX] {
        assert!(link.ask(&with(argsz, 0)).is_ok());
    }
    for argsz in [0, 19] {
        assert_eq!(link.ask(&with(argsz, 0)).errno(), Errno::INVAL);
    }
    assert_eq!(link.ask(&with(20, 1)).errno(), Errno::INVAL, "data with no data");
    for size in [0, 4, 7, 8, 19] {
        assert_eq!(link.ask(&message(1, SET_IRQS, 0, &vec![0xff; size])).errno(), Errno::INVAL);
    }
    link.device.error = Some(Errno::NODEV);
    assert_eq!(link.ask(&with(20, 0)).errno(), Errno::NODEV);
}
