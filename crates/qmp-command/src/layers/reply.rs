//! Where errors and panics become outcomes, once.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;
use qmp_protocol::{Error, Payload};
use tower::{Layer, Service};

use crate::Outcome;
use crate::context::Invocation;
use crate::error::CommandError;

/// Turns what a command fails with into the error its client sees, and a panic into a `GenericError`.
///
/// After it nothing can fail: its service's error is [`Infallible`]. A panic is logged with the command's name. In a
/// program built with `panic = "abort"` a panic aborts, as everywhere else; nothing else here depends on unwinding.
#[derive(Clone, Copy, Debug)]
pub struct ReplyLayer {
    command: &'static str,
}

impl ReplyLayer {
    /// Replies for `command`.
    pub fn new(command: &'static str) -> Self {
        Self { command }
    }
}

impl<S> Layer<S> for ReplyLayer {
    type Service = Reply<S>;

    fn layer(&self, inner: S) -> Reply<S> {
        Reply { inner, command: self.command }
    }
}

/// The service of [`ReplyLayer`].
#[derive(Clone, Debug)]
pub struct Reply<S> {
    inner: S,
    command: &'static str,
}

impl<S> Service<Invocation> for Reply<S>
where
    S: Service<Invocation, Response = Payload, Error = CommandError>,
{
    type Response = Outcome;
    type Error = Infallible;
    type Future = ReplyFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        // An error of readiness will show again, with its text, when the call is made.
        self.inner.poll_ready(cx).map(|_| Ok(()))
    }

    fn call(&mut self, invocation: Invocation) -> Self::Future {
        let command = self.command;
        // Unwind safety: what the handler left half done is the handler's own, behind its own locks; the layers between
        // have no state that a call changes, and the future is not used again after a panic.
        match catch_unwind(AssertUnwindSafe(|| self.inner.call(invocation))) {
            Ok(inner) => ReplyFuture { state: State::Running { inner }, command },
            Err(panic) => ReplyFuture { state: State::Panicked { panic: Some(panic) }, command },
        }
    }
}

pin_project! {
    /// The future of [`Reply`].
    #[derive(Debug)]
    pub struct ReplyFuture<F> {
        #[pin]
        state: State<F>,
        command: &'static str,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Running { #[pin] inner: F },
        Panicked { panic: Option<Box<dyn Any + Send>> },
    }
}

impl<F> Future for ReplyFuture<F>
where
    F: Future<Output = Result<Payload, CommandError>>,
{
    type Output = Result<Outcome, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let ended = match this.state.as_mut().project() {
            StateProjection::Running { inner } => match catch_unwind(AssertUnwindSafe(|| inner.poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(result)) => Ok(result),
                Err(panic) => Err(Some(panic)),
            },
            StateProjection::Panicked { panic } => Err(panic.take()),
        };
        // Whatever the future still holds (a permit, an fd) is released now and not when the session gets to it; and
        // here, because that too can panic.
        let released = catch_unwind(AssertUnwindSafe(|| this.state.set(State::Panicked { panic: None })));
        let ended = ended.and_then(|result| released.map(|()| result).map_err(Some));
        Poll::Ready(Ok(match ended {
            Ok(result) => result.map_err(CommandError::into_qmp),
            Err(panic) => Err(panic_reply(this.command, panic.as_deref())),
        }))
    }
}

fn panic_reply(command: &'static str, panic: Option<&(dyn Any + Send)>) -> Error {
    let text = panic.and_then(|p| {
        p.downcast_ref::<&str>().copied().or_else(|| p.downcast_ref::<String>().map(String::as_str))
    });
    tracing::error!(command, panic = text.unwrap_or("(no text)"), "a command's handler panicked");
    Error::generic(format!("The command {command} failed unexpectedly; the log has the reason"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::{Context, detached_session};
    use tokio_test::{assert_pending, assert_ready, task};
    use tower::ServiceExt;
    use tower_test::mock;

    fn invocation() -> Invocation {
        Invocation { arguments: None, context: Context::new(detached_session()) }
    }

    #[test]
    fn a_panic_in_the_call_and_in_the_future_is_a_generic_error() {
        let in_call =
            tower::service_fn(|_: Invocation| -> std::future::Ready<Result<Payload, CommandError>> {
                panic!("at once")
            });
        let in_future =
            tower::service_fn(async |_: Invocation| -> Result<Payload, CommandError> { panic!("later") });
        let a = task::spawn(ReplyLayer::new("x").layer(in_call).oneshot(invocation())).poll();
        let b = task::spawn(ReplyLayer::new("x").layer(in_future).oneshot(invocation())).poll();
        for outcome in [a, b] {
            let Ok(outcome) = assert_ready!(outcome);
            assert_eq!(
                outcome.unwrap_err().desc,
                "The command x failed unexpectedly; the log has the reason"
            );
        }
    }

    /// A future that panics when it is dropped, and before that does what it is told.
    struct Bomb(Option<Poll<Result<Payload, CommandError>>>);

    impl Future for Bomb {
        type Output = Result<Payload, CommandError>;

        fn poll(mut self: Pin<&mut Self>, _: &mut TaskContext<'_>) -> Poll<Self::Output> {
            match self.0.take() {
                Some(poll) => poll,
                None => panic!("polled"),
            }
        }
    }

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("dropped");
        }
    }

    #[test]
    fn a_panic_of_a_future_that_is_dropped_stays_in_here() {
        for done in [Some(Poll::Ready(Ok(Payload::empty()))), None] {
            let mut bomb = Some(Bomb(done));
            let service = tower::service_fn(move |_: Invocation| bomb.take().unwrap());
            let mut reply = task::spawn(ReplyLayer::new("x").layer(service).call(invocation()));
            let Ok(outcome) = assert_ready!(reply.poll());
            assert!(outcome.unwrap_err().desc.contains("failed unexpectedly"));
        }
    }

    #[test]
    fn an_error_becomes_an_outcome() {
        let (mut service, mut handle) = mock::spawn_layer::<Invocation, Payload, _>(tower::layer::layer_fn(
            |mock: mock::Mock<Invocation, Payload>| {
                ReplyLayer::new("x")
                    .layer(tower::util::MapErr::new(mock, |_| CommandError::generic("refused")))
            },
        ));
        assert_ready!(service.poll_ready()).unwrap();
        let mut reply = task::spawn(service.call(invocation()));
        assert_pending!(reply.poll());
        let ((), send) = (assert_ready!(handle.poll_request()).map(|(_, send)| ((), send))).unwrap();
        send.send_error("anything");
        let Ok(outcome) = assert_ready!(reply.poll());
        assert_eq!(outcome.unwrap_err().desc, "refused");
    }
}
