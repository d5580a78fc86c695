//! Decoding one value.

use qmp_protocol::{Number, Object, Value};
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::error::DecodeError;
use super::members::{Entries, Group, Level};
use super::path::Path;

/// A member's value, which may be absent, or a list's element.
#[derive(Debug)]
pub(crate) struct OneValue<'a> {
    value: Option<Value>,
    path: &'a Path<'a>,
}

impl<'a> OneValue<'a> {
    pub(crate) fn new(value: Option<Value>, path: &'a Path<'a>) -> Self {
        Self { value, path }
    }

    fn present(self) -> Result<Value, DecodeError> {
        self.value.ok_or_else(|| DecodeError::missing(self.path))
    }

    fn wrong<T>(&self, expected: &str) -> Result<T, DecodeError> {
        Err(DecodeError::wrong_type(self.path, expected))
    }

    fn string(self) -> Result<String, DecodeError> {
        let path = self.path;
        match self.present()? {
            Value::String(text) => Ok(text),
            _ => Err(DecodeError::wrong_type(path, "string")),
        }
    }

    fn object(self) -> Result<Object, DecodeError> {
        let path = self.path;
        match self.present()? {
            Value::Object(object) => Ok(object),
            _ => Err(DecodeError::wrong_type(path, "object")),
        }
    }

    fn array(self) -> Result<Vec<Value>, DecodeError> {
        let path = self.path;
        match self.present()? {
            Value::Array(elements) => Ok(elements),
            _ => Err(DecodeError::wrong_type(path, "array")),
        }
    }

    /// QAPI's signed integers: an integer that fits an `i64`; the narrow ones then have their range.
    fn signed(self, min: i64, max: i64, name: &str) -> Result<i64, DecodeError> {
        let path = self.path;
        match self.present()? {
            Value::Number(Number::I64(number)) if (min..=max).contains(&number) => Ok(number),
            Value::Number(Number::I64(_)) => Err(DecodeError::out_of_range(path, name)),
            _ => Err(DecodeError::wrong_type(path, "integer")),
        }
    }

    /// QAPI's unsigned integers: an integer that fits a `u64` or an `i64`, a negative one as its two's complement; the
    /// narrow ones then have their range. What is no such integer is told so in other words than for signed ones.
    fn unsigned(self, max: u64, name: &str) -> Result<u64, DecodeError> {
        let path = self.path;
        let number = match self.present()? {
            Value::Number(Number::I64(number)) => number.cast_unsigned(),
            Value::Number(Number::U64(number)) => number,
            _ => return Err(DecodeError::expects(path, "uint64")),
        };
        if number <= max { Ok(number) } else { Err(DecodeError::out_of_range(path, name)) }
    }
}

macro_rules! integers {
    ($($method:ident: $read:ident($($limit:expr),*; $name:literal) => $visit:ident,)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
            visitor.$visit(self.$read($($limit.into(),)* $name)?)
        })*
    };
}

impl<'de> Deserializer<'de> for OneValue<'_> {
    type Error = DecodeError;

    integers! {
        deserialize_i8: signed(i8::MIN, i8::MAX; "int8_t") => visit_i64,
        deserialize_i16: signed(i16::MIN, i16::MAX; "int16_t") => visit_i64,
        deserialize_i32: signed(i32::MIN, i32::MAX; "int32_t") => visit_i64,
        deserialize_i64: signed(i64::MIN, i64::MAX; "int64_t") => visit_i64,
        deserialize_u8: unsigned(u8::MAX; "uint8_t") => visit_u64,
        deserialize_u16: unsigned(u16::MAX; "uint16_t") => visit_u64,
        deserialize_u32: unsigned(u32::MAX; "uint32_t") => visit_u64,
        deserialize_u64: unsigned(u64::MAX; "uint64") => visit_u64,
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_f64(visitor)
    }

    /// Takes integers too.
    #[expect(clippy::cast_precision_loss, reason = "QAPI's number is a double, whatever was written")]
    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        visitor.visit_f64(match self.present()? {
            Value::Number(Number::I64(number)) => number as f64,
            Value::Number(Number::U64(number)) => number as f64,
            Value::Number(Number::F64(number)) => number,
            _ => return Err(DecodeError::wrong_type(path, "number")),
        })
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        match self.present()? {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(DecodeError::wrong_type(path, "boolean")),
        }
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_string(self.string()?)
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        self.deserialize_any(visitor)
    }

    /// Only an absent member is `None`; `null` is a value, and seldom one of the right type.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        if self.value.is_none() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        match self.value {
            Some(Value::Null) => visitor.visit_unit(),
            Some(_) => self.wrong("null"),
            None => Err(DecodeError::missing(self.path)),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        visitor.visit_seq(Elements::new(self.array()?, path))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        let elements = self.array()?;
        let surplus = elements.len() > len;
        let value = visitor.visit_seq(Elements::new(elements, path))?;
        if surplus { Err(DecodeError::too_long(path, len)) } else { Ok(value) }
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        self.deserialize_tuple(len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        visitor.visit_map(Entries::new(self.object()?.into_iter(), path))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let path = self.path;
        let mut level = Level::new(self.object()?);
        let value = Group::new(&mut level, path).deserialize_struct(name, fields, visitor)?;
        level.finish(path)?;
        Ok(value)
    }

    /// An enum of unit variants. Unions do not come here: they are structs named [`FLAT`](super::flat::FLAT).
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let path = self.path;
        let value = self.string()?;
        match variants.iter().find(|variant| **variant == value) {
            Some(variant) => visitor.visit_enum(UnitVariant(variant)),
            None => Err(DecodeError::not_a_value(path, &value)),
        }
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        let path = self.path;
        match self.present()? {
            // Serde recurses, several frames a level; the decoder of requests lets more levels in than a stack holds.
            Value::Array(_) | Value::Object(_) if path.depth() > ANY_DEPTH => Err(DecodeError::custom(
                format_args!("Parameter '{}' is nested too deeply", path.outermost()),
            )),
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(value),
            Value::Number(Number::I64(number)) => visitor.visit_i64(number),
            Value::Number(Number::U64(number)) => visitor.visit_u64(number),
            Value::Number(Number::F64(number)) => visitor.visit_f64(number),
            Value::String(text) => visitor.visit_string(text),
            Value::Array(elements) => visitor.visit_seq(Elements::new(elements, path)),
            Value::Object(object) => visitor.visit_map(Entries::new(object.into_iter(), path)),
        }
    }
}

/// Levels of a value of any type, counted from the arguments.
const ANY_DEPTH: usize = 128;

/// A list's elements.
struct Elements<'a> {
    elements: std::iter::Enumerate<std::vec::IntoIter<Value>>,
    path: &'a Path<'a>,
}

impl<'a> Elements<'a> {
    fn new(elements: Vec<Value>, path: &'a Path<'a>) -> Self {
        Self { elements: elements.into_iter().enumerate(), path }
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        let Some((index, value)) = self.elements.next() else { return Ok(None) };
        let path = Path::Element { parent: self.path, index };
        seed.deserialize(OneValue::new(Some(value), &path)).map(Some).map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.elements.len())
    }
}

/// The name of a variant that holds nothing.
struct UnitVariant(&'static str);

impl<'de> EnumAccess<'de> for UnitVariant {
    type Error = DecodeError;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), DecodeError> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0)).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for UnitVariant {
    type Error = DecodeError;

    fn unit_variant(self) -> Result<(), DecodeError> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, DecodeError> {
        Err(DecodeError::invalid_type(Unexpected::UnitVariant, &"a union with a tag"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, DecodeError> {
        Err(DecodeError::invalid_type(Unexpected::UnitVariant, &"a union with a tag"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, DecodeError> {
        Err(DecodeError::invalid_type(Unexpected::UnitVariant, &"a union with a tag"))
    }
}
