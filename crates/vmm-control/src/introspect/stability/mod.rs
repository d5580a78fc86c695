//! Keeping an interface stable: a plane held against a schema that was frozen in a file.
//!
//! Clients are written against what commands take and events bring. [`assert_compatible`] in a test of the author's fails
//! when a change of Rust types would break one that was written before:
//!
//! ```
//! # use vmm_control::{ControlPlane, RunState, RunStateCell};
//! use vmm_control::introspect::stability::{FREEZE, assert_compatible, freeze};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("schema.json");
//! # let plane = ControlPlane::builder(RunStateCell::new(RunState::Running)).build()?;
//! # freeze(&plane, &path)?; // what FREEZE=1 in the environment does
//! # assert_eq!(FREEZE, "VMM_CONTROL_FREEZE");
//! assert_compatible(&plane, &path); // "tests/schema.json"
//! # Ok(())
//! # }
//! ```
//!
//! The file is what `query-qmp-schema` returns, one entity a line. It is written with `VMM_CONTROL_FREEZE=1` in the
//! environment: the first time, and whenever an interface is released that offers more, or breaks with the old one on
//! purpose. Names of types say nothing; structures are compared.
//!
//! What breaks clients depends on the way that a value goes.
//!
//! | change | in arguments | in return values and events |
//! |---|---|---|
//! | a command, event, member, enum value or variant of a union goes | breaks | breaks |
//! | an optional member becomes mandatory | breaks | |
//! | a mandatory member becomes optional | | breaks |
//! | a mandatory member comes, also with a value of a tag with which none came | breaks | |
//! | an optional member or an enum value comes | | |
//! | a type becomes wider (`int`, `number`, anything; an enum, `str`; a type, an alternate with it) | | breaks |
//! | a type becomes narrower likewise | breaks | |
//! | any other change of a type, or from a list to none | breaks | breaks |
//! | out-of-band, or a feature that clients ask for, goes | breaks | breaks |
//! | it becomes `unstable` | breaks | breaks |
//!
//! What `query-qmp-schema` does not say is not seen: all integers are `int` there, so `u64` to `u8` or to `i64` is no change,
//! though values that were taken may be refused. Keep the widths of what is frozen. The plane knows them: they are in
//! [`qapi`](crate::introspect::qapi)'s text, which can be compared besides.
//!
//! A client has to expect new members and enum values in what it gets. What the file says is `unstable` may change in any
//! way. What is `deprecated` may not go by itself: freeze anew when it is time.

mod compare;
mod model;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use self::compare::Comparison;
use self::model::Model;
use crate::plane::ControlPlane;

/// The environment variable that has [`assert_compatible`] write the file anew, when it is set and not empty.
pub const FREEZE: &str = "VMM_CONTROL_FREEZE";

/// A change that breaks clients.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Break {
    /// Where: `command x-draw, argument shape.radii[]`.
    pub place: String,
    /// What: `is mandatory now`.
    pub change: String,
}

impl fmt::Display for Break {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.change)
    }
}

/// Why a plane does not go with a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StabilityError {
    /// The file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The schema is none.
    #[error("no schema as query-qmp-schema returns it: {0}")]
    Schema(String),
    /// The plane would break clients.
    #[error("clients would break:\n{}", lines(.0))]
    Breaks(Vec<Break>),
}

fn lines(breaks: &[Break]) -> String {
    breaks.iter().map(|it| format!("  {it}\n")).collect()
}

/// Fails a test when the plane's interface breaks clients of the one that was frozen in `path` (relative to where the test
/// runs: its package). With [`FREEZE`] in the environment, writes the file instead.
///
/// # Panics
/// With a list of what breaks, or when there is no such file.
#[track_caller]
pub fn assert_compatible(plane: &ControlPlane, path: impl AsRef<Path>) {
    let path = path.as_ref();
    let write = std::env::var_os(FREEZE).is_some_and(|value| !value.is_empty());
    let done = if write { freeze(plane, path) } else { check(plane, path) };
    if let Err(error) = done {
        panic!(
            "{error}\nThe interface was frozen in {}. Change it in a way that old clients can bear (keep what there was, make \
             what is new optional, or give it another name), or run this test with {FREEZE}=1 to freeze it as it is, \
             and tell your users.",
            path.display()
        );
    }
}

/// The same for who does not want to panic, and never writes.
///
/// # Errors
/// A file that cannot be read or is no schema, or all that breaks.
pub fn check(plane: &ControlPlane, path: impl AsRef<Path>) -> Result<(), StabilityError> {
    let path = path.as_ref();
    let frozen =
        std::fs::read_to_string(path).map_err(|source| StabilityError::File { path: path.into(), source })?;
    match breaks(&frozen, &text(plane)?)? {
        none if none.is_empty() => Ok(()),
        breaks => Err(StabilityError::Breaks(breaks)),
    }
}

/// Writes the file.
///
/// # Errors
/// When it cannot be written.
pub fn freeze(plane: &ControlPlane, path: impl AsRef<Path>) -> Result<(), StabilityError> {
    let path = path.as_ref();
    std::fs::write(path, text(plane)?).map_err(|source| StabilityError::File { path: path.into(), source })
}

/// What the file says of a plane: `query-qmp-schema`'s list, one entity a line.
///
/// # Errors
/// None in practice: a plane's schema can be written as JSON.
pub fn text(plane: &ControlPlane) -> Result<String, StabilityError> {
    let line = |info| serde_json::to_string(&info).map_err(|error| StabilityError::Schema(error.to_string()));
    let lines = plane.schema().into_iter().map(line).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("[\n{}\n]\n", lines.join(",\n")))
}

/// What breaks clients of the schema `frozen` with a server of the schema `current`, in order. Both are JSON as
/// `query-qmp-schema` returns it, from this library, QEMU, or elsewhere.
///
/// # Errors
/// What is wrong with one of them.
pub fn breaks(frozen: &str, current: &str) -> Result<Vec<Break>, StabilityError> {
    let (frozen, current) = (Model::parse(frozen)?, Model::parse(current)?);
    Ok(Comparison::new(&frozen, &current).run())
}
