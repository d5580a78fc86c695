//! A JSON object: unique keys, in insertion order.
//!
//! Members lie in one vector, so an object of a few members costs one allocation. From [`INDEXED_FROM`] members on
//! an index of their places is kept beside it, keyed with a random seed, so that neither a million keys nor keys
//! chosen to collide make looking one up slow.

use std::cmp::Reverse;
use std::fmt;
use std::hash::{BuildHasher, RandomState};

use super::Value;
use super::heap::allocation;
use crate::order::qdict_bucket_of;

/// Below this many members a scan beats a hash.
const INDEXED_FROM: usize = 16;

/// A JSON object. Keys are unique; members stay in the order in which their keys were first inserted.
///
/// Two objects are equal when they have the same members, in any order.
///
/// ```
/// use qmp_protocol::Object;
///
/// let mut arguments = Object::new();
/// assert_eq!(arguments.insert("fdname".to_owned(), "disk".into()), None);
/// assert_eq!(arguments.get("fdname").and_then(|name| name.as_str()), Some("disk"));
/// ```
#[derive(Clone, Default)]
pub struct Object {
    pub(super) members: Vec<(String, Value)>,
    /// Present exactly when there are at least [`INDEXED_FROM`] members, but for a while after removals.
    index: Option<Box<Index>>,
}

impl Object {
    /// An empty object; holds no memory.
    pub const fn new() -> Self {
        Self { members: Vec::new(), index: None }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// True without members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The value of member `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.place(key).map(|place| &self.members[place].1)
    }

    /// The value of member `key`, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.place(key).map(|place| &mut self.members[place].1)
    }

    /// True if there is a member `key`.
    pub fn contains_key(&self, key: &str) -> bool {
        self.place(key).is_some()
    }

    /// Adds a member, or replaces the value of the one with that key, in its old place, and returns the old value.
    pub fn insert(&mut self, key: String, value: Value) -> Option<Value> {
        match self.place(&key) {
            Some(place) => Some(std::mem::replace(&mut self.members[place].1, value)),
            None => {
                self.push(key, value);
                None
            }
        }
    }

    /// Adds a member unless the key is taken; says whether it did.
    pub(crate) fn insert_new(&mut self, key: String, value: Value) -> bool {
        let vacant = self.place(&key).is_none();
        if vacant {
            self.push(key, value);
        }
        vacant
    }

    /// Takes a member out; the others keep their order. Takes time proportional to the number of members.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let place = self.place(key)?;
        let (_, value) = self.members.remove(place);
        if self.index.is_some() {
            self.index = Some(Box::new(Index::of(&self.members)));
        }
        Some(value)
    }

    /// The members in insertion order.
    pub fn iter(&self) -> Iter<'_> {
        Iter { members: self.members.iter() }
    }

    /// The members in the order in which QEMU visits and prints them, see [`crate::order`].
    pub fn iter_qdict(&self) -> impl Iterator<Item = (&str, &Value)> {
        let mut places: Vec<(u32, Reverse<usize>)> = Vec::new();
        if self.members.len() > 1 {
            places.extend(
                self.members.iter().enumerate().map(|(at, (key, _))| (qdict_bucket_of(key), Reverse(at))),
            );
            places.sort_unstable();
        } else {
            places.extend(self.members.first().map(|_| (0, Reverse(0))));
        }
        places.into_iter().map(|(_, Reverse(at))| {
            let (key, value) = &self.members[at];
            (key.as_str(), value)
        })
    }

    /// Heap memory of the list of members and of its index, without what is in the members.
    pub(super) fn own_heap_bytes(&self) -> usize {
        let index = self.index.as_ref().map_or(0, |index| {
            allocation(size_of::<Index>()) + allocation(index.slots.capacity() * size_of::<usize>())
        });
        allocation(self.members.capacity() * size_of::<(String, Value)>()) + index
    }

    fn place(&self, key: &str) -> Option<usize> {
        match &self.index {
            Some(index) => index.place(key, &self.members),
            None => self.members.iter().position(|(present, _)| present == key),
        }
    }

    /// Appends a member whose key is known to be new.
    fn push(&mut self, key: String, value: Value) {
        if self.members.is_empty() {
            // A vector's own first step is four members of 56 bytes; most objects have one or two.
            self.members.reserve_exact(2);
        }
        if let Some(index) = &mut self.index {
            index.add(&key, &self.members);
        }
        self.members.push((key, value));
        if self.index.is_none() && self.members.len() >= INDEXED_FROM {
            self.index = Some(Box::new(Index::of(&self.members)));
        }
    }
}

impl fmt::Debug for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().all(|(key, value)| other.get(key) == Some(value))
    }
}

/// Where each key's member stands: an open-addressing table, at most half full.
#[derive(Clone)]
struct Index {
    hasher: RandomState,
    /// A power of two of places, or [`FREE`].
    slots: Vec<usize>,
}

const FREE: usize = usize::MAX;

impl Index {
    fn of(members: &[(String, Value)]) -> Self {
        Self::with_room(RandomState::new(), members)
    }

    /// An index of `members` with room for as many again.
    fn with_room(hasher: RandomState, members: &[(String, Value)]) -> Self {
        let slots = vec![FREE; (members.len().max(INDEXED_FROM) * 4).next_power_of_two()];
        let mut index = Self { hasher, slots };
        for (place, (key, _)) in members.iter().enumerate() {
            index.set(key, place);
        }
        index
    }

    fn place(&self, key: &str, members: &[(String, Value)]) -> Option<usize> {
        self.probe(key)
            .map(|slot| self.slots[slot])
            .take_while(|&place| place != FREE)
            .find(|&place| members[place].0 == key)
    }

    /// Notes that `key` is about to become the last of `members`.
    fn add(&mut self, key: &str, members: &[(String, Value)]) {
        if (members.len() + 1) * 2 > self.slots.len() {
            *self = Self::with_room(self.hasher.clone(), members);
        }
        self.set(key, members.len());
    }

    fn set(&mut self, key: &str, place: usize) {
        let free = self.probe(key).find(|&slot| self.slots[slot] == FREE);
        if let Some(slot) = free {
            self.slots[slot] = place;
        }
    }

    /// Every slot, beginning with the one that `key` hashes to.
    fn probe(&self, key: &str) -> impl Iterator<Item = usize> + use<> {
        let mask = self.slots.len() - 1;
        #[expect(clippy::cast_possible_truncation, reason = "any bits of a hash will do")]
        let first = self.hasher.hash_one(key) as usize;
        (0..=mask).map(move |step| first.wrapping_add(step) & mask)
    }
}

/// The members of an [`Object`] in insertion order.
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    members: std::slice::Iter<'a, (String, Value)>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = (&'a str, &'a Value);

    fn next(&mut self) -> Option<Self::Item> {
        self.members.next().map(|(key, value)| (key.as_str(), value))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.members.size_hint()
    }
}

impl ExactSizeIterator for Iter<'_> {}

impl<'a> IntoIterator for &'a Object {
    type Item = (&'a str, &'a Value);
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

impl IntoIterator for Object {
    type Item = (String, Value);
    type IntoIter = std::vec::IntoIter<(String, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.members.into_iter()
    }
}

impl<K: Into<String>, V: Into<Value>> FromIterator<(K, V)> for Object {
    /// Inserts one after the other: of two members with one key the later value stays, in the earlier place.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(members: I) -> Self {
        let mut object = Self::new();
        object.extend(members);
        object
    }
}

impl<K: Into<String>, V: Into<Value>> Extend<(K, V)> for Object {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, members: I) {
        for (key, value) in members {
            self.insert(key.into(), value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(count: i64) -> Object {
        (0..count).map(|n| (format!("k{n}"), n)).collect()
    }

    #[test]
    fn members_are_found_with_and_without_an_index() {
        for count in [0, 1, 15, 16, 17, 1000] {
            let object = numbered(count);
            for n in 0..count {
                assert_eq!(object.get(&format!("k{n}")), Some(&Value::from(n)));
            }
            assert!(!object.contains_key("absent"));
            let kept: Vec<String> = object.iter().map(|(key, _)| key.to_owned()).collect();
            assert_eq!(kept, (0..count).map(|n| format!("k{n}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn replacing_keeps_the_place_and_removing_keeps_the_order() {
        for count in [4, 40] {
            let mut object = numbered(count);
            assert_eq!(object.insert("k1".to_owned(), Value::Null), Some(Value::from(1_i64)));
            assert_eq!(object.iter().nth(1), Some(("k1", &Value::Null)));
            assert_eq!(object.remove("k0"), Some(Value::from(0_i64)));
            assert_eq!(object.remove("k0"), None);
            assert_eq!(object.iter().next(), Some(("k1", &Value::Null)));
            for n in 2..count {
                assert_eq!(object.get(&format!("k{n}")), Some(&Value::from(n)));
            }
        }
    }

    #[test]
    fn equality_ignores_order() {
        let forward = numbered(20);
        let backward: Object = (0..20_i64).rev().map(|n| (format!("k{n}"), n)).collect();
        assert_eq!(forward, backward);
        assert_ne!(forward, numbered(21));
    }

    #[test]
    fn the_wire_order_is_by_bucket_and_newest_first_within_one() {
        let object: Object = [("z", 1_i64), ("a", 2), ("m", 3), ("id", 4), ("return", 5), ("execute", 6)]
            .into_iter()
            .collect();
        let keys: Vec<&str> = object.iter_qdict().map(|(key, _)| key).collect();
        assert_eq!(keys, ["a", "execute", "z", "return", "id", "m"]);
    }

    #[test]
    fn a_million_keys_are_not_quadratic() {
        let object = numbered(1_000_000);
        assert_eq!(object.get("k999999"), Some(&Value::from(999_999_i64)));
    }
}
