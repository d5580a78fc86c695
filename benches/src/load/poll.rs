//! Waiting for many sockets: a level-triggered epoll set that names sockets by index.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};

use super::{Doing, Result};

/// The most sockets that one wait names.
const BATCH: usize = 256;

/// An epoll set and what the last wait found.
#[derive(Debug)]
pub(crate) struct Poller {
    epoll: OwnedFd,
    ready: Vec<usize>,
}

impl Poller {
    pub(crate) fn new() -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).doing("making an epoll set")?;
        Ok(Self { epoll, ready: Vec::with_capacity(BATCH) })
    }

    /// Adds a socket, to be named `index` when it is ready.
    pub(crate) fn add(&self, socket: impl AsFd, index: usize, flags: EventFlags) -> Result<()> {
        let data = EventData::new_u64(index as u64);
        epoll::add(&self.epoll, socket, data, flags).doing("adding to an epoll set")
    }

    /// Waits up to `patience`. [`take`](Self::take) gives what is ready: nothing after a time-out or an interruption.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<()> {
        let mut events = [const { MaybeUninit::uninit() }; BATCH];
        let timeout = Timespec::try_from(patience).ok();
        self.ready.clear();
        match epoll::wait(&self.epoll, &mut events, timeout.as_ref()) {
            Ok((events, _)) => {
                self.ready.extend(events.iter().filter_map(|event| usize::try_from(event.data.u64()).ok()));
                Ok(())
            }
            Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).doing("waiting for monitors"),
        }
    }

    /// Takes the list out, so that its owner can be borrowed while going through it; [`give`](Self::give) it back.
    pub(crate) fn take(&mut self) -> Vec<usize> {
        std::mem::take(&mut self.ready)
    }

    /// Gives the list back, for its room.
    pub(crate) fn give(&mut self, ready: Vec<usize>) {
        self.ready = ready;
    }
}
