//! The two hash orders that a QMP client can see.
//!
//! QEMU keeps JSON objects in a fixed table of 512 buckets and prints them bucket by bucket; it keeps some sets of
//! names (declared parameters, children of an object) in GLib's hash table and walks that one. Both orders are stable
//! from run to run, so they are part of what a client observes: the member order of an echoed `id`, which of two
//! unexpected members is reported, the order of `query-iothreads`. Both were rebuilt from what a running QEMU 7.2
//! answers and are held to recorded answers by the tests.

/// Number of buckets of the table that QEMU keeps an object in.
const QDICT_BUCKETS: u32 = 512;

/// The bucket, 0 to 511, in which QEMU keeps the member `key`.
///
/// Members are printed by ascending bucket; within one bucket the one inserted last comes first. `key` is in QEMU's
/// own encoding: UTF-8, with U+0000 as the two bytes `C0 80`.
pub fn qdict_bucket(key: &[u8]) -> u32 {
    bucket(key.len(), key.iter().copied())
}

/// [`qdict_bucket`] of a Rust string, whose U+0000 is one byte and not two.
pub(crate) fn qdict_bucket_of(key: &str) -> u32 {
    match key.bytes().filter(|&byte| byte == 0).count() {
        0 => qdict_bucket(key.as_bytes()),
        nuls => bucket(key.len() + nuls, encoded(key)),
    }
}

/// The bytes of `key` in QEMU's encoding.
fn encoded(key: &str) -> impl Iterator<Item = u8> {
    key.bytes()
        .flat_map(|byte| if byte == 0 { [Some(0xC0), Some(0x80)] } else { [Some(byte), None] })
        .flatten()
}

fn bucket(len: usize, bytes: impl Iterator<Item = u8>) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "the hash is defined modulo 2^32")]
    let mut sum = 0x238F_13AF_u32.wrapping_mul(len as u32);
    let mut shift = 0;
    for byte in bytes {
        sum = sum.wrapping_add(u32::from(byte) << shift);
        shift = (shift + 5) % 24;
    }
    sum.wrapping_mul(1_103_515_243).wrapping_add(12345) % QDICT_BUCKETS
}

/// The modulus that GLib pairs with a table of `2^n` slots: `PRIMES[n]` is the greatest prime not above it.
const PRIMES: [u32; 32] = [
    1,
    2,
    3,
    7,
    13,
    31,
    61,
    127,
    251,
    509,
    1021,
    2039,
    4093,
    8191,
    16381,
    32749,
    65521,
    131_071,
    262_139,
    524_287,
    1_048_573,
    2_097_143,
    4_194_301,
    8_388_593,
    16_777_213,
    33_554_393,
    67_108_859,
    134_217_689,
    268_435_399,
    536_870_909,
    1_073_741_789,
    2_147_483_647,
];

/// The smallest table, `2^3` slots.
const MIN_SHIFT: usize = 3;

/// The order in which GLib's hash table walks `keys` when they were inserted in the order given.
///
/// Keys are taken to be distinct.
///
/// ```
/// assert_eq!(qmp_protocol::order::glib_order(&["foo", "bar"]), ["bar", "foo"]);
/// ```
pub fn glib_order<'a>(keys: &[&'a str]) -> Vec<&'a str> {
    let mut table = GlibTable::with_shift(MIN_SHIFT);
    for key in keys {
        table.put((string_hash(key), key));
        let size = table.slots.len();
        if size <= table.used + table.used / 16 {
            table = table.grown();
        }
    }
    table.slots.into_iter().flatten().map(|(_, key)| key).collect()
}

/// An open-addressing table with GLib's slot choice: only its walking order matters here.
struct GlibTable<'a> {
    slots: Vec<Option<(u32, &'a str)>>,
    modulus: u32,
    used: usize,
}

impl<'a> GlibTable<'a> {
    fn with_shift(shift: usize) -> Self {
        let shift = shift.min(PRIMES.len() - 1);
        Self { slots: vec![None; 1 << shift], modulus: PRIMES[shift], used: 0 }
    }

    fn put(&mut self, entry: (u32, &'a str)) {
        let mask = self.slots.len() - 1;
        let mut slot = (entry.0.wrapping_mul(11) % self.modulus) as usize;
        let mut step = 0;
        while self.slots[slot].is_some() {
            step += 1;
            slot = (slot + step) & mask;
        }
        self.slots[slot] = Some(entry);
        self.used += 1;
    }

    /// A table for a third more keys than there are, filled in the walking order of this one.
    fn grown(self) -> Self {
        let wanted = self.used * 1333 / 1000;
        let shift = (usize::BITS - wanted.leading_zeros()) as usize;
        let mut larger = Self::with_shift(shift.max(MIN_SHIFT));
        for entry in self.slots.into_iter().flatten() {
            larger.put(entry);
        }
        larger
    }
}

/// GLib's string hash (djb2 over signed bytes). The values 0 and 1 mark free slots there and are moved to 2.
fn string_hash(key: &str) -> u32 {
    let add = |hash: u32, byte: u8| hash.wrapping_mul(33).wrapping_add_signed(i32::from(byte.cast_signed()));
    encoded(key).fold(5381, add).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys in the order in which QEMU prints an object with them.
    fn printed<'a>(keys: &[&'a str]) -> Vec<&'a str> {
        let mut sorted: Vec<_> = keys
            .iter()
            .enumerate()
            .map(|(at, key)| (qdict_bucket_of(key), std::cmp::Reverse(at), *key))
            .collect();
        sorted.sort();
        sorted.into_iter().map(|(_, _, key)| key).collect()
    }

    #[test]
    fn objects_print_in_the_recorded_orders() {
        for recorded in [
            &["return", "id"][..],
            &["id", "error"],
            &["class", "desc"],
            &["timestamp", "event", "data"],
            &["seconds", "microseconds"],
            &["version", "capabilities"],
            &["qemu", "package"],
            &["micro", "minor", "major"],
            &["fd", "opaque"],
            &["fds", "fdset-id"],
            &["name", "help", "default", "type"],
            &["status", "singlestep", "running"],
            &["poll-shrink", "thread-id", "aio-max-batch", "poll-grow", "poll-max-ns", "id"],
            &["a", "execute", "z", "return", "id", "m"],
        ] {
            // "minor" and "micro" share a bucket, where the newest comes first.
            let sent: Vec<&str> = recorded.iter().rev().copied().collect();
            assert_eq!(printed(&sent), recorded);
        }
    }

    #[test]
    fn a_nul_hashes_as_its_two_byte_form() {
        assert_eq!(qdict_bucket_of("a\0b"), qdict_bucket(b"a\xC0\x80b"));
    }

    #[test]
    fn glib_tables_walk_in_the_recorded_orders() {
        assert_eq!(glib_order(&["foo", "bar"]), ["bar", "foo"]);
        assert_eq!(glib_order(&["aa", "bb", "cc", "dd"])[0], "aa");
        assert_eq!(glib_order(&["𝄞\0", "/"]), ["𝄞\0", "/"]);
        assert_eq!(glib_order(&["/", "x-😀"]), ["x-😀", "/"]);
        assert_eq!(glib_order(&[]), [""; 0]);
    }

    #[test]
    fn a_growing_table_keeps_every_key() {
        let names: Vec<String> = (0..1000).map(|n| format!("name-{n}")).collect();
        let keys: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut walked = glib_order(&keys);
        walked.sort_unstable();
        let mut expected = keys.clone();
        expected.sort_unstable();
        assert_eq!(walked, expected);
    }
}
