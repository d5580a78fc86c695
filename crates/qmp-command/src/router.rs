//! Finding a request's command.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use qmp_protocol::{Error, ErrorClass, Object};
use thread_start::Starter;

use crate::Outcome;
use crate::command::{Command, Shared};
use crate::context::{Context, Invocation};
use crate::layers::authorize::{AllowAll, Authority};
use crate::layers::permit::Permit;
use crate::metadata::Metadata;
use crate::schema::{SchemaError, TypeRef, Types, is_qapi_name, validate};
use crate::stack::{Call, Stack};

/// Why a set of commands does not make a router.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// Two commands of one name.
    #[error("the command {0:?} is registered twice")]
    Duplicate(&'static str),
    /// A name that QAPI does not allow.
    #[error(
        "{0:?} is no name for a command: QAPI allows a letter, then letters, digits, '-' and '_'; a prefix __RFQDN_ may stand before"
    )]
    IllegalName(String),
    /// Arguments or a return value of a type that QAPI cannot express.
    #[error("the command {command:?}: {source}")]
    Type {
        /// The command.
        command: &'static str,
        /// What is wrong, with the field's name.
        source: SchemaError,
    },
}

/// Collects commands and what their stacks share.
pub struct RouterBuilder {
    commands: Vec<Command>,
    shared: Shared,
}

impl RouterBuilder {
    /// Adds a command.
    #[must_use]
    pub fn command(mut self, command: Command) -> Self {
        self.commands.push(command);
        self
    }

    /// Adds commands.
    #[must_use]
    pub fn commands(mut self, commands: impl IntoIterator<Item = Command>) -> Self {
        self.commands.extend(commands);
        self
    }

    /// Who decides which command may run. Without one, everything may.
    #[must_use]
    pub fn authority(mut self, authority: Arc<dyn Authority>) -> Self {
        self.shared.authority = authority;
        self
    }

    /// The permit that exclusive commands share; without one, the router has its own.
    #[must_use]
    pub fn permit(mut self, permit: Permit) -> Self {
        self.shared.permit = permit;
        self
    }

    /// How long a cancel-safe command may take. Without one, no command has a limit, as in QEMU.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.shared.timeout = Some(limit);
        self
    }

    /// Starts the threads that blocking handlers run on. Without one they are not announced to anybody.
    #[must_use]
    pub fn starter(mut self, starter: Starter) -> Self {
        self.shared.starter = starter;
        self
    }

    /// Builds every command's stack.
    ///
    /// # Errors
    /// The first command with a name that is illegal or taken, or with a type that QAPI cannot express.
    pub fn build(self) -> Result<Router, BuildError> {
        let mut types = Types::new();
        let mut entries = HashMap::with_capacity(self.commands.len());
        let mut names = Vec::with_capacity(self.commands.len());
        for command in self.commands {
            let name = command.metadata.name;
            if !is_qapi_name(name) {
                return Err(BuildError::IllegalName(name.to_owned()));
            }
            let (arguments, returns) = describe(&command, &mut types)?;
            let metadata = Arc::new(command.metadata);
            let stack = (command.stack)(metadata.clone(), &self.shared);
            if entries.insert(name, Entry { metadata, arguments, returns, stack }).is_some() {
                return Err(BuildError::Duplicate(name));
            }
            names.push(name);
        }
        Ok(Router { entries, names, types })
    }
}

fn describe(command: &Command, types: &mut Types) -> Result<(TypeRef, TypeRef), BuildError> {
    let error = |source| BuildError::Type { command: command.metadata.name, source };
    let (arguments, returns) = (command.describe)(types);
    for root in [&arguments, &returns] {
        if let Some(source) = validate(types, root).err().and_then(|errors| errors.into_iter().next()) {
            return Err(error(source));
        }
    }
    (command.check)(types, &arguments).map_err(error)?;
    Ok((arguments, returns))
}

impl fmt::Debug for RouterBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouterBuilder").field("commands", &self.commands).finish_non_exhaustive()
    }
}

struct Entry {
    metadata: Arc<Metadata>,
    arguments: TypeRef,
    returns: TypeRef,
    stack: Stack,
}

/// The commands of a plane, each with its stack.
///
/// Immutable once built, so that calls wait for no lock; share it in an `Arc`.
pub struct Router {
    entries: HashMap<&'static str, Entry>,
    names: Vec<&'static str>,
    types: Types,
}

impl Router {
    /// An empty builder.
    pub fn builder() -> RouterBuilder {
        RouterBuilder {
            commands: Vec::new(),
            shared: Shared {
                authority: Arc::new(AllowAll),
                permit: Permit::new(),
                timeout: None,
                starter: Starter::default(),
            },
        }
    }

    /// Calls a command. The call starts when the future is first polled, and is over when that returns.
    ///
    /// Refusals come in QEMU's order: a name that does not exist, a command that cannot be executed out-of-band, then
    /// whatever the command's own stack says.
    ///
    /// Cancel-safety: dropping the future drops the handler where it is. Sessions do so with no command.
    pub fn call(&self, execute: &str, arguments: Option<Object>, context: Context) -> RouteFuture {
        let Some(entry) = self.entries.get(execute) else {
            return RouteFuture::refused(Error::new(
                ErrorClass::CommandNotFound,
                format!("The command {execute} has not been found"),
            ));
        };
        if context.is_oob() && !entry.metadata.allow_oob {
            return RouteFuture::refused(Error::generic(format!(
                "The command {execute} does not support OOB"
            )));
        }
        RouteFuture { state: State::Running { call: entry.stack.call(Invocation { arguments, context }) } }
    }

    /// Every command's metadata, in the order of registration.
    pub fn commands(&self) -> impl Iterator<Item = &Metadata> {
        self.names.iter().filter_map(|name| self.metadata(name))
    }

    /// One command's metadata.
    pub fn metadata(&self, name: &str) -> Option<&Metadata> {
        self.entries.get(name).map(|entry| &*entry.metadata)
    }

    /// The types of one command's arguments and return value, which refer to [`Router::types`].
    pub fn signature(&self, name: &str) -> Option<(&TypeRef, &TypeRef)> {
        self.entries.get(name).map(|entry| (&entry.arguments, &entry.returns))
    }

    /// All types that the commands use.
    pub fn types(&self) -> &Types {
        &self.types
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("commands", &self.names).finish_non_exhaustive()
    }
}

/// A call on its way; see [`Router::call`].
pub struct RouteFuture {
    state: State,
}

enum State {
    Refused { error: Option<Error> },
    Running { call: Call },
}

impl RouteFuture {
    fn refused(error: Error) -> Self {
        Self { state: State::Refused { error: Some(error) } }
    }
}

impl fmt::Debug for RouteFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RouteFuture").finish_non_exhaustive()
    }
}

impl Future for RouteFuture {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Outcome> {
        match &mut self.state {
            State::Running { call } => Pin::new(call).poll(cx).map(|Ok(outcome)| outcome),
            State::Refused { error } => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => panic!("polled after completion"),
            },
        }
    }
}
