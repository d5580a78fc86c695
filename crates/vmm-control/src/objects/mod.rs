//! The object tree: what `object-add`, `device_add` and the `qom-*` commands see.
//!
//! [`Objects`] is a plane's tree, in QEMU's shape: user-created objects under `/objects`, devices under
//! `/machine/peripheral`, chardevs under `/chardevs`. What stands in it is an [`Object`]: a Rust value whose properties
//! are a struct. An [`ObjectType`] makes such values by name; an author registers theirs with
//! [`Builder::object_type`](crate::Builder::object_type) and [`Builder::device_type`](crate::Builder::device_type),
//! and they are equals of the built-in ones in everything: introspection, `qom-list-types`, the human monitor.
//!
//! Invariants: a name stands once under its parent; what somebody [uses](Objects::acquire) is not removed; a failed
//! `object-add` leaves nothing behind. Names are walked in the order of QEMU's hash tables, which clients see.
//!
//! The tree's locks are held for moments and never while an object's own code runs.

mod check;
mod class;
mod node;
mod object;
mod path;
#[cfg(feature = "vfio-user")]
pub mod pci;
mod registry;
mod tree;

pub mod builtin;

pub use self::check::TypeError;
pub use self::class::{PropertyInfo, TypeInfo};
pub use self::object::{Creation, NoProperties, Object, Plain};
pub use self::registry::ObjectType;
pub use self::tree::{AttachError, Objects, Used};

pub(crate) use self::class::ClassKind;
pub(crate) use self::node::Node;
pub(crate) use self::path::Resolved;
pub(crate) use self::registry::Registry;
pub(crate) use self::tree::WeakObjects;
