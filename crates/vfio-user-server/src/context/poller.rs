//! One pollable descriptor for all that a context waits for: an epoll instance, with a timer and a wake-up in it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, Timespec, eventfd};
use rustix::io;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};

use crate::Errno;

/// Events fetched at a time.
pub(crate) const EVENTS: usize = 16;

/// What a descriptor is to the context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Listener,
    Connection,
    Twin,
    Timer,
    Wake,
    Resample,
    /// A descriptor that the device watches.
    Watch(u32),
    /// The eventfd of a doorbell.
    Doorbell(u32),
}

impl Token {
    fn to_data(self) -> EventData {
        let (kind, number) = match self {
            Self::Listener => (0, 0),
            Self::Connection => (1, 0),
            Self::Twin => (2, 0),
            Self::Timer => (3, 0),
            Self::Wake => (4, 0),
            Self::Resample => (5, 0),
            Self::Watch(number) => (6, number),
            Self::Doorbell(number) => (7, number),
        };
        EventData::new_u64(u64::from(number) << 32 | kind)
    }

    fn of(data: EventData) -> Option<Self> {
        let number = u32::try_from(data.u64() >> 32).ok()?;
        Some(match data.u64() & u64::from(u32::MAX) {
            0 => Self::Listener,
            1 => Self::Connection,
            2 => Self::Twin,
            3 => Self::Timer,
            4 => Self::Wake,
            5 => Self::Resample,
            6 => Self::Watch(number),
            7 => Self::Doorbell(number),
            _ => return None,
        })
    }
}

/// The descriptor. Whoever has it may add and remove; only the context's thread fetches.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
    wake: OwnedFd,
}

impl Poller {
    /// Three descriptors.
    pub(crate) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let poller = Self { epoll, timer, wake };
        poller.add(&poller.timer, Token::Timer, true, false)?;
        poller.add(&poller.wake, Token::Wake, true, false)?;
        Ok(poller)
    }

    /// Watches a descriptor. Level-triggered; hang-ups are always told.
    pub(crate) fn add(&self, fd: impl AsFd, token: Token, read: bool, write: bool) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.to_data(), flags(read, write))
    }

    /// Watches a descriptor for what is written to it, and tells of each time once, of what is there already, too. For an
    /// eventfd of a client, who decides how often it has to be read until it is empty.
    pub(crate) fn add_edge(&self, fd: impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, fd, token.to_data(), EventFlags::IN | EventFlags::ET)
    }

    /// Watches it for something else.
    pub(crate) fn modify(&self, fd: impl AsFd, token: Token, read: bool, write: bool) {
        if let Err(error) = epoll::modify(&self.epoll, fd, token.to_data(), flags(read, write)) {
            tracing::error!(%error, "cannot watch a descriptor of a vfio-user context for something else");
        }
    }

    /// Watches it no more. Before it is closed: while somebody else has it open, a close does not do this.
    pub(crate) fn remove(&self, fd: impl AsFd) {
        // The only errors are that it is not watched.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// What is ready now.
    pub(crate) fn fetch(&self, ready: &mut Vec<Token>) {
        let mut events = [Event { flags: EventFlags::empty(), data: EventData::new_u64(0) }; EVENTS];
        ready.clear();
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        // The only errors are an interruption and those of a wrong call.
        let count = epoll::wait(&self.epoll, &mut events[..], Some(&now)).unwrap_or(0);
        ready.extend(events[..count].iter().filter_map(|event| Token::of(event.data)));
    }

    /// Makes [`Token::Timer`] ready at `due`, or never.
    pub(crate) fn set_timer(&self, due: Option<Instant>, now: Instant) {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // Zero would switch the timer off.
        let wait = |due: Instant| due.saturating_duration_since(now).max(Duration::from_nanos(1));
        let value = due.and_then(|due| Timespec::try_from(wait(due)).ok()).unwrap_or(zero);
        let new = Itimerspec { it_interval: zero, it_value: value };
        if let Err(error) = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &new) {
            tracing::error!(%error, "cannot set the timer of a vfio-user context");
        }
    }

    /// Takes back that the timer is ready.
    pub(crate) fn clear_timer(&self) {
        let _ = io::read(&self.timer, &mut [0; 8]);
    }

    /// Makes [`Token::Wake`] ready. From any thread.
    pub(crate) fn wake(&self) {
        // The only error is a counter near its end, which wakes just as well.
        let _ = io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    /// Takes it back.
    pub(crate) fn clear_wake(&self) {
        let _ = io::read(&self.wake, &mut [0; 8]);
    }
}

impl AsFd for Poller {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

fn flags(read: bool, write: bool) -> EventFlags {
    let mut flags = EventFlags::empty();
    flags.set(EventFlags::IN | EventFlags::RDHUP, read);
    flags.set(EventFlags::OUT, write);
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakes_and_times_are_seen_until_they_are_taken_back() {
        let poller = Poller::new().unwrap();
        let mut ready = Vec::new();
        poller.fetch(&mut ready);
        assert_eq!(ready, []);
        poller.wake();
        poller.set_timer(Some(Instant::now()), Instant::now());
        let wait = rustix::event::PollFd::new(&poller, rustix::event::PollFlags::IN);
        rustix::event::poll(&mut [wait], None).unwrap();
        while ready.len() < 2 {
            poller.fetch(&mut ready);
        }
        assert!(ready.contains(&Token::Wake) && ready.contains(&Token::Timer));
        poller.clear_wake();
        poller.clear_timer();
        poller.fetch(&mut ready);
        assert_eq!(ready, []);
    }

    #[test]
    fn tokens_survive_the_kernel() {
        let all = [Token::Listener, Token::Twin, Token::Watch(u32::MAX), Token::Doorbell(7), Token::Watch(0)];
        for token in all {
            assert_eq!(Token::of(token.to_data()), Some(token));
        }
    }
}
