//! The commands, events and types of one plane, side by side.

use qmp_command::schema::{SchemaError, TypeRef, Types};
use qmp_command::{Encoded, Metadata, Router};
use qmp_monitor::EventSpec;
use qmp_protocol::EncodeError;

use super::{SchemaReply, schema};

/// Why a plane's interface cannot be described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// The data of an event does not go together with the commands' types: two Rust types want one name.
    #[error("the event {event:?}: {source}")]
    Event {
        /// The event.
        event: &'static str,
        /// What is wrong.
        source: SchemaError,
    },
    /// The schema cannot be written as JSON.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// A command and its types, which refer to [`Interface::types`].
#[derive(Clone, Debug)]
pub struct CommandSignature {
    /// Name, documentation, flags and features.
    pub metadata: Metadata,
    /// A struct, a union, or [`TypeRef::Empty`].
    pub arguments: TypeRef,
    /// Any type; [`TypeRef::Empty`] for a command that returns nothing.
    pub returns: TypeRef,
}

/// An event and the type of its data, which refers to [`Interface::types`].
#[derive(Clone, Debug)]
pub struct EventSignature {
    /// Name, documentation and flags.
    pub spec: EventSpec,
    /// A struct, a union, or [`TypeRef::Empty`].
    pub data: TypeRef,
}

/// Everything that a plane offers to its clients, in the order of registration.
#[derive(Clone, Debug)]
pub struct Interface {
    commands: Vec<CommandSignature>,
    events: Vec<EventSignature>,
    types: Types,
}

impl Interface {
    /// The interface of a router's commands and these events.
    ///
    /// # Errors
    /// When a type of an event and one of a command are two, and have one name.
    pub fn new(router: &Router, events: impl IntoIterator<Item = EventSpec>) -> Result<Self, DescribeError> {
        let mut types = router.types().clone();
        let commands = router
            .commands()
            .filter_map(|metadata| {
                let (arguments, returns) = router.signature(metadata.name)?;
                Some(CommandSignature {
                    metadata: metadata.clone(),
                    arguments: arguments.clone(),
                    returns: returns.clone(),
                })
            })
            .collect();
        let events = events
            .into_iter()
            .map(|spec| {
                let data = spec.describe(&mut types);
                match types.errors().first() {
                    Some(source) => Err(DescribeError::Event { event: spec.name(), source: source.clone() }),
                    None => Ok(EventSignature { spec, data }),
                }
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { commands, events, types })
    }

    /// The commands.
    pub fn commands(&self) -> impl Iterator<Item = &CommandSignature> {
        self.commands.iter()
    }

    /// The events.
    pub fn events(&self) -> impl Iterator<Item = &EventSignature> {
        self.events.iter()
    }

    /// The definitions of all named types that commands and events use.
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// What `query-qmp-schema` returns, encoded once for all who ask.
    pub(crate) fn encoded(&self) -> Result<SchemaReply, DescribeError> {
        Ok(Encoded::new(&schema::generate(self))?)
    }
}
