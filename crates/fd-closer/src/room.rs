//! Whether descriptors that come find room in this process's table.
//!
//! What does not fit the kernel closes on the thread that receives, and a close can block. So who receives asks before. The answer
//! takes three system calls, about as much as the message itself, so a "yes" is remembered for a moment: while there is so
//! much room that what others open meanwhile does not matter, and no longer.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::receive::MAX_FDS;

/// How long a "yes" holds, in milliseconds: what is opened or forbidden meanwhile by others than those who receive is not seen.
const AGE: u64 = 10;

/// The table is the process's, and so is what was seen of it.
static SEEN: Seen = Seen { until: AtomicU64::new(0), spare: AtomicI64::new(0) };

/// Two writers at a time may mix what they have seen, which was true of the same moment.
#[derive(Debug)]
struct Seen {
    /// In milliseconds of the coarse clock.
    until: AtomicU64,
    /// How many descriptors may be received before the table must be looked at again.
    spare: AtomicI64,
}

impl Seen {
    fn holds(&self, now: u64) -> bool {
        now < self.until.load(Ordering::Relaxed) && self.spare.load(Ordering::Relaxed) > 0
    }

    /// The table has so many places, if that is limited, and this is the lowest that is free. The answer holds for a while only if half
    /// of the places are free beside those that one message needs: so many nobody takes in a few milliseconds but by sending
    /// descriptors, which are counted.
    fn look(&self, now: u64, lowest: u64, places: Option<u64>) -> bool {
        let Some(places) = places else {
            self.remember(now, i64::MAX);
            return true;
        };
        let free = places.saturating_sub(lowest);
        let spare = free.saturating_sub(places / 2).saturating_sub(MAX_FDS as u64);
        self.remember(now, i64::try_from(spare).unwrap_or(i64::MAX));
        free > MAX_FDS as u64
    }

    fn remember(&self, now: u64, spare: i64) {
        self.spare.store(spare, Ordering::Relaxed);
        self.until.store(now + AGE, Ordering::Relaxed);
    }

    fn took(&self, count: usize) {
        self.spare.fetch_sub(i64::try_from(count).unwrap_or(i64::MAX), Ordering::Relaxed);
    }
}

/// Whether this process has room for another [`MAX_FDS`] descriptors, as many as one message can bring, as far as can be told: the
/// lowest number that is free tells, unless there are many gaps above it. It is found by a duplicate of `fd`, for a moment.
///
/// With more than half of the table free, "yes" may be what was seen up to 10 ms ago, less what was [received](crate::receive) since:
/// it costs no system call then.
#[must_use]
pub fn has_room(fd: BorrowedFd<'_>) -> bool {
    let now = now();
    SEEN.holds(now) || look(now, fd)
}

#[cold]
fn look(now: u64, fd: BorrowedFd<'_>) -> bool {
    let Ok(lowest) = rustix::io::fcntl_dupfd_cloexec(fd, 0) else { return false };
    let lowest = u64::try_from(lowest.as_raw_fd()).unwrap_or_default();
    SEEN.look(now, lowest, getrlimit(Resource::Nofile).current)
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

    fn nothing_seen() -> Seen {
        Seen { until: AtomicU64::new(0), spare: AtomicI64::new(0) }
    }

    #[test]
    fn an_answer_holds_for_a_while_and_for_as_many_as_were_to_spare() {
        let seen = nothing_seen();
        assert!(!seen.holds(1000), "nobody has looked");
        // Of 1,024 places 924 are free: 512 stay so, and those of one message.
        assert!(seen.look(1000, 100, Some(1024)));
        assert!(seen.holds(1000) && seen.holds(1009) && !seen.holds(1010));
        seen.took(158);
        assert!(seen.holds(1000));
        seen.took(1);
        assert!(!seen.holds(1000));
        seen.took(usize::MAX);
        assert!(!seen.holds(1000));
        // Another look, another answer.
        assert!(seen.look(1000, 100, Some(1024)) && seen.holds(1000));
    }

    #[test]
    fn with_half_of_the_table_in_use_each_message_looks() {
        let seen = nothing_seen();
        assert!(seen.look(0, 260, Some(1024)) && !seen.holds(0));
        assert!(seen.look(0, 770, Some(1024)) && !seen.holds(0));
        assert!(!seen.look(0, 771, Some(1024)) && !seen.holds(0), "253 are free, and one is not to spare");
        assert!(!seen.look(0, 2000, Some(1024)) && !seen.holds(0), "the limit was lowered");
        assert!(!seen.look(0, 3, Some(128)) && !seen.holds(0), "a small table never has room");
    }

    #[test]
    fn a_table_without_limit_has_room() {
        let seen = nothing_seen();
        assert!(seen.look(0, 1 << 30, None) && seen.holds(9) && !seen.holds(10));
        seen.took(usize::MAX);
    }

    #[test]
    fn this_process_has_room() {
        let file = std::fs::File::open("/dev/null").unwrap();
        assert!(has_room(std::os::fd::AsFd::as_fd(&file)));
    }
}
