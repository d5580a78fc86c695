//! Walking an object: its declared members first, in declared order, then what is left over.

use qmp_protocol::{Object, Value};
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

use super::error::DecodeError;
use super::flat::FLAT;
use super::path::Path;
use super::unexpected::first_unexpected;
use super::value::OneValue;

type Names = &'static [&'static str];

/// An object that is being decoded. One struct asks it for its members, or several do (a union's base, then a branch).
#[derive(Debug)]
pub(crate) struct Level {
    /// Values are taken out one by one; names stay, for the order of what is left over.
    object: Object,
    /// How many members were present when they were asked for.
    taken: usize,
    /// What has been asked for. The first group apart, so that a plain struct allocates nothing.
    first: Names,
    further: Vec<Names>,
}

impl Level {
    pub(crate) fn new(object: Object) -> Self {
        Self { object, taken: 0, first: &[], further: Vec::new() }
    }

    /// To be called when all groups are done: complains of members that nobody asked for.
    pub(crate) fn finish(&self, path: &Path<'_>) -> Result<(), DecodeError> {
        if self.taken >= self.object.len() {
            return Ok(());
        }
        match first_unexpected(&self.object, self.asked()) {
            Some(name) => Err(DecodeError::unexpected(&Path::Member { parent: path, name })),
            None => Ok(()),
        }
    }

    fn asked(&self) -> impl Iterator<Item = &'static str> {
        self.first.iter().chain(self.further.iter().copied().flatten()).copied()
    }

    pub(crate) fn ask(&mut self, names: Names) {
        if self.first.is_empty() {
            self.first = names;
        } else if !names.is_empty() {
            self.further.push(names);
        }
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<Value> {
        let value = self.object.get_mut(name)?;
        self.taken += 1;
        Some(std::mem::replace(value, Value::Null))
    }

    /// All that nobody asked for.
    fn take_rest(&mut self) -> impl Iterator<Item = (String, Value)> + use<> {
        let asked: Vec<_> = self.asked().collect();
        std::mem::take(&mut self.object).into_iter().filter(move |(name, _)| !asked.contains(&name.as_str()))
    }
}

/// Decodes a group of an object's members: a struct, but without the check for what is left over, which is
/// [`Level::finish`].
#[derive(Debug)]
pub(crate) struct Group<'a> {
    level: &'a mut Level,
    path: &'a Path<'a>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(level: &'a mut Level, path: &'a Path<'a>) -> Self {
        Self { level, path }
    }
}

impl<'de> Deserializer<'de> for Group<'_> {
    type Error = DecodeError;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: Names,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        let Self { level, path } = self;
        if name == FLAT {
            return visitor.visit_seq(Groups { level, path });
        }
        level.ask(fields);
        visitor.visit_map(Declared { level, path, left: fields, current: None })
    }

    /// No members.
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_unit()
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, DecodeError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_some(self)
    }

    /// Whatever members there are.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DecodeError> {
        visitor.visit_map(Entries { entries: self.level.take_rest(), path: self.path, current: None })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf seq tuple tuple_struct map
        enum identifier ignored_any
    }
}

/// A union's groups. Each element is one.
struct Groups<'a> {
    level: &'a mut Level,
    path: &'a Path<'a>,
}

impl<'de> SeqAccess<'de> for Groups<'_> {
    type Error = DecodeError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, DecodeError> {
        seed.deserialize(Group { level: self.level, path: self.path }).map(Some)
    }
}

/// The declared members of a struct, present or not.
struct Declared<'a> {
    level: &'a mut Level,
    path: &'a Path<'a>,
    left: Names,
    current: Option<&'static str>,
}

impl<'de> MapAccess<'de> for Declared<'_> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        let Some((&name, left)) = self.left.split_first() else { return Ok(None) };
        self.left = left;
        self.current = Some(name);
        seed.deserialize(BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let name = self.current.take().unwrap_or_default();
        let path = Path::Member { parent: self.path, name };
        let value = self.level.take(name);
        seed.deserialize(OneValue::new(value, &path)).map_err(|error| error.at(&path))
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left.len())
    }
}

/// The members that are there, whatever their names.
pub(crate) struct Entries<'a, I> {
    entries: I,
    path: &'a Path<'a>,
    current: Option<(String, Value)>,
}

impl<'a, I> Entries<'a, I> {
    pub(crate) fn new(entries: I, path: &'a Path<'a>) -> Self {
        Self { entries, path, current: None }
    }
}

impl<'de, I: Iterator<Item = (String, Value)>> MapAccess<'de> for Entries<'_, I> {
    type Error = DecodeError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DecodeError> {
        self.current = self.entries.next();
        match &self.current {
            Some((name, _)) => seed.deserialize(StrDeserializer::new(name)).map(Some),
            None => Ok(None),
        }
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, DecodeError> {
        let (name, value) = self.current.take().unzip();
        let path = Path::Member { parent: self.path, name: name.as_deref().unwrap_or_default() };
        seed.deserialize(OneValue::new(value, &path)).map_err(|error| error.at(&path))
    }
}
