//! How Rust types describe themselves as QAPI types.
//!
//! A type that is a command's arguments, its return value or an event's data implements [`QapiType`], nearly always
//! by `#[derive(QapiType)]` beside serde's derives. Everything that tells others about a plane's types is generated
//! from these descriptions: introspection (`query-qmp-schema`), the QAPI export, the JSON schema, the manual. So they
//! carry the doc comments and the features too.
//!
//! * [`QapiType`] is the trait, [`TypeRef`] a use of a type, [`TypeDef`] a definition that has a name.
//! * [`Types`] is the registry of the named ones. It is filled once, when a router is built, and read from then on.
//! * [`validate`] holds what was described against QAPI's rules; what breaks one is a [`SchemaError`] that names the
//!   type and the member.
//!
//! Nothing here does I/O or runs while commands do.
//!
//! ```
//! use qmp_command::QapiType;
//! use qmp_command::schema::{TypeDef, TypeRef, Types, validate};
//! use serde::Deserialize;
//!
//! /// Closes a named file descriptor.
//! #[derive(Deserialize, QapiType)]
//! struct Closefd {
//!     /// The name that `getfd` gave it.
//!     fdname: String,
//! }
//!
//! let mut types = Types::new();
//! let root = Closefd::describe(&mut types);
//! assert_eq!(root, TypeRef::Named("Closefd"));
//! assert!(validate(&types, &root).is_ok());
//! let Some(TypeDef::Struct { members, .. }) = types.get("Closefd") else { panic!("not a struct") };
//! assert_eq!((members[0].name, &members[0].ty), ("fdname", &TypeRef::Str));
//! assert_eq!(members[0].doc, "The name that `getfd` gave it.");
//! ```

mod builtin;
mod definition;
mod error;
#[doc(hidden)]
pub mod private;
mod registry;
mod validate;

pub use builtin::Null;
pub use definition::{Branch, EnumValue, IntKind, Member, TypeDef, TypeRef};
pub use error::{Place, SchemaError};
pub use registry::Types;
pub use validate::{is_qapi_name, validate};

/// A Rust type that is a QAPI type.
///
/// Derive it where you can. By hand, [`describe`](Self::describe) registers the type under its name with
/// [`Types::define`] and returns the reference; what it says must agree with what the type's serde implementations
/// do, which [`check_fields`](crate::arguments::check_fields) verifies when a command is registered.
///
/// ```
/// use qmp_command::schema::{EnumValue, QapiType, TypeDef, TypeRef, Types};
///
/// enum OnOff { On, Off }
///
/// impl QapiType for OnOff {
///     fn describe(types: &mut Types) -> TypeRef {
///         types.define::<Self>("OnOff", |_| TypeDef::Enum {
///             name: "OnOff",
///             doc: "A switch.",
///             features: vec![],
///             values: ["on", "off"].map(EnumValue::new).into(),
///         })
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not described as a QAPI type",
    note = "derive it: `#[derive(QapiType)]`, of `vmm_control` (or `qmp_command`)",
    note = "QAPI has no maps, tuples or 128-bit, pointer-sized and 32-bit floating-point numbers"
)]
pub trait QapiType: 'static {
    /// Whether a struct member of this type may be absent. Only so for `Option` and what wraps one.
    const OPTIONAL: bool = false;

    /// Registers what is needed to describe this type in `types`, and returns a reference to it.
    fn describe(types: &mut Types) -> TypeRef;

    /// The type that a struct member of this type has while it is present: for an `Option`, what is in it.
    fn describe_member(types: &mut Types) -> TypeRef {
        Self::describe(types)
    }
}
