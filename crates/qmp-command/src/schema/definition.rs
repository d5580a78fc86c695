//! Descriptions of types: references and definitions. Plain data.

use std::fmt;

/// A use of a type. Exhaustive, so that whatever generates something from types handles them all.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TypeRef {
    /// `str`.
    Str,
    /// One of the integer types.
    Int(IntKind),
    /// `number`: a double.
    Number,
    /// `bool`.
    Bool,
    /// `null`. QAPI allows it as a branch of an alternate.
    Null,
    /// `any`: any JSON value.
    Any,
    /// Nothing at all: a command without arguments or return value, an event without data, a union's branch without
    /// members. Written `()` in Rust.
    Empty,
    /// A list.
    Array(Box<TypeRef>),
    /// A struct, enum, union or alternate that stands in the [`Types`](super::Types) under this name.
    Named(&'static str),
}

/// As the QAPI language writes it: `str`, `uint8`, `['Name']`.
impl fmt::Display for TypeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Str => "str",
            Self::Int(kind) => kind.as_str(),
            Self::Number => "number",
            Self::Bool => "bool",
            Self::Null => "null",
            Self::Any => "any",
            Self::Empty => "nothing",
            Self::Named(name) => name,
            Self::Array(element) if matches!(**element, Self::Array(_)) => return write!(f, "[{element}]"),
            Self::Array(element) => return write!(f, "['{element}']"),
        })
    }
}

/// The width and signedness of an integer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IntKind {
    /// `i8`.
    Int8,
    /// `i16`.
    Int16,
    /// `i32`.
    Int32,
    /// `i64`, QAPI's plain `int`.
    Int64,
    /// `u8`.
    Uint8,
    /// `u16`.
    Uint16,
    /// `u32`.
    Uint32,
    /// `u64`.
    Uint64,
    /// A `u64` that counts bytes: `size`. The same as `Uint64` on the wire; command lines allow suffixes for it.
    Size,
}

impl IntKind {
    /// QAPI's name of the type.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int8 => "int8",
            Self::Int16 => "int16",
            Self::Int32 => "int32",
            Self::Int64 => "int",
            Self::Uint8 => "uint8",
            Self::Uint16 => "uint16",
            Self::Uint32 => "uint32",
            Self::Uint64 => "uint64",
            Self::Size => "size",
        }
    }
}

/// The definition of a type that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeDef {
    /// An object with a fixed set of members.
    Struct {
        /// The type's name.
        name: &'static str,
        /// The doc comment; lines are separated by `\n`. Empty if there is none.
        doc: &'static str,
        /// The features that introspection shows, `deprecated` and `unstable` among them.
        features: Vec<&'static str>,
        /// In declared order, which is the order in which arguments are checked.
        members: Vec<Member>,
    },
    /// A string out of a closed list.
    Enum {
        /// The type's name.
        name: &'static str,
        /// As for a struct.
        doc: &'static str,
        /// As for a struct.
        features: Vec<&'static str>,
        /// In declared order.
        values: Vec<EnumValue>,
    },
    /// An object one of whose members, the tag, decides which further members it has: QAPI's flat union.
    Union {
        /// The type's name.
        name: &'static str,
        /// As for a struct.
        doc: &'static str,
        /// As for a struct.
        features: Vec<&'static str>,
        /// The members that every branch has, in declared order, the tag among them.
        base: Vec<Member>,
        /// The name of the tag, which is a mandatory member of an enum type.
        tag: &'static str,
        /// One for each value of the tag. A branch's type is a struct, a union or [`TypeRef::Empty`].
        branches: Vec<Branch>,
    },
    /// A value whose JSON type decides what it is.
    Alternate {
        /// The type's name.
        name: &'static str,
        /// As for a struct.
        doc: &'static str,
        /// As for a struct.
        features: Vec<&'static str>,
        /// The choices; their names are not on the wire.
        branches: Vec<Branch>,
    },
}

impl TypeDef {
    /// The type's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Struct { name, .. }
            | Self::Enum { name, .. }
            | Self::Union { name, .. }
            | Self::Alternate { name, .. } => name,
        }
    }

    /// The doc comment. Empty if there is none.
    pub fn doc(&self) -> &'static str {
        match self {
            Self::Struct { doc, .. }
            | Self::Enum { doc, .. }
            | Self::Union { doc, .. }
            | Self::Alternate { doc, .. } => doc,
        }
    }

    /// The features that introspection shows.
    pub fn features(&self) -> &[&'static str] {
        match self {
            Self::Struct { features, .. }
            | Self::Enum { features, .. }
            | Self::Union { features, .. }
            | Self::Alternate { features, .. } => features,
        }
    }
}

/// A member of a struct, or of a union's base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The name on the wire.
    pub name: &'static str,
    /// The doc comment. Empty if there is none.
    pub doc: &'static str,
    /// The type it has while it is present.
    pub ty: TypeRef,
    /// Whether it may be absent.
    pub optional: bool,
    /// The features that introspection shows.
    pub features: Vec<&'static str>,
}

impl Member {
    /// A mandatory member without doc and features.
    pub const fn new(name: &'static str, ty: TypeRef) -> Self {
        Self { name, doc: "", ty, optional: false, features: Vec::new() }
    }

    /// The same, optional.
    #[must_use]
    pub fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// A value of an enum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnumValue {
    /// The string on the wire.
    pub name: &'static str,
    /// The doc comment. Empty if there is none.
    pub doc: &'static str,
    /// The features that introspection shows.
    pub features: Vec<&'static str>,
}

impl EnumValue {
    /// A value without doc and features.
    pub const fn new(name: &'static str) -> Self {
        Self { name, doc: "", features: Vec::new() }
    }
}

/// One choice of a union or an alternate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The value of the tag that selects it; in an alternate, a name for the manual.
    pub name: &'static str,
    /// The doc comment. Empty if there is none.
    pub doc: &'static str,
    /// What it adds to the base. [`TypeRef::Empty`] for nothing.
    pub ty: TypeRef,
    /// The features that introspection shows on the tag's value.
    pub features: Vec<&'static str>,
}

impl Branch {
    /// A branch without doc and features.
    pub const fn new(name: &'static str, ty: TypeRef) -> Self {
        Self { name, doc: "", ty, features: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_print_as_qapi_writes_them() {
        let array = |of| TypeRef::Array(Box::new(of));
        assert_eq!(array(TypeRef::Named("FdsetInfo")).to_string(), "['FdsetInfo']");
        assert_eq!(array(array(TypeRef::Int(IntKind::Int64))).to_string(), "[['int']]");
        assert_eq!(TypeRef::Int(IntKind::Size).to_string(), "size");
    }

    #[test]
    fn a_definition_tells_what_all_kinds_have() {
        let def = TypeDef::Enum { name: "E", doc: "d", features: vec!["unstable"], values: vec![] };
        assert_eq!((def.name(), def.doc(), def.features()), ("E", "d", &["unstable"][..]));
    }
}
