//! Declaring a command: name, metadata, handler.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use qmp_protocol::Object;
use serde::de::DeserializeOwned;
use thread_start::Starter;
use tower::util::option_layer;
use tower::{Service, ServiceBuilder};

use crate::apart::apart;
use crate::context::Context;
use crate::error::CommandError;
use crate::layers::authorize::{Authority, AuthorizeLayer};
use crate::layers::decode::DecodeLayer;
use crate::layers::observe::ObserveLayer;
use crate::layers::permit::{Permit, PermitLayer};
use crate::layers::reply::ReplyLayer;
use crate::layers::timeout::TimeoutLayer;
use crate::metadata::{Concurrency, Feature, Metadata};
use crate::returns::Returns;
use crate::schema::{QapiType, SchemaError, TypeDef, TypeRef, Types};
use crate::stack::Stack;
use crate::{CommandResult, arguments};

/// Puts a command's layers around its handler.
type BuildStack = Box<dyn FnOnce(Arc<Metadata>, &Shared) -> Stack + Send>;

/// Describes arguments and return value.
type Describe = Box<dyn Fn(&mut Types) -> (TypeRef, TypeRef) + Send>;

/// What all stacks of one router share.
pub(crate) struct Shared {
    pub(crate) authority: Arc<dyn Authority>,
    pub(crate) permit: Permit,
    pub(crate) timeout: Option<Duration>,
    pub(crate) starter: Starter,
}

/// A command, ready to be registered with a [`RouterBuilder`](crate::RouterBuilder).
pub struct Command {
    pub(crate) metadata: Metadata,
    pub(crate) describe: Describe,
    pub(crate) check: fn(&Types, &TypeRef) -> Result<(), SchemaError>,
    pub(crate) stack: BuildStack,
}

impl Command {
    /// Starts the declaration of a command. It is exclusive, in-band, takes no fd and is not cancel-safe until told
    /// otherwise.
    ///
    /// Names of an author's own commands should start with `__` and a reversed domain (`__com.example_`), or `x-`
    /// while they may still change, so that they never clash with QEMU's.
    #[allow(clippy::new_ret_no_self, reason = "a command exists when it has its handler")]
    pub fn new(name: &'static str) -> CommandBuilder {
        CommandBuilder { metadata: Metadata::new(name) }
    }

    /// The same command, in a group of the manual.
    #[must_use]
    pub fn group(mut self, group: &'static str) -> Self {
        self.metadata.group = group;
        self
    }

    /// What was declared.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

/// A command that does not have its handler yet. See [`Command::new`].
#[derive(Clone, Debug)]
#[must_use = "a declaration becomes a command with `handler` or `blocking`"]
pub struct CommandBuilder {
    metadata: Metadata,
}

impl CommandBuilder {
    /// What the command does, for the manual and for `help`.
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.metadata.doc = doc;
        self
    }

    /// May be executed out-of-band; see [`Metadata::allow_oob`].
    pub fn allow_oob(mut self) -> Self {
        self.metadata.allow_oob = true;
        self
    }

    /// May be used before the machine is initialised.
    pub fn allow_preconfig(mut self) -> Self {
        self.metadata.allow_preconfig = true;
        self
    }

    /// Takes a file descriptor, through [`Context::take_fd`].
    pub fn takes_fd(mut self) -> Self {
        self.metadata.takes_fd = true;
        self
    }

    /// Its handler asks the session's policy about the type that it is used for, so that rules may name types. See
    /// [`Metadata::asks_type`].
    pub fn asks_type(mut self) -> Self {
        self.metadata.asks_type = true;
        self
    }

    /// Changes nothing: runs beside any other command.
    pub fn read_only(mut self) -> Self {
        self.metadata.concurrency = Concurrency::ReadOnly;
        self
    }

    /// Changes only what keeps itself consistent: runs beside any other command.
    pub fn concurrent(mut self) -> Self {
        self.metadata.concurrency = Concurrency::Concurrent;
        self
    }

    /// The handler may be dropped at any await, so the plane's command timeout applies to it. For an async
    /// [`handler`](Self::handler).
    pub fn cancel_safe(mut self) -> Self {
        self.metadata.cancel_safe = true;
        self
    }

    /// Adds a feature that introspection shows.
    pub fn feature(mut self, feature: Feature) -> Self {
        self.metadata.features.push(feature);
        self
    }

    /// The command, with an async handler.
    ///
    /// It is polled on the task of the session that sent the request: it must not block its thread. It is never
    /// dropped before it ends when its client goes away, unless the command is cancel-safe and runs out of time.
    pub fn handler<A, R, F, Fut>(self, handler: F) -> Command
    where
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CommandResult<R>> + Send + 'static,
        A: DeserializeOwned + QapiType + 'static,
        R: Returns + QapiType + 'static,
    {
        self.finish(|_| HandlerService(Arc::new(handler)))
    }

    /// The command, with a handler that may block its thread.
    ///
    /// It runs on a thread of its own, in the context of the session's runtime; when the system has no thread, its client gets
    /// an error. It cannot be cancelled, so it is not [`cancel_safe`](Self::cancel_safe), whatever was said, and no timeout applies
    /// to it: it would run on beside commands that it must not run beside.
    pub fn blocking<A, R, F>(mut self, handler: F) -> Command
    where
        F: Fn(Context, A) -> CommandResult<R> + Send + Sync + 'static,
        A: DeserializeOwned + QapiType + Send + 'static,
        R: Returns + QapiType + Send + 'static,
    {
        let handler = Arc::new(handler);
        self.metadata.cancel_safe = false;
        self.finish(move |shared| {
            let starter = shared.starter.clone();
            HandlerService(Arc::new(move |context, arguments| {
                let handler = handler.clone();
                apart(&starter, move || handler(context, arguments))
            }))
        })
    }

    /// The command, with arguments whose type is known only when the plane is built (a union of types that authors
    /// register, say). `describe` says what they are; the handler decodes them, with
    /// [`Parts`](crate::arguments::Parts), and is held to that description by nobody.
    pub fn raw_handler<R, F, Fut>(
        self,
        describe: impl Fn(&mut Types) -> TypeRef + Send + 'static,
        handler: F,
    ) -> Command
    where
        F: Fn(Context, Object) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CommandResult<R>> + Send + 'static,
        R: Returns + QapiType + 'static,
    {
        Command {
            metadata: self.metadata,
            describe: Box::new(move |types| (describe(types), R::describe(types))),
            check: |_, _| Ok(()),
            stack: Box::new(|metadata, shared| {
                let handler = HandlerService(Arc::new(handler));
                let decode = DecodeLayer::raw(metadata.takes_fd);
                build_stack::<Object, R, F, Fut>(handler, decode, metadata, shared)
            }),
        }
    }

    fn finish<A, R, F, Fut>(
        self,
        handler: impl FnOnce(&Shared) -> HandlerService<F> + Send + 'static,
    ) -> Command
    where
        F: Fn(Context, A) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CommandResult<R>> + Send + 'static,
        A: DeserializeOwned + QapiType + 'static,
        R: Returns + QapiType + 'static,
    {
        Command {
            metadata: self.metadata,
            describe: Box::new(|types| (A::describe(types), R::describe(types))),
            check: check_arguments::<A>,
            stack: Box::new(|metadata, shared| {
                let decode = DecodeLayer::new(metadata.takes_fd);
                build_stack::<A, R, F, Fut>(handler(shared), decode, metadata, shared)
            }),
        }
    }
}

/// Arguments are a struct (or nothing) whose serde names are the described ones.
fn check_arguments<A: DeserializeOwned>(types: &Types, arguments: &TypeRef) -> Result<(), SchemaError> {
    match arguments {
        TypeRef::Empty => Ok(()),
        TypeRef::Named(name) => match types.get(name) {
            Some(TypeDef::Struct { .. } | TypeDef::Union { .. }) => {
                arguments::check_type::<A>(types, arguments)
            }
            _ => Err(SchemaError::arguments_not_a_struct(name)),
        },
        other => Err(SchemaError::arguments_not_a_struct(&other.to_string())),
    }
}

fn build_stack<A, R, F, Fut>(
    handler: HandlerService<F>,
    decode: DecodeLayer<A>,
    metadata: Arc<Metadata>,
    shared: &Shared,
) -> Stack
where
    F: Fn(Context, A) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = CommandResult<R>> + Send + 'static,
    A: 'static,
    R: Returns + 'static,
{
    let name = metadata.name;
    let exclusive = metadata.concurrency == Concurrency::Exclusive;
    let limit = if metadata.cancel_safe { shared.timeout } else { None };
    // The order and the reasons stand in `layers`.
    let stack = ServiceBuilder::new()
        .layer(ObserveLayer::new(name))
        .layer(ReplyLayer::new(name))
        .layer(AuthorizeLayer::new(shared.authority.clone(), metadata))
        .layer(option_layer(exclusive.then(|| PermitLayer::new(shared.permit.clone()))))
        .layer(option_layer(limit.map(|limit| TimeoutLayer::new(name, limit))))
        .layer(decode)
        .service(handler);
    Stack::new(stack)
}

/// The handler as a service of context and typed arguments.
struct HandlerService<F: ?Sized>(Arc<F>);

impl<F> Clone for HandlerService<F> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<F, Fut, A, R> Service<(Context, A)> for HandlerService<F>
where
    F: Fn(Context, A) -> Fut,
    Fut: Future<Output = CommandResult<R>>,
{
    type Response = R;
    type Error = CommandError;
    type Future = Fut;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), CommandError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (context, arguments): (Context, A)) -> Fut {
        (self.0)(context, arguments)
    }
}
