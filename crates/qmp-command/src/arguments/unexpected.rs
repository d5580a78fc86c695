//! Which of several unexpected members QEMU names.
//!
//! While it decodes an object, QEMU keeps the names that were not asked for yet in a GLib hash table: all are put in
//! first, in the object's own order, then each member that is asked for is taken out, and what comes first in the
//! table's order at the end is named. The table is rebuilt here: string hash, probing, growing and shrinking decide
//! that order, all of them found equal in hundreds of random calls of a running QEMU 7.2. Runs for failing calls only.

use qmp_protocol::Object;

/// Above this number of members the first one in the object's own order is named. A client can choose names with equal
/// hashes, which would make the table quadratic.
const EXACT_UP_TO: usize = 1024;

/// The largest primes below 2^3, 2^4, ..., which GLib takes the hash modulo of.
const PRIMES: [u32; 10] = [7, 13, 31, 61, 127, 251, 509, 1021, 2039, 4093];
const SMALLEST: usize = 8;

/// The member that is named, or `None` if `asked` covers them all. `asked` is in the order of asking.
pub(crate) fn first_unexpected(object: &Object, asked: impl Iterator<Item = &'static str>) -> Option<&str> {
    let mut names = object.iter_qdict().map(|(name, _)| name);
    if object.len() > EXACT_UP_TO {
        let asked: std::collections::HashSet<_> = asked.collect();
        return names.find(|name| !asked.contains(name));
    }
    let mut table = Table::new();
    for name in names {
        table.insert(name);
    }
    for name in asked {
        table.remove(name);
    }
    table.first()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Slot<'a> {
    Free,
    Removed,
    Name { name: &'a str, hash: u32 },
}

#[derive(Debug)]
struct Table<'a> {
    slots: Vec<Slot<'a>>,
    /// Names in the table.
    live: usize,
    /// The same, and the slots of removed ones.
    used: usize,
}

impl<'a> Table<'a> {
    fn new() -> Self {
        Self { slots: vec![Slot::Free; SMALLEST], live: 0, used: 0 }
    }

    fn first(&self) -> Option<&'a str> {
        self.slots.iter().find_map(|slot| match slot {
            Slot::Name { name, .. } => Some(*name),
            Slot::Free | Slot::Removed => None,
        })
    }

    /// The name must not be in the table. Nothing is inserted after a removal, so no removed slot is reused.
    fn insert(&mut self, name: &'a str) {
        let hash = hash(name);
        let free = probe(hash, self.slots.len()).find(|&index| self.slots[index] == Slot::Free);
        if let Some(index) = free {
            self.slots[index] = Slot::Name { name, hash };
            self.live += 1;
            self.used += 1;
            self.resize_if_due();
        }
    }

    fn remove(&mut self, name: &str) {
        for index in probe(hash(name), self.slots.len()) {
            match self.slots[index] {
                Slot::Name { name: found, .. } if found == name => {
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
        self.slots.resize(old.max(size), Slot::Free);
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
fn hash(name: &str) -> u32 {
    let add = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add_signed(i32::from(byte.cast_signed()));
    let hash = name.bytes().fold(5381, |hash, byte| match byte {
        0 => add(add(hash, 0xC0), 0x80),
        byte => add(hash, byte),
    });
    // 0 and 1 mark slots without a name.
    hash.max(2)
}

#[cfg(test)]
mod tests {
    use qmp_protocol::Value;

    use super::*;

    /// The members of QEMU's file-backed memory objects, in the order in which it asks for them.
    const DECLARED: [&str; 12] = [
        "qom-type",
        "id",
        "dump",
        "merge",
        "prealloc",
        "share",
        "size",
        "align",
        "discard-data",
        "mem-path",
        "pmem",
        "readonly",
    ];

    fn object<'a>(names: impl IntoIterator<Item = &'a str>) -> Object {
        names.into_iter().map(|name| (name, Value::Null)).collect()
    }

    /// Names sent to QEMU 7.2 in `object-add`, and the one it complained of. In each, the table has grown, and shrunk
    /// again by the time of the complaint.
    #[test]
    fn recorded_complaints() {
        for (named, sent) in [
            ("acfc", "qom-type chhb dump id acfc share size prealloc pmem mem-path discard-data merge"),
            ("ac", "align prealloc gafg ac dump discard-data readonly size merge id share mem-path qom-type"),
            ("gh", "id dump qom-type align h discard-data merge prealloc gh readonly mem-path size share"),
            ("hh", "id f pmem qom-type discard-data align mem-path hh hfda readonly size"),
            (
                "bgh",
                "readonly mem-path eed agg bde bgh fgfh align discard-data g dump qom-type pmem hdc size id prealloc",
            ),
            (
                "dad",
                "pmem share size dad dbe prealloc hdfc qom-type c align merge mem-path ee readonly id dump",
            ),
            ("e", "id merge readonly qom-type mem-path share size hcgh align prealloc e"),
            (
                "ah",
                "id pmem readonly qom-type ah discard-data g e dump ecb mem-path share a align size merge ahc",
            ),
            (
                "b",
                "merge qom-type share ccge mem-path prealloc hcaf gd readonly dump egah b id size fahd discard-data f",
            ),
            ("d", "merge mem-path align id prealloc pmem d cbaa f size dump share qom-type"),
            (
                "fa",
                "f size pmem prealloc dump cfce readonly discard-data id fa share align mem-path qom-type",
            ),
            (
                "a",
                "dump readonly qom-type e \u{fc} mem-path a align size share prealloc \u{e9}t id pmem a\0b discard-data merge",
            ),
        ] {
            let object = object(sent.split(' '));
            assert_eq!(first_unexpected(&object, DECLARED.into_iter()), Some(named), "{sent}");
        }
        assert_eq!(first_unexpected(&object(["foo", "bar"]), [].into_iter()), Some("bar"));
        assert_eq!(first_unexpected(&object(["aa", "bb", "cc", "dd"]), [].into_iter()), Some("aa"));
        assert_eq!(first_unexpected(&object(["id"]), DECLARED.into_iter()), None);
    }

    #[test]
    fn a_flood_of_members_costs_little() {
        let names: Vec<_> = (0..50_000).map(|n| format!("n{n}")).collect();
        let object = object(names.iter().map(String::as_str).chain(["id"]));
        assert!(first_unexpected(&object, ["id"].into_iter()).is_some());
    }

    #[test]
    fn no_name_is_lost_on_the_way() {
        let names: Vec<_> = (0..EXACT_UP_TO).map(|n| format!("n{n}")).collect();
        let mut table = Table::new();
        for name in &names {
            table.insert(name);
        }
        for (count, name) in names.iter().enumerate() {
            assert_eq!(table.live, names.len() - count);
            assert_eq!(
                table.slots.iter().filter(|slot| matches!(slot, Slot::Name { .. })).count(),
                table.live
            );
            table.remove(name);
        }
        assert_eq!(table.first(), None);
    }
}
