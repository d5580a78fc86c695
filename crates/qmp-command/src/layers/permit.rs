//! Exclusive commands of a plane run one at a time.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tower::{Layer, Service};

/// The permit that all exclusive commands of one plane share. Clones are the same permit; waiters are served in order.
#[derive(Clone, Debug, Default)]
pub struct Permit(Arc<Mutex<()>>);

impl Permit {
    /// A permit that nobody holds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Waits for the permit, and holds it until the guard is dropped: for what is no command of a router, and must not
    /// run beside an exclusive one.
    ///
    /// Cancel-safety: dropping the future gives up its place.
    pub async fn acquire(&self) -> HeldPermit {
        HeldPermit { _guard: self.0.clone().lock_owned().await }
    }
}

/// A [`Permit`] that is held. Dropping it lets the next one have it.
#[derive(Debug)]
#[must_use = "a permit is only held as long as this lives"]
pub struct HeldPermit {
    _guard: OwnedMutexGuard<()>,
}

/// Holds a [`Permit`] from before the inner service is called until its future has ended or is dropped.
///
/// The permit is taken in the call, not in `poll_ready`: a session that is ready and has no request holds up nobody.
/// Dropping the future while it waits gives up its place; after that the inner service decides.
#[derive(Clone, Debug)]
pub struct PermitLayer {
    permit: Permit,
}

impl PermitLayer {
    /// Calls that share `permit` run one at a time.
    pub fn new(permit: Permit) -> Self {
        Self { permit }
    }
}

impl<S> Layer<S> for PermitLayer {
    type Service = Permitted<S>;

    fn layer(&self, inner: S) -> Permitted<S> {
        Permitted { inner, permit: self.permit.clone() }
    }
}

/// The service of [`PermitLayer`].
#[derive(Clone, Debug)]
pub struct Permitted<S> {
    inner: S,
    permit: Permit,
}

impl<S, R> Service<R> for Permitted<S>
where
    S: Service<R> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = PermitFuture<S, R>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        match self.permit.0.clone().try_lock_owned() {
            Ok(guard) => {
                PermitFuture { state: State::Running { inner: self.inner.call(request), _guard: guard } }
            }
            Err(_) => {
                // The service that was polled ready makes the call; its clone stays behind.
                let clone = self.inner.clone();
                let inner = std::mem::replace(&mut self.inner, clone);
                let lock = Box::pin(self.permit.0.clone().lock_owned());
                PermitFuture { state: State::Waiting { lock, call: Some(Box::new((inner, request))) } }
            }
        }
    }
}

type Lock = Pin<Box<dyn Future<Output = OwnedMutexGuard<()>> + Send>>;

pin_project! {
    /// The future of [`Permitted`].
    pub struct PermitFuture<S, R>
    where
        S: Service<R>,
    {
        #[pin]
        state: State<S, R>,
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<S, R>
    where
        S: Service<R>,
    {
        // Boxed: only a call that finds the permit taken pays for it, and all others have a small future.
        Waiting { lock: Lock, call: Option<Box<(S, R)>> },
        // The guard is dropped after the call it protects (fields are dropped in order).
        Running { #[pin] inner: S::Future, _guard: OwnedMutexGuard<()> },
    }
}

impl<S: Service<R>, R> fmt::Debug for PermitFuture<S, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitFuture").finish_non_exhaustive()
    }
}

impl<S: Service<R>, R> Future for PermitFuture<S, R> {
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProjection::Running { inner, .. } => return inner.poll(cx),
                StateProjection::Waiting { lock, call } => {
                    let guard = ready!(lock.as_mut().poll(cx));
                    let Some(call) = call.take() else { panic!("polled after a panic") };
                    let (mut inner, request) = *call;
                    State::Running { inner: inner.call(request), _guard: guard }
                }
            };
            state.set(next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_test::{assert_pending, assert_ready, assert_ready_ok, task};
    use tower_test::mock;

    type Calls = mock::Spawn<Permitted<mock::Mock<u8, u8>>>;

    fn pair() -> (Calls, mock::Handle<u8, u8>) {
        mock::spawn_layer(PermitLayer::new(Permit::new()))
    }

    #[test]
    fn the_second_call_starts_when_the_first_has_ended() {
        let (mut service, mut handle) = pair();
        handle.allow(2);
        assert_ready_ok!(service.poll_ready());
        let mut first = task::spawn(service.call(1));
        assert_ready_ok!(service.poll_ready());
        let mut second = task::spawn(service.call(2));
        assert_pending!(first.poll());
        assert_pending!(second.poll());
        let (request, reply) = assert_ready!(handle.poll_request()).unwrap();
        assert_eq!(request, 1);
        assert_pending!(handle.poll_request());

        reply.send_response(10);
        assert_eq!(assert_ready_ok!(first.poll()), 10);
        drop(first);
        assert!(second.is_woken());
        assert_pending!(second.poll());
        let (request, reply) = assert_ready!(handle.poll_request()).unwrap();
        assert_eq!(request, 2);
        reply.send_response(20);
        assert_eq!(assert_ready_ok!(second.poll()), 20);
    }

    #[test]
    fn being_ready_reserves_nothing() {
        let (idle, mut handle) = pair();
        handle.allow(2);
        let mut idle_service = idle.into_inner();
        let mut busy = mock::Spawn::new(idle_service.clone());
        let mut idle_ready = task::spawn(());
        assert_ready_ok!(idle_ready.enter(|cx, _| idle_service.poll_ready(cx)));

        assert_ready_ok!(busy.poll_ready());
        let mut call = task::spawn(busy.call(1));
        assert_pending!(call.poll());
        assert_ready!(handle.poll_request()).unwrap().1.send_response(1);
        assert_ready_ok!(call.poll());
    }

    #[test]
    fn a_waiter_that_is_dropped_gives_up_its_place() {
        let (mut service, mut handle) = pair();
        handle.allow(3);
        assert_ready_ok!(service.poll_ready());
        let mut first = task::spawn(service.call(1));
        assert_pending!(first.poll());
        assert_ready_ok!(service.poll_ready());
        let mut gone = task::spawn(service.call(2));
        assert_pending!(gone.poll());
        assert_ready_ok!(service.poll_ready());
        let mut third = task::spawn(service.call(3));
        assert_pending!(third.poll());
        drop(gone);
        assert_ready!(handle.poll_request()).unwrap().1.send_response(1);
        assert_ready_ok!(first.poll());
        drop(first);
        assert_pending!(third.poll());
        let (request, _reply) = assert_ready!(handle.poll_request()).unwrap();
        assert_eq!(request, 3);
    }
}
