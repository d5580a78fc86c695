//! The types that Rust and QAPI both have.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::ser::{Serialize, Serializer};

use super::definition::{IntKind, TypeRef};
use super::{QapiType, Types};

macro_rules! builtin {
    ($($rust:ty => $qapi:expr),* $(,)?) => {
        $(impl QapiType for $rust {
            fn describe(_: &mut Types) -> TypeRef {
                $qapi
            }
        })*
    };
}

builtin! {
    String => TypeRef::Str,
    &'static str => TypeRef::Str,
    std::borrow::Cow<'static, str> => TypeRef::Str,
    bool => TypeRef::Bool,
    f64 => TypeRef::Number,
    i8 => TypeRef::Int(IntKind::Int8),
    i16 => TypeRef::Int(IntKind::Int16),
    i32 => TypeRef::Int(IntKind::Int32),
    i64 => TypeRef::Int(IntKind::Int64),
    u8 => TypeRef::Int(IntKind::Uint8),
    u16 => TypeRef::Int(IntKind::Uint16),
    u32 => TypeRef::Int(IntKind::Uint32),
    u64 => TypeRef::Int(IntKind::Uint64),
    () => TypeRef::Empty,
    Null => TypeRef::Null,
    qmp_protocol::Value => TypeRef::Any,
}

impl<T: QapiType> QapiType for Vec<T> {
    fn describe(types: &mut Types) -> TypeRef {
        TypeRef::Array(Box::new(T::describe(types)))
    }
}

impl<T: QapiType + ?Sized> QapiType for Box<T> {
    const OPTIONAL: bool = T::OPTIONAL;

    fn describe(types: &mut Types) -> TypeRef {
        T::describe(types)
    }

    fn describe_member(types: &mut Types) -> TypeRef {
        T::describe_member(types)
    }
}

/// An optional member. Anywhere else it is an error, and so is an `Option` in an `Option`.
impl<T: QapiType> QapiType for Option<T> {
    const OPTIONAL: bool = true;

    fn describe(types: &mut Types) -> TypeRef {
        types.refuse(
            "an Option can only be a struct's member: QAPI has no optional list elements, return values or branches",
        );
        T::describe_member(types)
    }

    fn describe_member(types: &mut Types) -> TypeRef {
        T::describe(types)
    }
}

/// The JSON value `null`, where it is a choice of an alternate. Not `()`, which is no value at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Null;

impl<'de> Deserialize<'de> for Null {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NullVisitor;

        impl Visitor<'_> for NullVisitor {
            type Value = Null;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("null")
            }

            fn visit_unit<E: Error>(self) -> Result<Null, E> {
                Ok(Null)
            }

            fn visit_none<E: Error>(self) -> Result<Null, E> {
                Ok(Null)
            }
        }
        deserializer.deserialize_unit(NullVisitor)
    }
}

impl Serialize for Null {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_unit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_null_and_nothing_else() {
        assert_eq!(serde_json::from_str::<Null>("null").unwrap(), Null);
        assert_eq!(serde_json::to_string(&Null).unwrap(), "null");
        for other in ["0", "{}", "\"null\"", "[]"] {
            assert!(serde_json::from_str::<Null>(other).is_err(), "{other}");
        }
    }

    #[test]
    fn boxes_are_not_seen() {
        let mut types = Types::new();
        assert_eq!(
            Box::<Vec<u16>>::describe(&mut types),
            TypeRef::Array(Box::new(TypeRef::Int(IntKind::Uint16)))
        );
        const { assert!(Box::<Option<u8>>::OPTIONAL) };
        assert_eq!(Box::<Option<u8>>::describe_member(&mut types), TypeRef::Int(IntKind::Uint8));
        assert!(types.errors().is_empty());
        Option::<Option<u8>>::describe_member(&mut types);
        assert_eq!(types.errors().len(), 1);
    }
}
