//! A command's whole stack, whatever its type.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context as TaskContext, Poll};

use tower::{Service, ServiceExt};

use crate::Outcome;
use crate::context::Invocation;

type Begun = Pin<Box<dyn Future<Output = Result<Outcome, Infallible>> + Send>>;

/// A command's layers around its handler, for any number of calls at once. A clone is the same.
///
/// A call that waits for nobody, and has no time limit, costs one allocation, its future; inside, every layer's future is a plain
/// value. A tower service is called by who has it alone, so callers at the same time have a clone each, which costs an atomic count
/// for every handle in it. Most calls have nobody beside them while they begin: they use the one that is kept for that, and pay for
/// a lock that is free.
#[derive(Clone)]
pub(crate) struct Stack(Arc<dyn Callable>);

trait Callable: Send + Sync {
    fn begin(&self, invocation: Invocation, cx: &mut TaskContext<'_>) -> Begun;
}

struct Kept<S> {
    /// What clones are made of.
    service: S,
    /// Locked while a call begins, not while it runs. Nobody waits for it; poisoned, it is not used again.
    kept: Mutex<S>,
}

impl<S> Callable for Kept<S>
where
    S: Service<Invocation, Response = Outcome, Error = Infallible> + Clone + Send + Sync + 'static,
    S::Future: Send,
{
    fn begin(&self, invocation: Invocation, cx: &mut TaskContext<'_>) -> Begun {
        // Our layers are always ready. One that is not is waited for by a call that has it alone.
        if let Ok(mut service) = self.kept.try_lock()
            && let Poll::Ready(Ok(())) = service.poll_ready(cx)
        {
            return Box::pin(service.call(invocation));
        }
        Box::pin(self.service.clone().oneshot(invocation))
    }
}

impl Stack {
    pub(crate) fn new<S>(service: S) -> Self
    where
        S: Service<Invocation, Response = Outcome, Error = Infallible> + Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        Self(Arc::new(Kept { kept: Mutex::new(service.clone()), service }))
    }

    /// A call, which begins when it is first polled.
    pub(crate) fn call(&self, invocation: Invocation) -> Call {
        Call::New(Some((self.clone(), invocation)))
    }
}

/// See [`Stack::call`].
pub(crate) enum Call {
    New(Option<(Stack, Invocation)>),
    Begun(Begun),
}

impl Future for Call {
    type Output = Result<Outcome, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        loop {
            match &mut *self {
                Self::Begun(call) => return call.as_mut().poll(cx),
                Self::New(new) => {
                    let Some((stack, invocation)) = new.take() else { panic!("polled after a panic") };
                    *self = Self::Begun(stack.0.begin(invocation, cx));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use qmp_protocol::Payload;
    use tokio_test::{assert_pending, assert_ready, task};

    use super::*;
    use crate::context::{Context, detached_session};

    fn invocation() -> Invocation {
        Invocation { arguments: None, context: Context::new(detached_session()) }
    }

    async fn done() -> Result<Outcome, Infallible> {
        Ok(Ok(Payload::empty()))
    }

    /// Tells its clones apart: a clone has been called by nobody.
    #[derive(Debug, Default)]
    struct Calls(usize);

    impl Clone for Calls {
        fn clone(&self) -> Self {
            Self::default()
        }
    }

    #[test]
    fn calls_after_each_other_use_one_service_and_a_call_within_a_call_a_clone() {
        let most = Arc::new(AtomicUsize::new(0));
        let (inner, outer): (_, Arc<OnceLock<Stack>>) = (most.clone(), Arc::default());
        let (stack, mut calls) = (outer.clone(), Calls::default());
        let _ = outer.set(Stack::new(tower::service_fn(move |invocation: Invocation| {
            calls.0 += 1;
            inner.fetch_max(calls.0, Ordering::Relaxed);
            // What is called within this call has been called by nobody, and so does not call in turn.
            if calls.0 == 2 {
                let within = task::spawn(stack.get().unwrap().call(invocation)).poll();
                assert!(within.is_ready());
            }
            done()
        })));
        for calls in 1..=3 {
            let mut call = task::spawn(outer.get().unwrap().call(invocation()));
            assert_eq!(most.load(Ordering::Relaxed), calls - 1, "it has not begun");
            let Ok(outcome) = assert_ready!(call.poll());
            assert!(outcome.is_ok());
            assert_eq!(most.load(Ordering::Relaxed), calls);
        }
    }

    #[test]
    fn a_call_that_panics_spoils_no_other() {
        let mut calls = Calls::default();
        let stack = Stack::new(tower::service_fn(move |_: Invocation| {
            calls.0 += 1;
            assert!(calls.0 < 2, "more than one call of one service");
            done()
        }));
        let call = || task::spawn(stack.call(invocation())).poll();
        assert!(call().is_ready());
        assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
        assert!(call().is_ready() && call().is_ready());
    }

    /// Ready when it is asked for the second time.
    #[derive(Clone, Default)]
    struct Late(bool);

    impl Service<Invocation> for Late {
        type Response = Outcome;
        type Error = Infallible;
        type Future = std::future::Ready<Result<Outcome, Infallible>>;

        fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
            if std::mem::replace(&mut self.0, true) {
                return Poll::Ready(Ok(()));
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        }

        fn call(&mut self, _: Invocation) -> Self::Future {
            std::future::ready(Ok(Ok(Payload::empty())))
        }
    }

    #[test]
    fn a_service_that_is_not_ready_is_waited_for() {
        let mut call = task::spawn(Stack::new(Late::default()).call(invocation()));
        assert_pending!(call.poll());
        assert!(call.is_woken());
        assert!(call.poll().is_ready());
    }
}
