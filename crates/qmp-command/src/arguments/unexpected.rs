//! Which of several unexpected members QEMU names.
//!
//! While it decodes an object, QEMU keeps the names that were not asked for yet in a GLib hash table: all are put in
//! first, in the object's own order, then each member that is asked for is taken out, and what comes first in the
//! table's order at the end is named. Runs for failing calls only.

use qmp_protocol::Object;
use qmp_protocol::order::NameTable;

/// Above this number of members the first one in the object's own order is named. A client can choose names with equal
/// hashes, which would make the table quadratic.
const EXACT_UP_TO: usize = 1024;

/// The member that is named, or `None` if `asked` covers them all. `asked` is in the order of asking.
pub fn first_unexpected(object: &Object, asked: impl Iterator<Item = &'static str>) -> Option<&str> {
    let mut names = object.iter_qdict().map(|(name, _)| name);
    if object.len() > EXACT_UP_TO {
        let asked: std::collections::HashSet<_> = asked.collect();
        return names.find(|name| !asked.contains(name));
    }
    let mut table = NameTable::new();
    for name in names {
        table.insert(name);
    }
    for name in asked {
        table.remove(name);
    }
    table.iter().next().copied()
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
}
