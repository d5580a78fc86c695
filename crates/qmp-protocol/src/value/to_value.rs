//! Any `Serialize` type as a [`Value`], by serde_json's conventions: enums externally tagged, unit as `null`,
//! map keys that are strings, characters, integers or booleans.

use serde::ser::{self, Impossible, Serialize};

use super::{Number, Object, Value};
use crate::error::EncodeError;

/// Turns a Rust value into a JSON value.
///
/// # Errors
///
/// If a map has keys that are no strings, or a `Serialize` implementation fails. Integers beyond 64 bits fail too.
///
/// ```
/// # use qmp_protocol::{Value, to_value};
/// let value = to_value(&("fd", 7_i64)).unwrap();
/// assert_eq!(value, Value::Array(vec!["fd".into(), 7_i64.into()]));
/// ```
pub fn to_value<T: Serialize + ?Sized>(value: &T) -> Result<Value, EncodeError> {
    value.serialize(ToValue)
}

/// The serializer: stateless, each call yields a finished value.
struct ToValue;

/// Forwards a scalar method to the conversion into [`Value`] through a wider type.
macro_rules! scalar {
    ($($method:ident: $from:ty => $wide:ty),* $(,)?) => {
        $(fn $method(self, value: $from) -> Result<Value, EncodeError> {
            Ok(Value::from(<$wide>::from(value)))
        })*
    };
}

impl ser::Serializer for ToValue {
    type Ok = Value;
    type Error = EncodeError;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = List;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    scalar! {
        serialize_bool: bool => bool,
        serialize_i8: i8 => i64,
        serialize_i16: i16 => i64,
        serialize_i32: i32 => i64,
        serialize_i64: i64 => i64,
        serialize_u8: u8 => u64,
        serialize_u16: u16 => u64,
        serialize_u32: u32 => u64,
        serialize_u64: u64 => u64,
        serialize_f32: f32 => f64,
        serialize_f64: f64 => f64,
        serialize_char: char => String,
        serialize_str: &str => String,
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<Value, EncodeError> {
        Ok(Value::Array(bytes.iter().map(|&byte| Value::Number(Number::I64(byte.into()))).collect()))
    }

    fn serialize_none(self) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Value, EncodeError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _name: &'static str) -> Result<Value, EncodeError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<Value, EncodeError> {
        Ok(Value::from(variant))
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Value, EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, EncodeError> {
        Ok(tagged(Some(variant), to_value(value)?))
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List, EncodeError> {
        Ok(List { variant: None, values: Vec::with_capacity(len.unwrap_or(0).min(4096)) })
    }

    fn serialize_tuple(self, len: usize) -> Result<List, EncodeError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_struct(self, _name: &'static str, len: usize) -> Result<List, EncodeError> {
        self.serialize_seq(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<List, EncodeError> {
        Ok(List { variant: Some(variant), values: Vec::new() })
    }

    fn serialize_map(self, _len: Option<usize>) -> Result<Members, EncodeError> {
        Ok(Members { variant: None, key: None, members: Object::new() })
    }

    fn serialize_struct(self, _name: &'static str, len: usize) -> Result<Members, EncodeError> {
        self.serialize_map(Some(len))
    }

    fn serialize_struct_variant(
        self,
        _name: &'static str,
        _index: u32,
        variant: &'static str,
        _len: usize,
    ) -> Result<Members, EncodeError> {
        Ok(Members { variant: Some(variant), key: None, members: Object::new() })
    }
}

/// `{variant: value}` for an enum's variant with content, else the value.
fn tagged(variant: Option<&'static str>, value: Value) -> Value {
    match variant {
        Some(variant) => Value::Object(Object::from_iter([(variant, value)])),
        None => value,
    }
}

/// A list under construction.
struct List {
    variant: Option<&'static str>,
    values: Vec<Value>,
}

impl ser::SerializeSeq for List {
    type Ok = Value;
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.values.push(to_value(value)?);
        Ok(())
    }

    fn end(self) -> Result<Value, EncodeError> {
        Ok(tagged(self.variant, Value::Array(self.values)))
    }
}

/// Tuples of all kinds are lists.
macro_rules! as_list {
    ($($trait:ident: $method:ident),*) => {
        $(impl ser::$trait for List {
            type Ok = Value;
            type Error = EncodeError;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
                ser::SerializeSeq::serialize_element(self, value)
            }

            fn end(self) -> Result<Value, EncodeError> {
                ser::SerializeSeq::end(self)
            }
        })*
    };
}

as_list!(SerializeTuple: serialize_element, SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

/// An object under construction.
struct Members {
    variant: Option<&'static str>,
    key: Option<String>,
    members: Object,
}

impl ser::SerializeMap for Members {
    type Ok = Value;
    type Error = EncodeError;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), EncodeError> {
        self.key = Some(key.serialize(ToKey)?);
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        let key = self.key.take().ok_or_else(|| EncodeError::new("a map's value came before its key"))?;
        self.members.insert(key, to_value(value)?);
        Ok(())
    }

    fn end(self) -> Result<Value, EncodeError> {
        Ok(tagged(self.variant, Value::Object(self.members)))
    }
}

/// Structs of both kinds are objects.
macro_rules! as_members {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Members {
            type Ok = Value;
            type Error = EncodeError;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), EncodeError> {
                self.members.insert(key.to_owned(), to_value(value)?);
                Ok(())
            }

            fn end(self) -> Result<Value, EncodeError> {
                ser::SerializeMap::end(self)
            }
        })*
    };
}

as_members!(SerializeStruct, SerializeStructVariant);

/// A map's key: what has one obvious spelling as a string.
struct ToKey;

/// Keys that are spelled as they display.
macro_rules! displayed {
    ($($method:ident: $type:ty),* $(,)?) => {
        $(fn $method(self, value: $type) -> Result<String, EncodeError> {
            Ok(value.to_string())
        })*
    };
}

/// Keys that do not exist.
macro_rules! refused {
    ($($method:ident($($argument:ty),*) -> $ok:ty);* $(;)?) => {
        $(fn $method(self $(, _: $argument)*) -> Result<$ok, EncodeError> {
            Err(EncodeError::new("a map's key must be a string"))
        })*
    };
}

impl ser::Serializer for ToKey {
    type Ok = String;
    type Error = EncodeError;
    type SerializeSeq = Impossible<String, EncodeError>;
    type SerializeTuple = Impossible<String, EncodeError>;
    type SerializeTupleStruct = Impossible<String, EncodeError>;
    type SerializeTupleVariant = Impossible<String, EncodeError>;
    type SerializeMap = Impossible<String, EncodeError>;
    type SerializeStruct = Impossible<String, EncodeError>;
    type SerializeStructVariant = Impossible<String, EncodeError>;

    displayed! {
        serialize_bool: bool,
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_char: char,
        serialize_str: &str,
    }

    refused! {
        serialize_f32(f32) -> String;
        serialize_f64(f64) -> String;
        serialize_bytes(&[u8]) -> String;
        serialize_none() -> String;
        serialize_unit() -> String;
        serialize_unit_struct(&'static str) -> String;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct(&'static str, usize) -> Self::SerializeStruct;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _value: &T) -> Result<String, EncodeError> {
        self.serialize_none()
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<String, EncodeError> {
        Ok(variant.to_owned())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<String, EncodeError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _name: &'static str,
        _index: u32,
        _variant: &'static str,
        _value: &T,
    ) -> Result<String, EncodeError> {
        self.serialize_none()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    enum Shape {
        Unit,
        Wrapped(i32),
        Pair(u8, bool),
        Fields { width: f32 },
    }

    /// What `value` looks like when printed.
    fn shown<T: Serialize>(value: &T) -> String {
        let value = to_value(value).unwrap();
        serde_json::to_string(&value).unwrap()
    }

    #[test]
    fn every_shape_follows_serde_json() {
        assert_eq!(shown(&Shape::Unit), r#""unit""#);
        assert_eq!(shown(&Shape::Wrapped(-1)), r#"{"wrapped":-1}"#);
        assert_eq!(shown(&Shape::Pair(1, true)), r#"{"pair":[1,true]}"#);
        assert_eq!(shown(&Shape::Fields { width: 0.5 }), r#"{"fields":{"width":0.5}}"#);
        assert_eq!(shown(&(None::<u8>, Some('c'), ())), r#"[null,"c",null]"#);
        assert_eq!(shown(&BTreeMap::from([(7, u64::MAX)])), r#"{"7":18446744073709551615}"#);
    }

    #[test]
    fn a_value_becomes_itself() {
        let value = Value::Array(vec![Value::Null, 1.5.into(), Object::from_iter([("a", 1_i64)]).into()]);
        assert_eq!(to_value(&value).unwrap(), value);
    }

    #[test]
    fn keys_that_are_no_strings_are_refused() {
        assert!(to_value(&BTreeMap::from([(vec![1], 2)])).is_err());
        assert!(to_value(&BTreeMap::from([(None::<u8>, 2)])).is_err());
    }
}
