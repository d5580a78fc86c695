//! A time limit for commands that may be dropped at any await.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use tower::timeout::Timeout;
use tower::{BoxError, Layer, Service};

use crate::error::CommandError;

/// Fails a call of a cancel-safe command that takes longer than a limit, and drops it.
///
/// It is tower's own timeout with our errors. It stands inside the permit: waiting for another command does not
/// count. It is never put around a command that changes things without being cancel-safe.
#[derive(Clone, Copy, Debug)]
pub struct TimeoutLayer {
    command: &'static str,
    limit: Duration,
}

impl TimeoutLayer {
    /// Gives calls of `command` at most `limit`.
    pub fn new(command: &'static str, limit: Duration) -> Self {
        Self { command, limit }
    }
}

impl<S> Layer<S> for TimeoutLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        Limited { inner: Timeout::new(inner, self.limit), layer: *self }
    }
}

/// The service of [`TimeoutLayer`].
#[derive(Clone, Debug)]
pub struct Limited<S> {
    inner: Timeout<S>,
    layer: TimeoutLayer,
}

impl<S, R> Service<R> for Limited<S>
where
    S: Service<R, Error = CommandError>,
    S::Future: Send + 'static,
    S::Response: 'static,
{
    type Response = S::Response;
    type Error = CommandError;
    // Arming the timer costs several times what this box does.
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, CommandError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), CommandError>> {
        let layer = self.layer;
        self.inner.poll_ready(cx).map_err(|e| layer.error(e))
    }

    fn call(&mut self, request: R) -> Self::Future {
        let layer = self.layer;
        let call = self.inner.call(request);
        Box::pin(async move { call.await.map_err(|e| layer.error(e)) })
    }
}

impl TimeoutLayer {
    fn error(self, error: BoxError) -> CommandError {
        match error.downcast::<qmp_protocol::Error>() {
            Ok(error) => CommandError::from(*error),
            Err(_elapsed) => CommandError::generic(format!(
                "The command {} did not finish within {} ms",
                self.command,
                self.limit.as_millis()
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmp_protocol::ErrorClass;
    use tower::ServiceExt;

    #[tokio::test(start_paused = true)]
    async fn names_the_command_and_the_limit() {
        let never = tower::service_fn(async |()| std::future::pending::<Result<(), CommandError>>().await);
        let error =
            TimeoutLayer::new("x", Duration::from_secs(2)).layer(never).oneshot(()).await.unwrap_err();
        assert_eq!(error.to_string(), "The command x did not finish within 2000 ms");
    }

    #[tokio::test]
    async fn an_error_keeps_its_class() {
        let fails = tower::service_fn(async |()| {
            Err::<(), _>(CommandError::generic("no").class(ErrorClass::DeviceNotFound))
        });
        let error =
            TimeoutLayer::new("x", Duration::from_secs(2)).layer(fails).oneshot(()).await.unwrap_err();
        assert_eq!((error.as_qmp().class, error.to_string().as_str()), (ErrorClass::DeviceNotFound, "no"));
    }
}
