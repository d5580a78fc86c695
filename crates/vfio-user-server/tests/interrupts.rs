//! `DEVICE_SET_IRQS` in all its combinations, and what the device's interrupts then do.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::os::fd::OwnedFd;

use fd_closer::Received;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use vfio_user_server::Errno;
use vfio_user_server::irq::{Interrupts, VectorInfo};
use vfio_user_server::protocol::IrqIndex::{self, Err as ErrIrq, Intx, Msi, Msix, Req};
use vfio_user_server::protocol::{IrqAction, IrqData, IrqInfo, SetIrqs};

use IrqAction::{Mask, Trigger, Unmask};

fn interrupts() -> Interrupts {
    Interrupts::new([1, 4, 8, 1, 1])
}

fn set(
    interrupts: &mut Interrupts,
    index: IrqIndex,
    range: std::ops::Range<u32>,
    action: IrqAction,
    data: IrqData<'_>,
) -> Result<(), Errno> {
    let (start, count) = (range.start, range.end - range.start);
    interrupts.set(SetIrqs { index, start, count, action, data })
}

/// Does something that goes through to vectors of a type.
macro_rules! act {
    ($interrupts:ident, $index:expr, $range:expr, $action:expr, $data:expr) => {
        set(&mut $interrupts, $index, $range, $action, $data).unwrap()
    };
}

fn eventfds(count: usize) -> Vec<OwnedFd> {
    (0..count).map(|_| eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()).collect()
}

fn give(fds: &[OwnedFd]) -> IrqData<'static> {
    IrqData::Eventfds(fds.iter().map(|fd| Received::from(fd.try_clone().unwrap())).collect())
}

/// The counter, which is 0 then.
fn count(fd: &OwnedFd) -> u64 {
    let mut count = [0; 8];
    match rustix::io::read(fd, &mut count) {
        Ok(_) => u64::from_ne_bytes(count),
        Err(error) => {
            assert_eq!(error, Errno::AGAIN);
            0
        }
    }
}

fn counts(fds: &[OwnedFd]) -> Vec<u64> {
    fds.iter().map(count).collect()
}

fn vector(interrupts: &Interrupts, index: IrqIndex, number: u32) -> Option<VectorInfo> {
    interrupts.vectors().find(|info| info.index == index && info.vector == number)
}

#[test]
fn info_says_what_there_is() {
    let interrupts = interrupts();
    let info: Vec<_> = (0..7).map(|index| interrupts.info(index)).collect();
    let expect = |flags, count| IrqInfo { flags, count };
    let none = expect(0, 0);
    assert_eq!(info, [expect(7, 1), expect(1, 4), expect(1, 8), expect(1, 1), expect(1, 1), none, none]);
    assert_eq!(Interrupts::new([0; 5]).info(0), none);
    assert_eq!(Interrupts::new([3, 0, 0, 0, 0]).info(0), expect(7, 1));
    assert_eq!(interrupts.info(u32::MAX), none);
}

#[test]
fn vectors_fire_their_own_eventfd_only() {
    for (index, vectors) in [(Msi, 4), (Msix, 8), (ErrIrq, 1), (Req, 1)] {
        let mut interrupts = interrupts();
        let fds = eventfds(vectors as usize);
        interrupts.raise(index, 0);
        assert!(!interrupts.enabled(index));
        act!(interrupts, index, 0..vectors, Trigger, give(&fds));
        assert!(interrupts.enabled(index));
        for vector in 0..vectors {
            interrupts.raise(index, vector);
            let fired: Vec<_> = (0..vectors).map(|other| u64::from(other == vector)).collect();
            assert_eq!(counts(&fds), fired, "{index:?} {vector}");
        }
        interrupts.raise(index, vectors);
        interrupts.raise(index, u32::MAX);
        assert_eq!(interrupts.signalled(), u64::from(vectors));
        for other in [Msi, Msix, ErrIrq, Req].into_iter().filter(|other| *other != index) {
            interrupts.raise(other, 0);
        }
        interrupts.set_intx(true);
        interrupts.raise(Intx, 0);
        assert_eq!(counts(&fds), vec![0; vectors as usize]);
    }
}

#[test]
fn the_client_fires_by_range_and_by_byte() {
    let mut interrupts = interrupts();
    let fds = eventfds(5);
    act!(interrupts, Msix, 2..7, Trigger, give(&fds));
    act!(interrupts, Msix, 0..5, Trigger, IrqData::None);
    assert_eq!(counts(&fds), [1, 1, 1, 0, 0]);
    act!(interrupts, Msix, 3..8, Trigger, IrqData::Bool(&[1, 0, 255, 0, 1]));
    assert_eq!(counts(&fds), [0, 1, 0, 1, 0]);
    assert_eq!(interrupts.signalled(), 5);
}

#[test]
fn masks_hold_back_once() {
    for masked_by in [IrqData::None, IrqData::Bool(&[1, 1])] {
        let mut interrupts = interrupts();
        let fds = eventfds(4);
        act!(interrupts, Msi, 0..4, Trigger, give(&fds));
        let chosen = |data: &IrqData<'_>| match data {
            IrqData::None => IrqData::None,
            _ => IrqData::Bool(&[1, 1]),
        };
        act!(interrupts, Msi, 1..3, Mask, chosen(&masked_by));
        for _ in 0..2 {
            (0..4).for_each(|vector| interrupts.raise(Msi, vector));
        }
        assert_eq!(counts(&fds), [2, 0, 0, 2]);
        assert!(vector(&interrupts, Msi, 1).is_some_and(|info| info.masked && info.pending && info.assigned));
        act!(interrupts, Msi, 0..2, Unmask, chosen(&masked_by));
        assert_eq!(counts(&fds), [0, 1, 0, 0]);
        act!(interrupts, Msi, 0..2, Unmask, chosen(&masked_by));
        assert_eq!(counts(&fds), [0; 4]);
        act!(interrupts, Msi, 1..3, Unmask, IrqData::Bool(&[1, 0]));
        assert_eq!(counts(&fds), [0; 4]);
        act!(interrupts, Msi, 1..3, Unmask, IrqData::Bool(&[0, 1]));
        assert_eq!(counts(&fds), [0, 0, 1, 0]);
        // The client fires a masked one: that is kept too.
        act!(interrupts, Msi, 0..1, Mask, IrqData::None);
        act!(interrupts, Msi, 0..1, Trigger, IrqData::None);
        assert_eq!(count(&fds[0]), 0);
        act!(interrupts, Msi, 0..1, Unmask, IrqData::None);
        assert_eq!(count(&fds[0]), 1);
    }
}

#[test]
fn masks_come_before_eventfds_and_outlive_them() {
    let mut interrupts = interrupts();
    let (first, second) = (eventfds(1), eventfds(1));
    act!(interrupts, Msix, 3..4, Mask, IrqData::None);
    assert!(vector(&interrupts, Msix, 3).is_some_and(|info| info.masked && !info.assigned));
    interrupts.raise(Msix, 3);
    assert!(vector(&interrupts, Msix, 3).is_some_and(|info| !info.pending), "dropped without an eventfd");
    act!(interrupts, Msix, 3..4, Trigger, give(&first));
    interrupts.raise(Msix, 3);
    // The new one gets what was kept for the old one.
    act!(interrupts, Msix, 3..4, Trigger, give(&second));
    act!(interrupts, Msix, 3..4, Unmask, IrqData::None);
    assert_eq!((count(&first[0]), count(&second[0])), (0, 1));
    // Without one, nothing is kept.
    act!(interrupts, Msix, 3..4, Mask, IrqData::None);
    interrupts.raise(Msix, 3);
    act!(interrupts, Msix, 3..4, Trigger, IrqData::Eventfds(Vec::new()));
    act!(interrupts, Msix, 3..4, Trigger, give(&first));
    act!(interrupts, Msix, 3..4, Unmask, IrqData::None);
    assert_eq!((count(&first[0]), count(&second[0])), (0, 0));
}

/// Which eventfd it is, and how many descriptors of this process are it.
fn holders(fd: &OwnedFd) -> usize {
    use std::os::fd::AsRawFd;
    let id = |path: std::path::PathBuf| -> Option<String> {
        let info = std::fs::read_to_string(path).ok()?;
        info.lines().find(|line| line.starts_with("eventfd-id:")).map(str::to_owned)
    };
    let own = id(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()).into());
    assert!(own.is_some(), "kernels since 5.1 say which eventfd it is");
    std::fs::read_dir("/proc/self/fdinfo")
        .unwrap()
        .filter(|entry| id(entry.as_ref().unwrap().path()) == own)
        .count()
}

/// Received descriptors are closed on another thread.
fn wait_for_holders(fd: &OwnedFd, expected: usize) {
    let start = std::time::Instant::now();
    while holders(fd) != expected {
        assert!(start.elapsed() < std::time::Duration::from_secs(20), "{} hold it", holders(fd));
        std::thread::yield_now();
    }
}

#[test]
fn de_assigning_a_range_closes_that_range() {
    let mut interrupts = interrupts();
    let fds = eventfds(8);
    act!(interrupts, Msix, 0..8, Trigger, give(&fds));
    act!(interrupts, Msix, 3..5, Trigger, IrqData::Eventfds(Vec::new()));
    for (number, fd) in fds.iter().enumerate() {
        wait_for_holders(fd, if (3..5).contains(&number) { 1 } else { 2 });
    }
    (0..8).for_each(|vector| interrupts.raise(Msix, vector));
    assert_eq!(counts(&fds), [1, 1, 1, 0, 0, 1, 1, 1]);
    // Replacing closes the old ones.
    let others = eventfds(2);
    act!(interrupts, Msix, 0..2, Trigger, give(&others));
    fds[..2].iter().for_each(|fd| wait_for_holders(fd, 1));
    // And so does switching the type off, all of them.
    act!(interrupts, Msix, 0..0, Trigger, IrqData::None);
    fds.iter().chain(&others).for_each(|fd| wait_for_holders(fd, 1));
    assert!(!interrupts.enabled(Msix) && interrupts.vectors().next().is_none());
}

#[test]
fn switching_a_type_off_forgets_its_masks_and_no_other() {
    let mut interrupts = interrupts();
    let (msi, msix) = (eventfds(1), eventfds(1));
    act!(interrupts, Msi, 0..1, Trigger, give(&msi));
    act!(interrupts, Msix, 0..1, Trigger, give(&msix));
    act!(interrupts, Msi, 0..1, Mask, IrqData::None);
    interrupts.raise(Msi, 0);
    act!(interrupts, Msi, 0..0, Trigger, IrqData::None);
    act!(interrupts, Msi, 0..1, Trigger, give(&msi));
    assert_eq!(count(&msi[0]), 0);
    interrupts.raise(Msi, 0);
    interrupts.raise(Msix, 0);
    assert_eq!((count(&msi[0]), count(&msix[0])), (1, 1));
}

#[test]
fn with_one_stranger_nothing_is_done() {
    let mut interrupts = interrupts();
    let fds = eventfds(2);
    act!(interrupts, Msi, 0..2, Trigger, give(&fds));
    let (reader, _writer) = std::io::pipe().unwrap();
    for action in [Trigger, Mask, Unmask] {
        let mixed = vec![eventfds(1).remove(0).into(), OwnedFd::from(reader.try_clone().unwrap()).into()];
        assert_eq!(set(&mut interrupts, Msi, 0..2, action, IrqData::Eventfds(mixed)), Err(Errno::INVAL));
    }
    assert_eq!(set(&mut interrupts, Msi, 0..2, Trigger, give(&eventfds(3))), Err(Errno::INVAL));
    assert_eq!(set(&mut interrupts, Msi, 3..5, Trigger, give(&eventfds(2))), Err(Errno::INVAL));
    (0..2).for_each(|vector| interrupts.raise(Msi, vector));
    assert_eq!(counts(&fds), [1, 1]);
}

#[test]
fn eventfds_for_masks_are_taken_and_closed() {
    let mut interrupts = interrupts();
    let (fds, others) = (eventfds(2), eventfds(2));
    act!(interrupts, Msix, 0..2, Trigger, give(&fds));
    for action in [Mask, Unmask] {
        act!(interrupts, Msix, 0..2, action, give(&others));
        act!(interrupts, Msix, 0..2, action, IrqData::Eventfds(Vec::new()));
    }
    act!(interrupts, Intx, 0..1, Mask, give(&others[..1]));
    others.iter().for_each(|fd| wait_for_holders(fd, 1));
    (0..2).for_each(|vector| interrupts.raise(Msix, vector));
    assert_eq!((counts(&fds), counts(&others)), (vec![1, 1], vec![0, 0]));
}

#[test]
fn a_level_fires_again_each_time_it_is_let_go() {
    let mut interrupts = interrupts();
    let fds = eventfds(1);
    act!(interrupts, Intx, 0..1, Trigger, give(&fds));
    let fired = |interrupts: &Interrupts| (count(&fds[0]), vector(interrupts, Intx, 0).unwrap().masked);
    interrupts.set_intx(true);
    interrupts.set_intx(true);
    assert_eq!(fired(&interrupts), (1, true));
    act!(interrupts, Intx, 0..1, Unmask, IrqData::None);
    assert_eq!(fired(&interrupts), (1, true), "still high");
    interrupts.set_intx(false);
    assert!(!vector(&interrupts, Intx, 0).unwrap().pending);
    interrupts.set_intx(true);
    assert_eq!(fired(&interrupts), (0, true), "high again, but not let go of");
    assert!(vector(&interrupts, Intx, 0).unwrap().pending);
    interrupts.set_intx(false);
    act!(interrupts, Intx, 0..1, Unmask, IrqData::Bool(&[0]));
    assert_eq!(fired(&interrupts), (0, true));
    act!(interrupts, Intx, 0..1, Unmask, IrqData::Bool(&[1]));
    assert_eq!(fired(&interrupts), (0, false), "low");
    act!(interrupts, Intx, 0..1, Mask, IrqData::None);
    interrupts.set_intx(true);
    act!(interrupts, Intx, 0..1, Trigger, IrqData::None);
    assert_eq!(fired(&interrupts), (0, true));
    act!(interrupts, Intx, 0..1, Unmask, IrqData::None);
    assert_eq!(fired(&interrupts), (1, true));
}

#[test]
fn a_level_waits_for_its_eventfd() {
    let mut interrupts = interrupts();
    let (first, second) = (eventfds(1), eventfds(1));
    interrupts.set_intx(true);
    assert!(!interrupts.enabled(Intx));
    act!(interrupts, Intx, 0..1, Trigger, give(&first));
    assert!(interrupts.enabled(Intx));
    assert_eq!(count(&first[0]), 1);
    // Replaced: it has fired already. Taken and given: it has not.
    act!(interrupts, Intx, 0..1, Trigger, give(&second));
    assert_eq!(count(&second[0]), 0);
    act!(interrupts, Intx, 0..1, Trigger, IrqData::Eventfds(Vec::new()));
    act!(interrupts, Intx, 0..1, Trigger, give(&second));
    assert_eq!(count(&second[0]), 1);
    act!(interrupts, Intx, 0..0, Trigger, IrqData::None);
    act!(interrupts, Intx, 0..1, Trigger, give(&first));
    assert_eq!(count(&first[0]), 1);
    // The next client finds it high.
    interrupts.clear();
    assert!(!interrupts.enabled(Intx));
    act!(interrupts, Intx, 0..1, Trigger, give(&second));
    assert_eq!(count(&second[0]), 1);
    // After a reset it is low, and free to fire.
    interrupts.reset();
    assert!(vector(&interrupts, Intx, 0).is_some_and(|info| info.assigned && !info.masked));
    interrupts.set_intx(true);
    assert_eq!(count(&second[0]), 1);
    // A client's trial of the eventfd, which is no level.
    interrupts.set_intx(false);
    act!(interrupts, Intx, 0..1, Unmask, IrqData::None);
    act!(interrupts, Intx, 0..1, Trigger, IrqData::None);
    act!(interrupts, Intx, 0..1, Trigger, IrqData::Bool(&[1]));
    assert_eq!(count(&second[0]), 2);
}

#[test]
fn the_resample_eventfd_lets_go() {
    let mut interrupts = interrupts();
    let (fds, resample) = (eventfds(1), eventfds(1));
    act!(interrupts, Intx, 0..1, Trigger, give(&fds));
    assert!(interrupts.resample_fd().is_none() && interrupts.resample_changes() == 0);
    act!(interrupts, Intx, 0..1, Unmask, give(&resample));
    assert_eq!(interrupts.resample_changes(), 1);
    interrupts.set_intx(true);
    assert_eq!(count(&fds[0]), 1);
    rustix::io::write(&resample[0], &1_u64.to_ne_bytes()).unwrap();
    interrupts.resampled();
    assert_eq!(count(&fds[0]), 1, "still high");
    let mut ready = [PollFd::from_borrowed_fd(interrupts.resample_fd().unwrap(), PollFlags::IN)];
    assert_eq!(poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap(), 0, "it was read");
    interrupts.set_intx(false);
    interrupts.resampled();
    assert_eq!(count(&fds[0]), 0);
    // Gone in each of these ways, and told.
    act!(interrupts, Intx, 0..1, Unmask, IrqData::Eventfds(Vec::new()));
    assert!(interrupts.resample_fd().is_none() && interrupts.resample_changes() == 2);
    act!(interrupts, Intx, 0..1, Unmask, give(&resample));
    act!(interrupts, Intx, 0..0, Trigger, IrqData::None);
    assert!(interrupts.resample_fd().is_none() && interrupts.resample_changes() == 4);
    act!(interrupts, Intx, 0..1, Unmask, give(&resample));
    interrupts.clear();
    assert!(interrupts.resample_fd().is_none() && interrupts.resample_changes() == 6);
    interrupts.clear();
    assert_eq!(interrupts.resample_changes(), 6);
    wait_for_holders(&resample[0], 1);
}

#[test]
fn a_reset_forgets_what_is_pending_and_keeps_the_rest() {
    let mut interrupts = interrupts();
    let fds = eventfds(1);
    act!(interrupts, Msi, 0..1, Trigger, give(&fds));
    act!(interrupts, Msi, 0..1, Mask, IrqData::None);
    interrupts.raise(Msi, 0);
    interrupts.reset();
    assert!(vector(&interrupts, Msi, 0).is_some_and(|info| info.assigned && info.masked && !info.pending));
    act!(interrupts, Msi, 0..1, Unmask, IrqData::None);
    interrupts.raise(Msi, 0);
    assert_eq!(count(&fds[0]), 1);
    interrupts.clear();
    assert!(interrupts.vectors().next().is_none());
    wait_for_holders(&fds[0], 1);
    assert_eq!(interrupts.signalled(), 1);
}

#[test]
fn what_a_device_does_not_have_does_nothing() {
    let mut none = Interrupts::new([0; 5]);
    none.set_intx(true);
    for index in [Intx, Msi, Msix, ErrIrq, Req] {
        none.raise(index, 0);
        assert!(!none.enabled(index));
        assert_eq!(set(&mut none, index, 0..1, Trigger, give(&eventfds(1))), Err(Errno::INVAL));
        assert_eq!(set(&mut none, index, 0..1, Mask, IrqData::None), Err(Errno::INVAL));
    }
    assert_eq!(none.vectors().count(), 0);
    assert!(none.resample_fd().is_none());
}
