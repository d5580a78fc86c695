//! A tracing span and, with the feature `metrics`, counters and a histogram per command.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};
use tracing::Span;

use crate::context::Invocation;

/// Puts every call of one command into a span, and counts it.
///
/// The span is `qmp_command` at level `DEBUG` with the command's name and the session's number; argument values are
/// not in it. The metrics are `qmp_commands_total` and `qmp_command_errors_total`, counters, and
/// `qmp_command_seconds`, a histogram; all have the label `command`.
#[derive(Clone, Copy, Debug)]
pub struct ObserveLayer {
    command: &'static str,
}

impl ObserveLayer {
    /// Observes calls of `command`.
    pub fn new(command: &'static str) -> Self {
        Self { command }
    }
}

impl<S> Layer<S> for ObserveLayer {
    type Service = Observe<S>;

    fn layer(&self, inner: S) -> Observe<S> {
        Observe { inner, command: self.command, meters: Meters::new(self.command) }
    }
}

/// The service of [`ObserveLayer`].
#[derive(Clone, Debug)]
pub struct Observe<S> {
    inner: S,
    command: &'static str,
    meters: Meters,
}

impl<S, T, E> Service<Invocation> for Observe<S>
where
    S: Service<Invocation, Response = Result<T, E>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Observed<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: Invocation) -> Self::Future {
        let span = tracing::debug_span!(
            "qmp_command",
            command = self.command,
            session = invocation.context.session_id(),
            monitor = invocation.context.monitor(),
        );
        let inner = span.in_scope(|| self.inner.call(invocation));
        Observed { inner, span, timing: self.meters.start() }
    }
}

pin_project! {
    /// The future of [`Observe`].
    #[derive(Debug)]
    pub struct Observed<F> {
        #[pin]
        inner: F,
        span: Span,
        timing: Timing,
    }
}

impl<F, T, E, X> Future for Observed<F>
where
    F: Future<Output = Result<Result<T, E>, X>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let _entered = this.span.enter();
        let output = std::task::ready!(this.inner.poll(cx));
        this.timing.finish(matches!(output, Ok(Ok(_))));
        Poll::Ready(output)
    }
}

#[cfg(feature = "metrics")]
mod meters {
    use metrics::{Counter, Histogram};
    use std::sync::Arc;
    use std::time::Instant;

    /// Handles looked up once per command, so that a call costs a few atomic operations.
    #[derive(Clone)]
    pub(super) struct Meters(Arc<Handles>);

    struct Handles {
        calls: Counter,
        errors: Counter,
        seconds: Histogram,
    }

    impl Meters {
        pub(super) fn new(command: &'static str) -> Self {
            Self(Arc::new(Handles {
                calls: metrics::counter!("qmp_commands_total", "command" => command),
                errors: metrics::counter!("qmp_command_errors_total", "command" => command),
                seconds: metrics::histogram!("qmp_command_seconds", "command" => command),
            }))
        }

        pub(super) fn start(&self) -> Timing {
            Timing { meters: self.clone(), started: Instant::now() }
        }
    }

    impl std::fmt::Debug for Meters {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Meters")
        }
    }

    #[derive(Debug)]
    pub(super) struct Timing {
        meters: Meters,
        started: Instant,
    }

    impl Timing {
        pub(super) fn finish(&self, ok: bool) {
            let Meters(handles) = &self.meters;
            handles.calls.increment(1);
            if !ok {
                handles.errors.increment(1);
            }
            handles.seconds.record(self.started.elapsed());
        }
    }
}

#[cfg(not(feature = "metrics"))]
mod meters {
    /// Nothing is measured without the feature `metrics`.
    #[derive(Clone, Debug)]
    pub(super) struct Meters;

    impl Meters {
        pub(super) fn new(_command: &'static str) -> Self {
            Self
        }

        pub(super) fn start(&self) -> Timing {
            Timing
        }
    }

    #[derive(Debug)]
    pub(super) struct Timing;

    impl Timing {
        pub(super) fn finish(&self, _ok: bool) {}
    }
}

use meters::{Meters, Timing};
