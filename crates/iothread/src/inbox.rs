//! What other threads ask of an iothread: a queue with a flag, and a wake-up when the flag goes up.
//!
//! Invariants, model-checked by `tests/model.rs`:
//!
//! * nothing is lost: after a push that succeeded either the flag is up before the thread next looks at it, or the
//!   thread has been woken after it looked;
//! * messages are taken in the order in which they were pushed;
//! * after [`Inbox::close`] nothing can be pushed, and what was pushed before has been handed out.
//!
//! The iothread looks at the flag alone while nothing is asked of it, so serving file descriptors takes no lock.
//! The lock is held for one push or one swap, never across a system call or a call of foreign code.

use std::mem;
use std::sync::PoisonError;

use crate::sync::{AtomicBool, Mutex, Ordering};

/// Makes the receiving thread return from its wait, now or the next time it waits.
pub(crate) trait Wake {
    fn wake(&self);
}

/// The queue. Any thread pushes, one thread takes.
#[derive(Debug)]
pub(crate) struct Inbox<M> {
    queue: Mutex<Queue<M>>,
    pending: AtomicBool,
}

#[derive(Debug)]
struct Queue<M> {
    messages: Vec<M>,
    closed: bool,
}

impl<M> Inbox<M> {
    pub(crate) fn new() -> Self {
        Self {
            queue: Mutex::new(Queue { messages: Vec::new(), closed: false }),
            pending: AtomicBool::new(false),
        }
    }

    /// Queues a message and wakes the receiver if it has not been told yet. Gives the message back when closed.
    ///
    /// The receiver itself passes no waker: it looks at [`Inbox::pending`] before it waits.
    pub(crate) fn push(&self, message: M, waker: Option<&impl Wake>) -> Result<(), M> {
        {
            let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if queue.closed {
                return Err(message);
            }
            queue.messages.push(message);
        }
        if !self.pending.swap(true, Ordering::AcqRel)
            && let Some(waker) = waker
        {
            waker.wake();
        }
        Ok(())
    }

    /// Whether there may be something to take. To be asked after a wake-up was consumed, and before each wait.
    pub(crate) fn pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Swaps what is queued with `messages`, which should be empty: its memory is the queue's from here on.
    pub(crate) fn take(&self, messages: &mut Vec<M>) {
        // The flag goes down first: a push after this line raises it again and wakes, at worst for nothing.
        self.pending.swap(false, Ordering::AcqRel);
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
