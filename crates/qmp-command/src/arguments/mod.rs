//! From `arguments` to a Rust type, with QAPI's complaints, in QAPI's order.
//!
//! [`decode`] is a serde deserializer over an [`Object`]. It needs no schema: serde's derive tells it the declared
//! names of a struct, in order, and which kind of number a field is. It walks those names, not the input, so that
//!
//! * the members are checked in declared order and the first mistake wins: `Parameter 'P' is missing`, `Invalid
//!   parameter type for 'P', expected: T`;
//! * what was not declared is looked at last, after all declared ones were fine: `Parameter 'P' is unexpected`; of
//!   several, the one that QEMU's hash table happens to have first (`unexpected`);
//! * nested structs are checked as a whole, unexpected members included, before the next member.
//!
//! `P` is the whole path (`actions[0].data.node`) with three exceptions that QEMU has, where it is the last name alone,
//! and `null` for a list's element: a value that an enum does not have, an integer out of range, an alternate.
//!
//! An `Option` is optional, and `null` is not absence. Integers are not coerced: `1.0` and `"1"` are no `int`. A `u64`
//! takes a negative integer as its two's complement, as QEMU's does.
//!
//! A type's own errors (`serde::de::Error::custom`, a `try_from`) reach the client as they are worded.
//!
//! The rooms: [`check_type`] asks a type's serde implementation, when it is registered, whether it will ask for what is
//! described; [`flat`] is for unions; `members` walks an object, `value` decodes one value.
//!
//! ```
//! use qmp_command::arguments::decode;
//! use qmp_protocol::Object;
//! use serde::Deserialize;
//!
//! #[derive(Debug, Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! struct RemoveFd {
//!     fdset_id: i64,
//!     fd: Option<i64>,
//! }
//!
//! let says = |json: &str| decode::<RemoveFd>(serde_json::from_str::<Option<Object>>(json).unwrap()).unwrap_err().desc;
//! assert_eq!(says(r#"null"#), "Parameter 'fdset-id' is missing");
//! assert_eq!(says(r#"{"x": 1, "fdset-id": 2.0}"#), "Invalid parameter type for 'fdset-id', expected: integer");
//! assert_eq!(says(r#"{"x": 1, "fdset-id": 2, "fd": null}"#), "Invalid parameter type for 'fd', expected: integer");
//! assert_eq!(says(r#"{"x": 1, "fdset-id": 2, "fd": 3}"#), "Parameter 'x' is unexpected");
//! ```

mod check;
mod error;
#[doc(hidden)]
pub mod flat;
mod members;
mod parts;
mod path;
mod probe;
mod unexpected;
mod value;

use qmp_protocol::{Error, Object};
use serde::de::DeserializeOwned;

pub use check::{check_fields, check_type};
pub use parts::Parts;
pub use unexpected::first_unexpected;

use members::{Group, Level};
use path::Path;

/// Decodes a command's arguments; absent ones are an empty object. `()` is for commands that take none.
///
/// Allocates nothing for `()` and for structs without members, unless it fails.
///
/// # Errors
/// What QAPI says about arguments that do not fit, as a `GenericError`.
pub fn decode<T: DeserializeOwned>(arguments: Option<Object>) -> Result<T, Error> {
    let path = Path::Root;
    let mut level = Level::new(arguments.unwrap_or_default());
    T::deserialize(Group::new(&mut level, &path))
        .and_then(|value| level.finish(&path).map(|()| value))
        .map_err(|error| error.into_qmp(&path))
}
