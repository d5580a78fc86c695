//! Tells another thread that what it asked for is done.
//!
//! Being dropped is what tells: whatever becomes of the message that carries an [`Ack`] (carried out, thrown away when
//! the thread ends, unwound by a panic), its [`Waiter`] returns.

use std::sync::PoisonError;

use crate::sync::{Arc, Condvar, Mutex};

#[derive(Debug)]
struct Shared {
    done: Mutex<bool>,
    changed: Condvar,
}

/// Held by the thread that does the work until it is done.
#[derive(Debug)]
pub(crate) struct Ack(Arc<Shared>);

/// Held by the thread that waits for it.
#[derive(Debug)]
pub(crate) struct Waiter(Arc<Shared>);

/// A new pair.
pub(crate) fn ack() -> (Ack, Waiter) {
    let shared = Arc::new(Shared { done: Mutex::new(false), changed: Condvar::new() });
    (Ack(Arc::clone(&shared)), Waiter(shared))
}

impl Drop for Ack {
    fn drop(&mut self) {
        *self.0.done.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.changed.notify_one();
    }
}

impl Waiter {
    /// Blocks until the [`Ack`] is dropped.
    pub(crate) fn wait(self) {
        let mut done = self.0.done.lock().unwrap_or_else(PoisonError::into_inner);
        while !*done {
            done = self.0.changed.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
