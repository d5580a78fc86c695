//! What may block, for handlers that must not.

use std::future::Future;
use std::io;

use thread_start::Starter;
use tokio::runtime::Handle;

use crate::{CommandError, CommandResult};

/// Runs `body`, which may block, on a thread of its own: in the context of the runtime that asks for it, if there is one, and in
/// its log span. It begins at once, and runs to its end whether or not anybody waits for it.
///
/// # Errors
/// Those of `body`, or that no thread can be started; then `body` was dropped.
///
/// # Panics
/// When `body` does: a command's client gets an error then.
pub fn apart<T, F>(starter: &Starter, body: F) -> impl Future<Output = CommandResult<T>> + Send + use<T, F>
where
    F: FnOnce() -> CommandResult<T> + Send + 'static,
    T: Send + 'static,
{
    let (span, runtime) = (tracing::Span::current(), Handle::try_current().ok());
    let result = starter.apart(move || {
        let _inside = runtime.as_ref().map(Handle::enter);
        span.in_scope(body)
    });
    async move { result.await.unwrap_or_else(|error| Err(no_thread(&error))) }
}

fn no_thread(error: &io::Error) -> CommandError {
    CommandError::generic(format!("No thread could be started: {error}"))
}
