//! What other threads ask of an iothread: a queue with a flag, and a wake-up for a receiver that sleeps.
//!
//! Invariants, model-checked by `tests/model.rs`:
//!
//! * nothing is lost: after a push that succeeded either the flag is up when the thread next looks at it, or the
//!   thread, which slept, has been woken;
//! * a thread that is awake, polling busily say, costs its senders no wake-up: it looks at the flag;
//! * messages are taken in the order in which they were pushed;
//! * after [`Inbox::close`] nothing can be pushed, and what was pushed before has been handed out.
//!
//! The iothread looks at the flag alone while nothing is asked of it, so serving file descriptors takes no lock.
//! The lock is held for one push or one swap, never across a system call or a call of foreign code.

use std::mem;
use std::sync::PoisonError;

use crate::sync::{AtomicU8, Mutex, Ordering};

/// There may be something to take, or somebody wants the thread to go round.
const PENDING: u8 = 1;
/// The receiver sleeps or is about to, and must be woken. Only it sets this, and only while nothing is pending.
const SLEEPING: u8 = 2;

/// Makes the receiving thread return from its sleep, now or the next time it sleeps.
pub(crate) trait Wake {
    fn wake(&self);
}

/// The queue. Any thread pushes, one thread takes.
#[derive(Debug)]
pub(crate) struct Inbox<M> {
    queue: Mutex<Queue<M>>,
    state: AtomicU8,
}

#[derive(Debug)]
struct Queue<M> {
    messages: Vec<M>,
    closed: bool,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Self {
        Self { queue: Mutex::new(Queue { messages: Vec::new(), closed: false }), state: AtomicU8::new(0) }
    }

    /// Queues a message and wakes the receiver if it sleeps and has not been woken yet. Gives the message back when
    /// closed.
    pub(crate) fn push(&self, message: M, waker: &impl Wake) -> Result<(), M> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(message);
            }
            queue.messages.push(message);
        }
        self.nudge(waker);
        Ok(())
    }

    /// Makes the receiver look, as if there were a message.
    pub(crate) fn nudge(&self, waker: &impl Wake) {
        if self.state.fetch_or(PENDING, Ordering::AcqRel) == SLEEPING {
            waker.wake();
        }
    }

    /// Whether there may be something to take.
    pub(crate) fn pending(&self) -> bool {
        self.state.load(Ordering::Acquire) & PENDING != 0
    }

    /// The receiver is about to sleep: from here to [`Inbox::awake`] a push wakes it. `false`, and nothing is changed,
    /// if something is pending.
    pub(crate) fn sleep(&self) -> bool {
        self.state.compare_exchange(0, SLEEPING, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The receiver has slept. It looks at [`Inbox::pending`] from here on.
    pub(crate) fn awake(&self) {
        self.state.fetch_and(!SLEEPING, Ordering::AcqRel);
    }

    /// Swaps what is queued with `messages`, which should be empty: its memory is the queue's from here on.
    pub(crate) fn take(&self, messages: &mut Vec<M>) {
        // The flag goes down first: a push after this line raises it again, at worst for nothing.
        self.state.fetch_and(!PENDING, Ordering::AcqRel);
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut queue.messages, messages);
    }

    /// Refuses all further messages, and gives what is still queued.
    pub(crate) fn close(&self) -> Vec<M> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.closed = true;
        mem::take(&mut queue.messages)
    }
}
