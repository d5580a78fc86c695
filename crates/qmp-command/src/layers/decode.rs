//! From `arguments` as they came to a handler's typed ones, and from its return value to bytes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll, ready};

use pin_project_lite::pin_project;
use qmp_protocol::{Error, Format, Object, Payload};
use serde::de::DeserializeOwned;
use tower::{Layer, Service};

use crate::arguments;
use crate::context::{Context, Invocation};
use crate::error::CommandError;
use crate::returns::Returns;

/// Calls the inner service with typed arguments `A`, and encodes what it returns.
///
/// Arguments that do not fit are refused in QAPI's words, and the inner service is not called.
pub struct DecodeLayer<A> {
    takes_fd: bool,
    decode: Decoder<A>,
}

/// What makes typed arguments of those that came.
type Decoder<A> = fn(Option<Object>) -> Result<A, Error>;

impl DecodeLayer<Object> {
    /// Calls the inner service with the arguments as they came.
    pub fn raw(takes_fd: bool) -> Self {
        Self { takes_fd, decode: |arguments| Ok(arguments.unwrap_or_default()) }
    }
}

impl<A: DeserializeOwned> DecodeLayer<A> {
    /// Without `takes_fd` the inner service does not see the fds that the request could see.
    pub fn new(takes_fd: bool) -> Self {
        Self { takes_fd, decode: arguments::decode::<A> }
    }
}

impl<A> std::fmt::Debug for DecodeLayer<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DecodeLayer").field("takes_fd", &self.takes_fd).finish()
    }
}

impl<A, S> Layer<S> for DecodeLayer<A> {
    type Service = Decode<A, S>;

    fn layer(&self, inner: S) -> Decode<A, S> {
        Decode { inner, takes_fd: self.takes_fd, decode: self.decode }
    }
}

/// The service of [`DecodeLayer`].
pub struct Decode<A, S> {
    inner: S,
    takes_fd: bool,
    decode: Decoder<A>,
}

impl<A, S: Clone> Clone for Decode<A, S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), ..*self }
    }
}

impl<A, S> std::fmt::Debug for Decode<A, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Decode").field("takes_fd", &self.takes_fd).finish_non_exhaustive()
    }
}

impl<A, S> Service<Invocation> for Decode<A, S>
where
    S: Service<(Context, A), Error = CommandError>,
    S::Response: Returns,
{
    type Response = Payload;
    type Error = CommandError;
    type Future = DecodeFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), CommandError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, invocation: Invocation) -> Self::Future {
        let Invocation { arguments, mut context } = invocation;
        if !self.takes_fd {
            context.hide_fds();
        }
        let format = context.format();
        match (self.decode)(arguments) {
            Ok(arguments) => {
                DecodeFuture { state: State::Call { inner: self.inner.call((context, arguments)), format } }
            }
            Err(error) => DecodeFuture { state: State::Refused { error: Some(error.into()) } },
        }
    }
}

pin_project! {
    /// The future of [`Decode`].
    #[derive(Debug)]
    pub struct DecodeFuture<F> {
        #[pin]
        state: State<F>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[derive(Debug)]
    enum State<F> {
        // The handler runs; its return value is to be written in this form.
        Call { #[pin] inner: F, format: Format },
        // The arguments did not fit.
        Refused { error: Option<CommandError> },
    }
}

impl<F, R> Future for DecodeFuture<F>
where
    F: Future<Output = Result<R, CommandError>>,
    R: Returns,
{
    type Output = Result<Payload, CommandError>;

    fn poll(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Self::Output> {
        Poll::Ready(match self.project().state.project() {
            StateProjection::Call { inner, format } => {
                let value = ready!(inner.poll(cx))?;
                value.encode(*format).map_err(CommandError::from)
            }
            StateProjection::Refused { error } => match error.take() {
                Some(error) => Err(error),
                None => panic!("polled after completion"),
            },
        })
    }
}
