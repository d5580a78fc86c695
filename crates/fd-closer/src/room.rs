//! Whether descriptors that come find room in this process's table.
//!
//! What does not fit the kernel closes on the thread that receives, and a close can block. So who receives asks before. The answer
//! takes system calls: a tenth of what a command with a descriptor costs, a third of an access to an exported device. So it is
//! remembered for a moment, for all who ask.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, StatxFlags, statx};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::receive::MAX_FDS;

/// What one message can bring.
const ONE_MESSAGE: u64 = MAX_FDS as u64;

/// How long an answer holds, in milliseconds.
const AGE: u64 = 10;

/// Others than those who receive are taken to open no more than this part of the table meanwhile, and no more than [`MOST_OTHERS`].
/// With less to spare than that, each message asks.
const OTHERS_SHARE: u64 = 8;
const MOST_OTHERS: u64 = 1024;

/// The table is the process's, and so is what was seen of it.
static SEEN: Seen = Seen::nothing();

/// Two writers at a time may mix what they have seen, which was true of the same moment.
#[derive(Debug)]
struct Seen {
    /// In milliseconds of the coarse clock.
    until: AtomicU64,
    room: AtomicBool,
    /// How many descriptors may come before the table must be looked at again.
    spare: AtomicI64,
}

impl Seen {
    const fn nothing() -> Self {
        Self { until: AtomicU64::new(0), room: AtomicBool::new(false), spare: AtomicI64::new(0) }
    }

    /// The answer, if it still holds.
    fn has_room(&self, now: u64) -> Option<bool> {
        let holds = now < self.until.load(Ordering::Acquire);
        match self.room.load(Ordering::Relaxed) {
            true => (holds && self.spare.load(Ordering::Relaxed) > 0).then_some(true),
            false => holds.then_some(false),
        }
    }

    /// So many descriptors can be opened, of so many that there may be.
    fn note(&self, now: u64, left: u64, places: u64) -> bool {
        let room = left > ONE_MESSAGE;
        let spare = left.saturating_sub(ONE_MESSAGE + (places / OTHERS_SHARE).min(MOST_OTHERS));
        self.spare.store(i64::try_from(spare).unwrap_or(i64::MAX), Ordering::Relaxed);
        self.room.store(room, Ordering::Relaxed);
        // Last: whoever sees it sees what it goes with.
        self.until.store(now + AGE, Ordering::Release);
        room
    }

    fn took(&self, count: usize) {
        // No message brings more than fits.
        self.spare.fetch_sub(i64::try_from(count).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Whether this process has room for another [`MAX_FDS`] descriptors, as many as one message can bring.
///
/// The answer may be 10 ms old, less what was [received](crate::receive) since. A "yes" is not remembered when less than an eighth of
/// the table (1,024 at most) is free beside those; a "no" always is. `fd`: any that is open.
#[must_use]
pub fn has_room(fd: BorrowedFd<'_>) -> bool {
    let now = now();
    SEEN.has_room(now).unwrap_or_else(|| look(now, fd))
}

#[cold]
fn look(now: u64, fd: BorrowedFd<'_>) -> bool {
    let (left, places) = free(fd);
    SEEN.note(now, left, places)
}

/// How many descriptors this process may still open; `u64::MAX` where nothing limits them. `fd`: any that is open.
#[must_use]
pub fn descriptors_left(fd: BorrowedFd<'_>) -> u64 {
    free(fd).0
}

/// How many can be opened, and how many there may be.
fn free(fd: BorrowedFd<'_>) -> (u64, u64) {
    let Some(places) = getrlimit(Resource::Nofile).current else { return (u64::MAX, u64::MAX) };
    (places.saturating_sub(open(fd).unwrap_or(places)), places)
}

/// How many are open. Linux counts them (since 6.2) where `/proc` is there. Else it is the lowest number that is free, for which a
/// duplicate is made for a moment: fewer than there are, if there are gaps.
fn open(fd: BorrowedFd<'_>) -> Option<u64> {
    let counted =
        statx(CWD, c"/proc/self/fd", AtFlags::empty(), StatxFlags::SIZE).map_or(0, |own| own.stx_size);
    if counted > 0 {
        return Some(counted);
    }
    let lowest = rustix::io::fcntl_dupfd_cloexec(fd, 0).ok()?;
    u64::try_from(lowest.as_raw_fd()).ok()
}

/// So many descriptors were received.
pub(crate) fn took(count: usize) {
    // Most messages bring none, and this is shared by all threads.
    if count > 0 {
        SEEN.took(count);
    }
}

/// Of a clock that costs a few nanoseconds. It is exact to a tick of the kernel's, 1 to 10 ms.
fn now() -> u64 {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let (seconds, nanoseconds) = (u64::try_from(time.tv_sec), u64::try_from(time.tv_nsec));
    seconds.unwrap_or_default() * 1000 + nanoseconds.unwrap_or_default() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_yes_holds_for_a_while_and_for_as_many_as_were_to_spare() {
        let seen = Seen::nothing();
        assert_eq!(seen.has_room(0), None, "nobody has looked");
        assert_eq!(seen.has_room(1000), None);
        // Of 1,024 places 900 are free: 253 for a message, and 128 for others.
        assert!(seen.note(1000, 900, 1024));
        assert_eq!([1000, 1009, 1010].map(|now| seen.has_room(now)), [Some(true), Some(true), None]);
        seen.took(518);
        assert_eq!(seen.has_room(1000), Some(true));
        seen.took(1);
        assert_eq!(seen.has_room(1000), None);
        seen.took(MAX_FDS);
        assert_eq!(seen.has_room(1000), None);
        // Another look, another answer.
        assert!(seen.note(1000, 900, 1024));
        assert_eq!(seen.has_room(1000), Some(true));
    }

    #[test]
    fn with_little_to_spare_each_message_looks() {
        let seen = Seen::nothing();
        assert!(seen.note(0, 253 + 128, 1024));
        assert_eq!(seen.has_room(0), None);
        assert!(seen.note(0, 254, 1024));
        assert_eq!(seen.has_room(0), None);
    }

    #[test]
    fn a_no_holds_for_a_while() {
        let seen = Seen::nothing();
        for (left, places) in [(253, 1024), (0, 1024), (125, 128)] {
            assert!(!seen.note(5, left, places));
            assert_eq!([5, 14, 15].map(|now| seen.has_room(now)), [Some(false), Some(false), None]);
        }
        seen.took(1);
        assert_eq!(seen.has_room(5), Some(false));
        assert!(seen.note(5, 900, 1024));
        assert_eq!(seen.has_room(5), Some(true));
    }

    #[test]
    fn a_table_without_limit_has_room() {
        let seen = Seen::nothing();
        assert!(seen.note(0, u64::MAX, u64::MAX));
        assert_eq!([9, 10].map(|now| seen.has_room(now)), [Some(true), None]);
    }

    #[test]
    fn this_process_has_room() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(has_room(std::os::fd::AsFd::as_fd(&file)));
    }
}
