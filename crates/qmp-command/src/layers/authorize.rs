//! May this session use this command now? Its policy says, and then the plane's authority.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};

use pin_project_lite::pin_project;
use tower::{Layer, Service};

use crate::context::{Context, Invocation};
use crate::error::CommandError;
use crate::log_gate::LogGate;
use crate::metadata::Metadata;

/// Decides whether a command may run, beyond the session's [policy](crate::policy): by the phase the machine is in, by
/// an author's own rules.
///
/// It is asked before the arguments are looked at, for every call, on the session's task: it must not block.
pub trait Authority: Send + Sync + 'static {
    /// `Ok` lets the command run; the error is what the client sees.
    ///
    /// # Errors
    /// Whatever refuses the command.
    fn authorize(&self, command: &Metadata, context: &Context) -> Result<(), CommandError>;
}

/// Lets everything run.
#[derive(Clone, Copy, Debug)]
pub struct AllowAll;

impl Authority for AllowAll {
    fn authorize(&self, _: &Metadata, _: &Context) -> Result<(), CommandError> {
        Ok(())
    }
}

/// Asks an [`Authority`] before the command.
#[derive(Clone)]
pub struct AuthorizeLayer(Arc<Gate>);

/// Shared as one: every clone of a stack has it.
struct Gate {
    authority: Arc<dyn Authority>,
    command: Arc<Metadata>,
}

impl AuthorizeLayer {
    /// Asks `authority` about `command`.
    pub fn new(authority: Arc<dyn Authority>, command: Arc<Metadata>) -> Self {
        Self(Arc::new(Gate { authority, command }))
    }
}

impl Gate {
    /// The session's policy first: whoever may not use a command learns nothing else of it.
    fn check(&self, context: &Context) -> Result<(), CommandError> {
        if let Err(refusal) = context.policy().check_command(&self.command) {
            log_refusal(context, &refusal);
            return Err(refusal);
        }
        self.authority.authorize(&self.command, context)
    }
}

/// Says in the log who was refused what: of a session that goes on and on, once a second, and how much was left out.
pub fn log_refusal(context: &Context, refusal: &CommandError) {
    let Some(left_out) = context.refusals().map_or(Some(0), LogGate::admit) else { return };
    let peer = context.peer();
    tracing::warn!(
        monitor = context.monitor(),
        session = context.session_id(),
        left_out = (left_out > 0).then_some(left_out),
        pid = peer.and_then(|peer| peer.pid),
        uid = peer.map(|peer| peer.uid),
        "refused by policy: {refusal}"
    );
}

impl fmt::Debug for AuthorizeLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizeLayer").field("command", &self.0.command.name).finish_non_exhaustive()
    }
}

impl<S> Layer<S> for AuthorizeLayer {
    type Service = Authorize<S>;

    fn layer(&self, inner: S) -> Authorize<S> {
        Authorize { inner, gate: self.clone() }
    }
}

/// The service of [`AuthorizeLayer`].
#[derive(Clone, Debug)]
pub struct Authorize<S> {
    inner: S,
    gate: AuthorizeLayer,
}

impl<S> Service<Invocation> for Authorize<S>
where
    S: Service<Invocation, Error = CommandError>,
{
    type Response = S::Response;
    type Error = CommandError;
    type Future = Guarded<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), CommandError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: Invocation) -> Self::Future {
        match self.gate.0.check(&invocation.context) {
            Ok(()) => Guarded { state: State::Admitted { inner: self.inner.call(invocation) } },
            Err(error) => Guarded { state: State::Refused { error: Some(error) } },
        }
    }
}

pin_project! {
    /// A call that was let through, or its refusal.
    #[derive(Debug)]
    pub struct Guarded<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        Admitted { #[pin] inner: F },
        Refused { error: Option<CommandError> },
    }
}

impl<F, T> Future for Guarded<F>
where
    F: Future<Output = Result<T, CommandError>>,
{
    type Output = Result<T, CommandError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProjection::Admitted { inner } => inner.poll(cx),
            StateProjection::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => panic!("polled after completion"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::detached_session;
    use qmp_protocol::Payload;
    use tokio_test::{assert_pending, assert_ready};
    use tower_test::mock;

    struct OnlyOob;
    impl Authority for OnlyOob {
        fn authorize(&self, command: &Metadata, context: &Context) -> Result<(), CommandError> {
            if context.is_oob() {
                Ok(())
            } else {
                Err(CommandError::generic(format!("not {}", command.name)))
            }
        }
    }

    #[test]
    fn a_refused_call_never_reaches_the_command() {
        let layer = AuthorizeLayer::new(Arc::new(OnlyOob), Arc::new(Metadata::new("x")));
        let (mut service, mut handle) =
            mock::spawn_layer::<Invocation, Payload, _>(tower::layer::layer_fn(|mock| {
                layer.layer(tower::util::MapErr::new(mock, |_| CommandError::generic("inner")))
            }));
        let invocation =
            |oob| Invocation { arguments: None, context: Context::new(detached_session()).with_oob(oob) };

        assert_ready!(service.poll_ready()).unwrap();
        let mut refused = tokio_test::task::spawn(service.call(invocation(false)));
        assert_eq!(assert_ready!(refused.poll()).unwrap_err().to_string(), "not x");
        assert_pending!(handle.poll_request());

        assert_ready!(service.poll_ready()).unwrap();
        let mut admitted = tokio_test::task::spawn(service.call(invocation(true)));
        assert_pending!(admitted.poll());
        let (_, reply) = assert_ready!(handle.poll_request()).unwrap();
        reply.send_response(Payload::empty());
        assert!(assert_ready!(admitted.poll()).is_ok());
    }
}
