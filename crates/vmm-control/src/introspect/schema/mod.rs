//! The schema as `query-qmp-schema` returns it.
//!
//! As in QEMU 7.2: first the commands, then the events, then each type at the place where it is met first. Types that
//! QAPI does not build in are named by numbers, lists by their elements' name in brackets, and all integer types are
//! `int`: a client is to compare structures, not names. Nothing (no arguments, no return value, no data, a branch
//! without members) is one object type without members.

mod generate;
mod info;

pub use self::generate::generate;
pub use self::info::{
    JsonType, SchemaInfo, SchemaInfoAlternate, SchemaInfoAlternateMember, SchemaInfoArray, SchemaInfoBuiltin,
    SchemaInfoCommand, SchemaInfoEnum, SchemaInfoEnumMember, SchemaInfoEvent, SchemaInfoObject,
    SchemaInfoObjectMember, SchemaInfoObjectVariant, SchemaMeta,
};
