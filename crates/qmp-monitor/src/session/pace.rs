//! How much a session may do before others have their turn.
//!
//! A client that sends more at once than one turn's share goes into the *lane*: of all such sessions of a plane, one at
//! a time has a turn, in order. So however many clients flood, what any other client asks waits for at most one turn of
//! one of them; and before each such turn the runtime looks for I/O, so that it learns of that other client.
//!
//! What a turn costs is counted in requests: large ones, and large replies, are as many. A session whose last turn cost much
//! has its next one in the lane, too, though it asks one thing at a time.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Requests that a session handles in a turn. Whoever asks one small thing at a time never comes near it. Larger, it lets floods of
/// moderate size by: with 80, 63 clients with 64 commands in flight each made another wait 24 times as long as alone; with
/// 16, not longer than alone, and one such client is served as fast.
const SHARE: u32 = 16;

/// The same in the lane, where somebody may be waiting.
const LANE_SHARE: u32 = 32;

/// A turn that costs more is a heavy one: some 100 us, or replies of 32 KiB. (30 clients that ask for lists of 400 KiB, one at a
/// time, made another wait 400 times as long as alone.)
const HEAVY: u32 = LANE_SHARE;

/// The lane of one plane. Clones are the same lane.
#[derive(Clone, Debug)]
pub(crate) struct Lane(Arc<Semaphore>);

impl Lane {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

type Queued = Pin<Box<dyn Future<Output = Result<OwnedSemaphorePermit, AcquireError>> + Send>>;

/// What a turn ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Something must be waited for: input, or a command.
    Waiting,
    /// The outbox is above its mark.
    Full,
    /// The turn's share is used up.
    Spent,
    /// There will be nothing more to do.
    Over,
}

/// Where a session stands.
enum State {
    /// Outside the lane.
    Free,
    /// Waiting for its turn in the lane.
    Queued(Queued),
    /// At its head, while the runtime looks for I/O.
    Yielding(OwnedSemaphorePermit),
    /// Having its turn.
    Turn(OwnedSemaphorePermit),
}

/// One session's pace.
pub(crate) struct Pace {
    lane: Lane,
    state: State,
    /// What this turn has cost; `None`: it has done nothing so far.
    cost: Option<u32>,
    /// The last turn that did something was a heavy one.
    heavy: bool,
}

impl Pace {
    pub(crate) fn new(lane: Lane) -> Self {
        Self { lane, state: State::Free, cost: None, heavy: false }
    }

    /// How many requests the session may handle now. Pending, and woken later, while it is the turn of another.
    pub(crate) fn poll_share(&mut self, cx: &mut Context<'_>) -> Poll<u32> {
        match std::mem::replace(&mut self.state, State::Free) {
            State::Free if self.heavy => {
                self.spent(cx);
                Poll::Pending
            }
            State::Free => Poll::Ready(SHARE),
            State::Yielding(permit) | State::Turn(permit) => {
                self.state = State::Turn(permit);
                Poll::Ready(LANE_SHARE)
            }
            State::Queued(queued) => {
                self.poll_queue(queued, cx);
                Poll::Pending
            }
        }
    }

    /// The turn has done something, which cost so much beside the request itself.
    pub(crate) fn count(&mut self, cost: u32) {
        self.cost = Some(self.cost.unwrap_or_default().saturating_add(cost));
    }

    /// What is left of a share when reading and answering have cost so much. Nothing costs nothing, and is not something done.
    pub(crate) fn pay(&mut self, left: u32, cost: u32) -> u32 {
        if cost > 0 {
            self.count(cost);
        }
        left.saturating_sub(cost)
    }

    /// A turn is over: sees to it that there is another one when nothing else will bring it. `room`: the outbox is below
    /// its mark.
    pub(crate) fn settle(&mut self, turn: Turn, room: bool, cx: &mut Context<'_>) {
        if let Some(cost) = self.cost.take() {
            self.heavy = cost > HEAVY;
        }
        match turn {
            Turn::Spent => self.spent(cx),
            Turn::Full if room => self.spent(cx),
            // Input, a command, or the peer's reading wakes the task.
            Turn::Full | Turn::Waiting | Turn::Over => self.pause(),
        }
    }

    /// The share is used up and there is more to do: on with it in the lane.
    fn spent(&mut self, cx: &mut Context<'_>) {
        // Gives up the turn first, so that others come before the next one.
        self.state = State::Free;
        let lane = self.lane.0.clone();
        self.poll_queue(Box::pin(lane.acquire_owned()), cx);
    }

    /// The session has to wait for something else: its turn is over.
    fn pause(&mut self) {
        if matches!(self.state, State::Turn(_)) {
            self.state = State::Free;
        }
    }

    fn poll_queue(&mut self, mut queued: Queued, cx: &mut Context<'_>) {
        self.state = match queued.as_mut().poll(cx) {
            Poll::Pending => State::Queued(queued),
            Poll::Ready(Ok(permit)) => {
                // Its first poll asks the runtime to wake this task once it has looked for I/O.
                let _ = pin!(tokio::task::yield_now()).poll(cx);
                State::Yielding(permit)
            }
            // Nobody closes the semaphore.
            Poll::Ready(Err(_)) => State::Free,
        };
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    fn share(pace: &mut Pace) -> Poll<u32> {
        pace.poll_share(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn floods_take_turns_and_others_do_not_wait() {
        let lane = Lane::new();
        let [mut a, mut b, mut quiet] = [(); 3].map(|()| Pace::new(lane.clone()));
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(share(&mut a), Poll::Ready(SHARE));
        a.spent(&mut cx);
        b.spent(&mut cx);
        assert_eq!(share(&mut b), Poll::Pending, "a has the lane");
        assert_eq!(share(&mut a), Poll::Ready(LANE_SHARE));
        assert_eq!(share(&mut quiet), Poll::Ready(SHARE));

        a.spent(&mut cx);
        assert_eq!(share(&mut a), Poll::Pending, "behind b now");
        assert_eq!(share(&mut b), Poll::Pending, "the runtime looks for I/O first");
        assert_eq!(share(&mut b), Poll::Ready(LANE_SHARE));
        b.pause();
        assert_eq!(share(&mut b), Poll::Ready(SHARE), "out of the lane");
        assert_eq!(share(&mut a), Poll::Pending);
        assert_eq!(share(&mut a), Poll::Ready(LANE_SHARE));
    }

    /// One turn of something that costs so much.
    fn turn(pace: &mut Pace, cost: u32) {
        pace.count(cost);
        pace.settle(Turn::Waiting, true, &mut Context::from_waker(Waker::noop()));
    }

    #[test]
    fn after_a_heavy_turn_the_next_is_in_the_lane() {
        let lane = Lane::new();
        let [mut a, mut b, mut light] = [(); 3].map(|()| Pace::new(lane.clone()));
        for pace in [&mut a, &mut b] {
            assert_eq!(share(pace), Poll::Ready(SHARE));
            turn(pace, HEAVY + 1);
        }
        assert_eq!(share(&mut light), Poll::Ready(SHARE));
        turn(&mut light, HEAVY);
        assert_eq!(share(&mut light), Poll::Ready(SHARE));
        assert_eq!(share(&mut a), Poll::Pending, "the runtime looks for I/O first");
        assert_eq!(share(&mut b), Poll::Pending);
        assert_eq!(share(&mut b), Poll::Pending, "a has the lane");
        // A turn in which nothing comes changes nothing.
        assert_eq!(share(&mut a), Poll::Ready(LANE_SHARE));
        a.settle(Turn::Waiting, true, &mut Context::from_waker(Waker::noop()));
        assert_eq!(share(&mut b), Poll::Pending);
        assert_eq!(share(&mut b), Poll::Ready(LANE_SHARE));
        turn(&mut b, 1);
        assert_eq!(share(&mut b), Poll::Ready(SHARE), "it asks for little now");
        assert_eq!(share(&mut a), Poll::Pending);
        assert_eq!(share(&mut a), Poll::Ready(LANE_SHARE));
    }

    #[test]
    fn a_session_that_ends_in_the_lane_frees_it() {
        let lane = Lane::new();
        let mut cx = Context::from_waker(Waker::noop());
        let [mut gone, mut next] = [(); 2].map(|()| Pace::new(lane.clone()));
        gone.spent(&mut cx);
        next.spent(&mut cx);
        drop(gone);
        assert_eq!(share(&mut next), Poll::Pending);
        assert_eq!(share(&mut next), Poll::Ready(LANE_SHARE));
    }
}
