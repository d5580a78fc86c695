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
/// `qmp_command_seconds`, a histogram; all have the label `command`. The recorder is the one that is there when the stack is
/// made, the thread's own (`metrics::with_local_recorder`) or the process's.
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
    use metrics::{Counter, Histogram, IntoF64};
    use std::cell::Cell;
    use std::sync::Arc;
    use std::time::Instant;

    /// Handles looked up once per command, so that a call costs a few atomic operations.
    #[derive(Clone)]
    pub(super) struct Meters(Arc<Handles>);

    struct Handles {
        calls: Counter,
        errors: Counter,
        seconds: Histogram,
        /// Somebody wants to know how long calls take. Else the clock is not looked at.
        timed: bool,
    }

    impl Meters {
        pub(super) fn new(command: &'static str) -> Self {
            describe();
            let seconds = metrics::histogram!("qmp_command_seconds", "command" => command);
            Self(Arc::new(Handles {
                calls: metrics::counter!("qmp_commands_total", "command" => command),
                errors: metrics::counter!("qmp_command_errors_total", "command" => command),
                timed: is_heard(&seconds),
                seconds,
            }))
        }

        pub(super) fn start(&self) -> Timing {
            Timing { meters: self.clone(), started: self.0.timed.then(Instant::now) }
        }
    }

    /// Whether what is recorded goes anywhere: a value is only then made a number. This one is recorded no times.
    fn is_heard(histogram: &Histogram) -> bool {
        struct Probe<'a>(&'a Cell<bool>);
        impl IntoF64 for Probe<'_> {
            fn into_f64(self) -> f64 {
                self.0.set(true);
                0.0
            }
        }
        let heard = Cell::new(false);
        histogram.record_many(Probe(&heard), 0);
        heard.get()
    }

    /// Recorders keep the first description of a name.
    fn describe() {
        use metrics::{Unit, describe_counter, describe_histogram};
        describe_counter!("qmp_commands_total", Unit::Count, "Calls of a command that have ended.");
        describe_counter!("qmp_command_errors_total", Unit::Count, "Those of them that failed.");
        describe_histogram!("qmp_command_seconds", Unit::Seconds, "How long calls of a command took.");
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        struct Never;

        impl metrics::HistogramFn for Never {
            fn record(&self, _: f64) {
                unreachable!("nothing has been measured");
            }
        }

        #[test]
        fn whether_anybody_hears_is_found_out_unheard() {
            assert!(!is_heard(&Histogram::noop()));
            assert!(is_heard(&Histogram::from_arc(Arc::new(Never))));
            assert!(!Meters::new("x").0.timed, "there is no recorder here");
            assert_eq!(Meters::new("x").start().started, None);
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
        started: Option<Instant>,
    }

    impl Timing {
        pub(super) fn finish(&self, ok: bool) {
            let Meters(handles) = &self.meters;
            handles.calls.increment(1);
            if !ok {
                handles.errors.increment(1);
            }
            if let Some(started) = self.started {
                handles.seconds.record(started.elapsed());
            }
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
