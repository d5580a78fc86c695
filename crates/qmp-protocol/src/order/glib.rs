//! GLib's hash table with string keys, as far as its order shows.

use super::encoded;

/// The largest primes below 2^3, 2^4, ..., which GLib takes the hash modulo of.
const PRIMES: [u32; 10] = [7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093];

/// Slots of the smallest table.
const SMALLEST: usize = 8;

#[derive(Clone, Debug, PartialEq)]
enum Slot<S> {
    Free,
    Removed,
    Name { name: S, hash: u32 },
}

/// A set of names, kept as GLib's hash table keeps them, so that it can be walked in the same order.
///
/// String hash, probing, growing and shrinking decide that order; all of them were found equal to what hundreds of
/// random calls of a running QEMU 7.2 showed. A client can choose names with equal hashes, which makes a table of them
/// quadratic: keep it to some thousand names.
///
/// ```
/// use qmp_protocol::order::NameTable;
///
/// let mut table = NameTable::new();
/// table.insert("foo");
/// table.insert("bar");
/// assert_eq!(table.iter().collect::<Vec<_>>(), [&"bar", &"foo"]);
/// table.remove("bar");
/// assert_eq!(table.iter().next(), Some(&"foo"));
/// ```
#[derive(Clone, Debug)]
pub struct NameTable<S> {
    slots: Vec<Slot<S>>,
    /// Names in the table.
    live: usize,
    /// The same, and the slots of removed ones.
    used: usize,
}

impl<S: AsRef<str>> Default for NameTable<S> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: AsRef<str>> NameTable<S> {
    /// An empty table.
    pub fn new() -> Self {
        Self { slots: (0..SMALLEST).map(|_| Slot::Free).collect(), live: 0, used: 0 }
    }

    /// The names in the table's order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &S> {
        self.slots.iter().filter_map(|slot| match slot {
            Slot::Name { name, .. } => Some(name),
            Slot::Free | Slot::Removed => None,
        })
    }

    /// Names in the table.
    pub fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Adds a name; says whether it was new.
    pub fn insert(&mut self, name: S) -> bool {
        let hash = string_hash(name.as_ref());
        let mut place = None;
        for index in probe(hash, self.slots.len()) {
            match &self.slots[index] {
                Slot::Name { name: found, .. } if found.as_ref() == name.as_ref() => return false,
                Slot::Name { .. } => {}
                // The first removed one is taken, if the name is not found behind it.
                Slot::Removed => place = place.or(Some(index)),
                Slot::Free => {
                    place = place.or(Some(index));
                    break;
                }
            }
        }
        // A table is never full: it grows before.
        let Some(index) = place else { return false };
        self.used += usize::from(matches!(self.slots[index], Slot::Free));
        self.slots[index] = Slot::Name { name, hash };
        self.live += 1;
        self.resize_if_due();
        true
    }

    /// Takes a name out; nothing happens when it is not there.
    pub fn remove(&mut self, name: &str) {
        for index in probe(string_hash(name), self.slots.len()) {
            match &self.slots[index] {
                Slot::Name { name: found, .. } if found.as_ref() == name => {
                    self.slots[index] = Slot::Removed;
                    self.live -= 1;
                    self.resize_if_due();
                    return;
                }
                Slot::Free => return,
                Slot::Name { .. } | Slot::Removed => {}
            }
        }
    }

    fn resize_if_due(&mut self) {
        let size = self.slots.len();
        let sparse = size > self.live * 4 && size > SMALLEST;
        let full = size <= self.used + self.used / 16;
        if sparse || full {
            // The smallest power of two above 1.333 times the number of names.
            self.resize((self.live * 1333 / 1000 + 1).next_power_of_two().max(SMALLEST));
        }
    }

    /// Moves every name to its place for the new size, within one array: a name that is in the way of a moved one is
    /// moved next. Names that collide end up in another order than by plain insertion.
    fn resize(&mut self, size: usize) {
        let old = self.slots.len();
        self.slots.resize_with(old.max(size), || Slot::Free);
        let mut moved = vec![false; self.slots.len()];
        for index in 0..old {
            if moved[index] {
                continue;
            }
            let mut next = std::mem::replace(&mut self.slots[index], Slot::Free);
            while let Slot::Name { hash, .. } = next {
                let Some(place) = probe(hash, size).find(|&place| !moved[place]) else { break };
                moved[place] = true;
                next = std::mem::replace(&mut self.slots[place], next);
            }
        }
        self.slots.truncate(size);
        self.used = self.live;
    }
}

/// The slots to look at, in order: steps of 1, 2, 3, ... from the hash's own. Ends when it has been everywhere.
fn probe(hash: u32, size: usize) -> impl Iterator<Item = usize> {
    let power = (size / SMALLEST).trailing_zeros() as usize;
    let prime = PRIMES.get(power).copied().unwrap_or(PRIMES[PRIMES.len() - 1]);
    let start = (hash.wrapping_mul(11) % prime) as usize;
    (0..size).scan(start, move |index, step| {
        *index = (*index + step) % size;
        Some(*index)
    })
}

/// GLib's hash of a C string: its bytes are signed. U+0000 stands in it as QEMU keeps it, in two bytes.
fn string_hash(name: &str) -> u32 {
    let add = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add_signed(i32::from(byte.cast_signed()));
    // 0 and 1 mark slots without a name.
    encoded(name).fold(5381, add).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk<'a>(names: &[&'a str]) -> Vec<&'a str> {
        let mut table = NameTable::new();
        names.iter().for_each(|name| assert!(table.insert(*name)));
        table.iter().copied().collect()
    }

    #[test]
    fn tables_walk_in_the_recorded_orders() {
        assert_eq!(walk(&["foo", "bar"]), ["bar", "foo"]);
        assert_eq!(walk(&["aa", "bb", "cc", "dd"])[0], "aa");
        assert_eq!(walk(&["𝄞\0", "/"]), ["𝄞\0", "/"]);
        assert_eq!(walk(&["/", "x-😀"]), ["x-😀", "/"]);
        assert!(walk(&[]).is_empty());
    }

    #[test]
    fn no_name_is_lost_on_the_way() {
        let names: Vec<_> = (0..1024).map(|n| format!("n{n}")).collect();
        let mut table = NameTable::new();
        for name in &names {
            assert!(table.insert(name.as_str()));
            assert!(!table.insert(name.as_str()));
        }
        for (count, name) in names.iter().enumerate() {
            assert_eq!(table.len(), names.len() - count);
            assert_eq!(table.iter().count(), table.len());
            table.remove(name);
        }
        assert!(table.is_empty());
        assert!(table.insert("again"));
        assert_eq!(table.iter().collect::<Vec<_>>(), [&"again"]);
    }
}
