//! Descriptors that were taken out of sockets, and are not closed yet.
//!
//! A socket is emptied so that closes that take long, of what is inside, do so one by one. So whoever has sent it, or has connected,
//! be he refused, puts descriptors into the process's table for a moment, and no budget counts them. Hence a bound for all of them
//! together; a socket that is beyond it is closed with what it holds.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::receive::MAX_FDS;

/// They are this part of the limit of descriptors at most, but one message's in any case, and no more than [`MOST`].
const SHARE: u64 = 16;

/// More would make nothing faster.
const MOST: usize = 1024;

/// What is waited for room at most: receiving takes microseconds, but those that are loose may be for good.
const PATIENCE: u32 = 100;
const MOMENT: Duration = Duration::from_millis(1);

/// How many there are, and may come with what is being received.
static LOOSE: AtomicUsize = AtomicUsize::new(0);

/// Counts some of them until it is dropped.
#[derive(Debug)]
pub(crate) struct Loose(usize);

impl Loose {
    /// Room for as many as one message can bring, if there is.
    fn room() -> Option<Self> {
        let most = most();
        let add = |now: usize| now.checked_add(MAX_FDS).filter(|then| *then <= most);
        let added = LOOSE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        // Made only when they are counted, as it takes them off when it is dropped.
        added.is_ok().then(|| Self(MAX_FDS))
    }

    /// The same, for a thread that may wait a moment: others may hold room only until they have received.
    pub(crate) fn room_soon() -> Option<Self> {
        (0..PATIENCE).find_map(|_| {
            let room = Self::room();
            if room.is_none() {
                thread::sleep(MOMENT);
            }
            room
        })
    }

    /// One of them, which is counted apart from now on.
    pub(crate) fn one(&mut self) -> Self {
        let one = self.0.min(1);
        self.0 -= one;
        Self(one)
    }
}

impl Drop for Loose {
    fn drop(&mut self) {
        LOOSE.fetch_sub(self.0, Ordering::Relaxed);
    }
}

fn most() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    limit.and_then(|limit| usize::try_from(limit / SHARE).ok()).unwrap_or(MOST).clamp(MAX_FDS, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process may have some too.
    #[test]
    fn who_finds_no_room_takes_none_off() {
        let mut rooms: Vec<_> = Loose::room_soon().into_iter().collect();
        rooms.extend(std::iter::from_fn(Loose::room));
        (0..100).for_each(|_| drop(Loose::room()));
        assert!((rooms.len() * MAX_FDS..=MOST).contains(&LOOSE.load(Ordering::Relaxed)));
        let one = rooms.last_mut().map(Loose::one);
        assert!(one.is_none_or(|one| one.0 == 1));
    }
}
