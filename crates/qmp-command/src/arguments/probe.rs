//! Asking a type's serde implementation what it reads, without a value of the type.
//!
//! A probe is a deserializer that walks down to one place in a type, notes which kind of value is asked for there,
//! and gives up. So whatever a type does with its values (validation, conversions) cannot get in the way: at most a
//! place beyond a union's tag cannot be reached. Used when commands are registered, never while they run.

use std::cell::Cell;
use std::fmt;

use serde::de::value::BorrowedStrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::flat::FLAT;
use crate::schema::IntKind;

type Names = &'static [&'static str];

/// One step down into a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Into a struct's member.
    Field(&'static str),
    /// Into an `Option`.
    Some,
    /// Into a list's element.
    Element,
    /// Into a union's base.
    Base,
    /// Into the branch that this value of the tag chooses.
    Branch(&'static str),
}

/// What serde is asked for at some place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Struct(Names),
    /// A union as this crate reads it.
    Flat,
    Enum(Names),
    Option,
    List,
    Str,
    Int(IntKind),
    Number,
    Bool,
    Unit,
    /// Whatever there is: `qmp_protocol::Value`, but also serde's own tagged and untagged enums.
    Anything,
    /// An object with any members: a map, or a struct with `flatten`.
    Map,
    /// What QAPI has no type for.
    Other(&'static str),
}

/// What `T` asks for at the end of `path`; `None` if it cannot be reached.
pub(crate) fn probe<T: DeserializeOwned>(path: &[Step]) -> Option<Asked> {
    let asked = Cell::new(None);
    // The outcome is in the cell; the probe itself always gives up.
    let _ = T::deserialize(Probe { path, asked: &asked });
    asked.into_inner()
}

/// Why every probe ends.
#[derive(Debug)]
struct Stop;

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the probe is done")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

#[derive(Clone, Copy)]
struct Probe<'a> {
    path: &'a [Step],
    asked: &'a Cell<Option<Asked>>,
}

impl<'a> Probe<'a> {
    /// At the end of the path notes what is asked for. Before, gives the next step and the probe for what follows.
    fn step(self, asked: Asked) -> Result<(Step, Self), Stop> {
        match self.path.split_first() {
            Some((&step, path)) => Ok((step, Self { path, ..self })),
            None => {
                self.asked.set(Some(asked));
                Err(Stop)
            }
        }
    }

    /// For what has nothing below it.
    fn leaf<T>(self, asked: Asked) -> Result<T, Stop> {
        self.step(asked).and(Err(Stop))
    }
}

macro_rules! leaves {
    ($($method:ident => $asked:expr,)*) => {
        $(fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Stop> {
            self.leaf($asked)
        })*
    };
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Stop;

    leaves! {
        deserialize_any => Asked::Anything,
        deserialize_bool => Asked::Bool,
        deserialize_i8 => Asked::Int(IntKind::Int8),
        deserialize_i16 => Asked::Int(IntKind::Int16),
        deserialize_i32 => Asked::Int(IntKind::Int32),
        deserialize_i64 => Asked::Int(IntKind::Int64),
        deserialize_i128 => Asked::Other("a 128-bit integer"),
        deserialize_u8 => Asked::Int(IntKind::Uint8),
        deserialize_u16 => Asked::Int(IntKind::Uint16),
        deserialize_u32 => Asked::Int(IntKind::Uint32),
        deserialize_u64 => Asked::Int(IntKind::Uint64),
        deserialize_u128 => Asked::Other("a 128-bit integer"),
        deserialize_f32 => Asked::Number,
        deserialize_f64 => Asked::Number,
        deserialize_char => Asked::Str,
        deserialize_str => Asked::Str,
        deserialize_string => Asked::Str,
        deserialize_identifier => Asked::Str,
        deserialize_bytes => Asked::Other("bytes"),
        deserialize_byte_buf => Asked::Other("bytes"),
        deserialize_unit => Asked::Unit,
        deserialize_map => Asked::Map,
        deserialize_ignored_any => Asked::Anything,
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.step(Asked::Option)? {
            (Step::Some, rest) => visitor.visit_some(rest),
            _ => Err(Stop),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Stop> {
        self.leaf(Asked::Unit)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        match self.step(Asked::List)? {
            (Step::Element, rest) => visitor.visit_seq(Groups { base: None, last: Some(rest) }),
            _ => Err(Stop),
        }
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        self.leaf(Asked::Other("a tuple"))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        _: V,
    ) -> Result<V::Value, Stop> {
        self.leaf(Asked::Other("a tuple"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let asked = if name == FLAT { Asked::Flat } else { Asked::Struct(fields) };
        match self.step(asked)? {
            (Step::Field(field), rest) if name != FLAT => {
                visitor.visit_map(OneField { field: Some(field), rest })
            }
            (Step::Base, rest) if name == FLAT => visitor.visit_seq(Groups { base: None, last: Some(rest) }),
            (Step::Branch(tag), rest) if name == FLAT => {
                visitor.visit_seq(Groups { base: Some(Blank { tag }), last: Some(rest) })
            }
            _ => Err(Stop),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: Names,
        _: V,
    ) -> Result<V::Value, Stop> {
        self.leaf(Asked::Enum(variants))
    }
}

/// A struct of which one field is of interest.
struct OneField<'a> {
    field: Option<&'static str>,
    rest: Probe<'a>,
}

impl<'de> MapAccess<'de> for OneField<'_> {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        self.field.take().map(|field| seed.deserialize(BorrowedStrDeserializer::new(field))).transpose()
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.rest)
    }
}

/// A list of which one element is of interest: a real list's first, or a union's group, after a blank base.
struct Groups<'a> {
    base: Option<Blank>,
    last: Option<Probe<'a>>,
}

impl<'de> SeqAccess<'de> for Groups<'_> {
    type Error = Stop;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Stop> {
        if let Some(base) = self.base.take() {
            return seed.deserialize(base).map(Some);
        }
        self.last.take().map(|probe| seed.deserialize(probe)).transpose()
    }
}

/// Gives what it can make up: zeros, empty strings and lists, and `tag` for the enum that has such a value.
#[derive(Clone, Copy)]
struct Blank {
    tag: &'static str,
}

impl<'de> Deserializer<'de> for Blank {
    type Error = Stop;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_unit()
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_bool(false)
    }

    fn deserialize_i64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_i64(0)
    }

    fn deserialize_i8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_i32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u8<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u16<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        self.deserialize_i64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_f64(0.0)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_str("")
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_str("")
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_none()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Stop> {
        visitor.visit_seq(Groups { base: None, last: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        if name == FLAT {
            return Err(Stop);
        }
        visitor.visit_map(BlankFields { fields, blank: self })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: Names,
        visitor: V,
    ) -> Result<V::Value, Stop> {
        let chosen = variants.iter().find(|variant| **variant == self.tag).or(variants.first());
        visitor.visit_enum(BlankVariant(chosen.ok_or(Stop)?))
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct map identifier ignored_any
    }
}

struct BlankFields {
    fields: Names,
    blank: Blank,
}

impl<'de> MapAccess<'de> for BlankFields {
    type Error = Stop;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Stop> {
        let Some((field, fields)) = self.fields.split_first() else { return Ok(None) };
        self.fields = fields;
        seed.deserialize(BorrowedStrDeserializer::new(field)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Stop> {
        seed.deserialize(self.blank)
    }
}

struct BlankVariant(&'static str);

impl<'de> EnumAccess<'de> for BlankVariant {
    type Error = Stop;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), Stop> {
        seed.deserialize(BorrowedStrDeserializer::new(self.0)).map(|variant| (variant, self))
    }
}

impl<'de> VariantAccess<'de> for BlankVariant {
    type Error = Stop;

    fn unit_variant(self) -> Result<(), Stop> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, _: T) -> Result<T::Value, Stop> {
        Err(Stop)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }

    fn struct_variant<V: Visitor<'de>>(self, _: Names, _: V) -> Result<V::Value, Stop> {
        Err(Stop)
    }
}
