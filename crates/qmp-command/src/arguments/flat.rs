//! Flat unions: objects whose members are declared in groups.
//!
//! A union's members stand in one object: those of the base, the tag among them, and those of the branch that the tag
//! chose. To serde such a type says "struct" under a name of its own, `FLAT`. The decoder of this crate then hands it
//! a sequence whose elements are groups of members of that one object, and complains of left-over members when all
//! groups are done. So a union adds nothing to a path, and members are checked in QAPI's order.
//!
//! Any other deserializer (a configuration file's, a JSON client's) hands over a map, as for any struct; it is
//! collected and decoded here.
//!
//! Written to by `#[derive(QapiType)]` alone.

use std::fmt;
use std::marker::PhantomData;

use qmp_protocol::{Object, Value};
use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::decode;
use crate::schema::{Branch, QapiType, Types};

/// The name by which a union makes itself known to the decoder.
pub(super) const FLAT: &str = "$qmp_command::flat";

/// A union as it is decoded: its base first, then what that says.
pub trait Flat: Sized {
    /// The members that are there in any case.
    type Base: DeserializeOwned;

    /// Takes the groups that `base` asks for out of `rest`.
    ///
    /// # Errors
    /// Those of the groups.
    fn complete<'de, A: SeqAccess<'de>>(base: Self::Base, rest: &mut A) -> Result<Self, A::Error>;
}

/// The part of a union that its tag decides.
pub trait FlatUnion: Sized {
    /// The enum of the tag's values.
    type Tag: DeserializeOwned + QapiType;
    /// The tag's name on the wire.
    const TAG: &'static str;

    /// Describes the branches.
    fn branches(types: &mut Types) -> Vec<Branch>;

    /// Takes the branch's group out of `rest`.
    ///
    /// # Errors
    /// Those of the group.
    fn choose<'de, A: SeqAccess<'de>>(tag: Self::Tag, rest: &mut A) -> Result<Self, A::Error>;
}

/// What a union's `Deserialize` does.
///
/// # Errors
/// Those of the base and the branch.
pub fn deserialize<'de, T: Flat, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_struct(FLAT, &[], FlatVisitor(PhantomData))
}

/// The next group of members.
///
/// # Errors
/// Those of the group.
pub fn next_group<'de, T: DeserializeOwned, A: SeqAccess<'de>>(groups: &mut A) -> Result<T, A::Error> {
    groups.next_element()?.ok_or_else(|| A::Error::custom("a union needs an object"))
}

struct FlatVisitor<T>(PhantomData<T>);

impl<'de, T: Flat> Visitor<'de> for FlatVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("object")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut groups: A) -> Result<T, A::Error> {
        let base = next_group(&mut groups)?;
        T::complete(base, &mut groups)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry::<String, Value>()? {
            members.push(member);
        }
        let object: Object = members.into_iter().collect();
        decode::<Whole<T>>(Some(object)).map(|whole| whole.0).map_err(A::Error::custom)
    }
}

/// A union by the name of its trait, since `Flat` alone does not promise `Deserialize`.
struct Whole<T>(T);

impl<'de, T: Flat> serde::Deserialize<'de> for Whole<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserialize(deserializer).map(Self)
    }
}
