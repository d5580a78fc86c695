//! Calls of foreign code that may panic.
//!
//! A panic in a handler, a timer, a closure or the destructor of one is logged and goes no further, if the program
//! unwinds at all. Nothing but that depends on unwinding.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `f`; `None` if it panicked, which is logged as the panic of a `what`.
///
/// The caller sees to it that nothing of its own is left half-changed when `f` unwinds.
pub(crate) fn call<R>(what: &'static str, f: impl FnOnce() -> R) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => Some(result),
        Err(payload) => {
            let message = text(payload.as_ref());
            tracing::error!(what, message, "panic on an iothread");
            // A payload's own destructor could panic again.
            let _ = catch_unwind(AssertUnwindSafe(|| drop(payload))).map_err(std::mem::forget);
            None
        }
    }
}

/// Drops foreign values, whose destructors may panic.
pub(crate) fn discard<T>(value: T) {
    let _ = call("destructor", || drop(value));
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a payload that is no text")
}
