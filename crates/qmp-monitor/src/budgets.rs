//! What the sessions of a plane may make it hold, all together.
//!
//! Memory and fds are counted by a [`Budget`] each. A session accounts for itself at the end of a turn ([`Holdings`]):
//! what it holds of unfinished input, of requests that wait or run, and of output. Fds are charged one by one from when
//! they arrive until they are closed, wherever they are by then: pending, named, or in a set.
//!
//! A session that is told to give does so on its own task, where its state is: see `session/giving.rs`. Others let it have
//! its turn first, once, so that what is made meanwhile does not add up.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use budget::{Account, Budget, Exempt, Holder};
use rustix::process::{Resource, getrlimit};
use tokio::time::Sleep;

use crate::core::Core;
use crate::events::WakeHandle;

/// What the sessions of a plane may make it hold, all together. `usize::MAX` for no limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Budgets {
    /// Bytes of memory: unfinished input, requests that wait and run, output that was not taken.
    pub memory: usize,
    /// File descriptors that clients sent and that are not closed, or an author's own.
    pub fds: usize,
}

/// The part of the limit of fds that clients may fill.
const FDS_SHARE: u64 = 4;

/// A session is let alone with this part of the budget of fds: with 64 of them, as much again as the budget.
const FDS_FLOORS: usize = 64;

/// The part of the budget of fds that may have names which sessions share: their givers may have gone.
const SHARED_NAMES_SHARE: usize = 4;

impl Default for Budgets {
    /// 256 MiB, and a quarter of the fds that the process may open as of now (`RLIMIT_NOFILE`, the soft limit).
    fn default() -> Self {
        let fds = getrlimit(Resource::Nofile).current.map_or(u64::MAX, |limit| limit / FDS_SHARE);
        Self { memory: 256 << 20, fds: usize::try_from(fds).unwrap_or(usize::MAX) }
    }
}

impl Budgets {
    /// Another limit of memory, in bytes.
    #[must_use]
    pub fn memory(self, memory: usize) -> Self {
        Self { memory, ..self }
    }

    /// Another number of fds.
    #[must_use]
    pub fn fds(self, fds: usize) -> Self {
        Self { fds, ..self }
    }

    pub(crate) fn shared_names(&self) -> usize {
        self.fds / SHARED_NAMES_SHARE
    }

    pub(crate) fn budgets(&self) -> [Budget; 2] {
        [Budget::new(self.memory), Budget::with_floor(self.fds, self.fds / FDS_FLOORS)]
    }
}

/// What the sessions of a plane hold. See [`Budgets`], which it is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of memory.
    pub memory: usize,
    /// File descriptors.
    pub fds: usize,
}

/// What one session holds, and how it is counted.
#[derive(Debug)]
pub(crate) struct Holdings {
    pub(crate) memory: Holder,
    /// Its output, one reply of any size, is not counted, until then. In a box: hardly any session has it.
    exempt: Option<Box<(Exempt, Pin<Box<Sleep>>)>>,
    /// It was exempt, and did not take the reply in time.
    lapsed: bool,
    /// All of its output that matters is one reply.
    lone_reply: bool,
    /// It has let others have their turn.
    yielded: bool,
}

/// What a session with a client has of its plane.
pub(crate) struct Resources {
    pub(crate) wake: WakeHandle,
    pub(crate) holdings: Holdings,
    /// Who holds its fds.
    pub(crate) fds: Holder,
}

impl Resources {
    /// `user`: whom its client acts for, if that is known.
    pub(crate) fn new(core: &Core, user: Option<u32>) -> Self {
        let wake = core.events.sleeper();
        let memory = core.memory.holder(wake.waker());
        let fds = core.fds.holder_for(user, wake.waker());
        let holdings = Holdings { memory, exempt: None, lapsed: false, lone_reply: false, yielded: false };
        Self { wake, holdings, fds }
    }

    /// Where memory and fds are counted.
    pub(crate) fn accounts(&self) -> [Account; 2] {
        [self.holdings.memory.account(), self.fds.account()]
    }
}

impl Holdings {
    /// Whether others must give before this session does anything. Once only: then the task is woken, and goes on. Costs
    /// one load as long as there is enough for all.
    pub(crate) fn lets_others_give(&mut self, cx: &mut Context<'_>) -> bool {
        let pressed = self.memory.budget().is_pressed() && !self.memory.is_told();
        let yields = pressed && !self.yielded;
        self.yielded = yields;
        if yields {
            cx.waker().wake_by_ref();
        }
        yields
    }

    /// Notes that a reply is about to be added to so many bytes of output.
    pub(crate) fn replies(&mut self, waiting: usize) {
        self.lone_reply = waiting <= self.memory.budget().floor();
    }

    /// How much output may wait before nothing more is read.
    pub(crate) fn mark(&self, limit: usize) -> usize {
        let pressed = self.exempt.is_some() || self.memory.budget().is_over();
        if pressed { limit.min(self.memory.budget().floor()) } else { limit }
    }

    /// A reply that was let through is to be taken within a time, whatever the pace; then it counts as all output does, and
    /// another session's may pass. To be asked at each turn.
    pub(crate) fn poll_lapse(&mut self, cx: &mut Context<'_>) {
        if let Some(exempt) = &mut self.exempt
            && exempt.1.as_mut().poll(cx).is_ready()
        {
            self.exempt = None;
            self.lapsed = true;
        }
    }

    /// What of the output counts, of `waiting` bytes in a buffer of `capacity`.
    pub(crate) fn output(&mut self, waiting: usize, capacity: usize) -> usize {
        if waiting <= self.memory.budget().floor() {
            self.exempt = None;
            self.lapsed = false;
        }
        if self.exempt.is_some() { 0 } else { capacity }
    }

    /// What to do with output that is too much: whether it passes all the same, as the one reply of any size that always does
    /// if it is taken `within` that time.
    pub(crate) fn lets_pass(&mut self, within: Duration, cx: &mut Context<'_>) -> bool {
        if self.lone_reply && self.exempt.is_none() && !self.lapsed {
            let exempt = self.memory.exempt();
            self.exempt = exempt.map(|exempt| Box::new((exempt, Box::pin(tokio::time::sleep(within)))));
            self.poll_lapse(cx);
            return self.exempt.is_some();
        }
        false
    }
}
