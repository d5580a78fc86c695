//! What can be wrong with a description.

use std::fmt;

/// A type, and one of its members or values where it is about one. Shown as `member "b" of "A"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The QAPI name of the type; empty outside all types with a name.
    pub owner: String,
    /// The member, enum value or branch.
    pub member: Option<String>,
}

impl Place {
    pub(crate) fn of_type(owner: &str) -> Self {
        Self { owner: owner.to_owned(), member: None }
    }

    pub(crate) fn of_member(owner: &str, member: &str) -> Self {
        Self { owner: owner.to_owned(), member: Some(member.to_owned()) }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.member {
            Some(member) => write!(f, "member {member:?} of {:?}", self.owner),
            None if self.owner.is_empty() => f.write_str("the type"),
            None => write!(f, "type {:?}", self.owner),
        }
    }
}

/// Why a Rust type is no QAPI type. Found when a command is registered, never while it runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// A name that QAPI does not allow.
    #[error("{place}: {name:?} is no QAPI name: a letter, then letters, digits, '-' and '_'")]
    IllegalName {
        /// Where.
        place: Place,
        /// The name.
        name: String,
    },
    /// Two members, values or branches of one name. Names that differ only in `-` and `_` count as one.
    #[error("{place} is declared twice")]
    Duplicate {
        /// Where.
        place: Place,
    },
    /// Two Rust types under one QAPI name.
    #[error("two types are named {name:?}: {first} and {second}")]
    DuplicateType {
        /// The QAPI name.
        name: &'static str,
        /// The Rust type that has it.
        first: &'static str,
        /// The Rust type that wants it too.
        second: &'static str,
    },
    /// Something that Rust can say and QAPI cannot.
    #[error("{place}: {reason}")]
    Inexpressible {
        /// Where.
        place: Place,
        /// What cannot be said.
        reason: String,
    },
    /// The type's serde implementation does not read what is described.
    #[error("{place}: {reason}")]
    Mismatch {
        /// Where.
        place: Place,
        /// How the two differ, and which attribute may be to blame.
        reason: String,
    },
    /// A command's arguments, or an event's data, are an object: a struct, a union, or nothing.
    #[error("arguments must be a struct or a union, and {found} is neither")]
    ArgumentsNotAStruct {
        /// What it is.
        found: String,
    },
}

impl SchemaError {
    /// For arguments that are no struct; `found` says what they are.
    pub fn arguments_not_a_struct(found: &str) -> Self {
        Self::ArgumentsNotAStruct { found: found.to_owned() }
    }

    pub(crate) fn inexpressible(place: Place, reason: impl Into<String>) -> Self {
        Self::Inexpressible { place, reason: reason.into() }
    }

    pub(crate) fn mismatch(place: Place, reason: impl Into<String>) -> Self {
        Self::Mismatch { place, reason: reason.into() }
    }
}
