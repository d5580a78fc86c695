//! The two hash orders that a QMP client can see.
//!
//! QEMU keeps JSON objects in a fixed table of 512 buckets and prints them bucket by bucket; it keeps some sets of
//! names (declared parameters, children of an object) in GLib's hash table and walks that one. Both orders are stable
//! from run to run, so they are part of what a client observes: the member order of an echoed `id`, which of two
//! unexpected members is reported, the order of `query-iothreads`. Both were rebuilt from what a running QEMU 7.2
//! answers and are held to recorded answers by the tests.

mod glib;

pub use glib::NameTable;

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
}
