//! The fuzz target's function on the stable toolchain: corner cases, then pseudo-random mutations of them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::time::{Duration, Instant};

use qmp_protocol::fuzzing;

/// What past and likely trouble looks like.
const SEEDS: &[&[u8]] = &[
    b"{\"execute\": \"query-name\", \"id\": 1}",
    b"{\"execute\": \"getfd\", \"arguments\": {\"fdname\": \"a\\n\"}, \"id\": \"libvirt-17\"}\r\n",
    b"{'execute':'a','id':{\"z\":[1,-2,3.5,{}],\"\\u00e9\":null}} {\"execute\":\"b\"}",
    b"{\"exec-oob\":\"yank\",\"arguments\":{\"instances\":[]}}{\"exec-oob\":1,\"id\":2}",
    b"{\"execute\":\"a\",\"execute\":\"b\"}[1,]{,}{]}[}]{1:2}{\"a\" 1}",
    b"null true nul nullx 1 2.5 1e5 0e1 01 -01 - 1. 1e +1 .5 -I [NaN] 0x10 1-2 \n",
    b"18446744073709551616 -9223372036854775809 1e400 -0 -0.0 123456789012345678901234567890 ",
    b"'\\u12' '\\ud834' '\\ud834\\udd1e' '\\udd1e' '\\ufffe' '\\x' '\\'' \"\\u0000\" '\\u' ",
    b"'\xC3\xA9' '\xC3' '\xC0\x80' '\xED\xA0\x80' '\xEF\xBF\xBE' '\xF8\x88\x80\x80\x80' '\xF4\x90\x80\x80' '\x80' ",
    b"\xFF{\xFE[12\xFF'bad \xFF\0\x01\x0C\x0B\xEF\xBB\xBF{}",
    b"@@@@{\"execute\":\"r\"};{\"execute\":\"s\"}\t#\n%p\n",
    b"[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]{{{{[[[[",
    b"[0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9,0,1,2,3,4,5,6,7,8,9]\n",
    b"'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx'",
];

/// A small deterministic generator (xorshift); the run is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).unwrap()
    }
}

/// One to four edits: overwrite, insert, delete, splice in a part of another seed.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len() + 1);
        match random.below(4) {
            0 if place < bytes.len() => bytes[place] = random.byte(),
            1 => bytes.insert(place, b"{}[]:,\"'\\ \n0-.etnu\xC3\xFF"[random.below(20)]),
            2 => drop(bytes.drain(place..bytes.len().min(place + 1 + random.below(6)))),
            _ => {
                let other = SEEDS[random.below(SEEDS.len())];
                let (from, len) = (random.below(other.len()), random.below(16));
                let part = &other[from..other.len().min(from + len)];
                bytes.splice(place..place, part.iter().copied());
            }
        }
    }
}

#[test]
fn seeds_and_their_mutants_keep_the_decoders_promises() {
    for seed in SEEDS {
        fuzzing::check(seed);
    }
    let started = Instant::now();
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    for round in 0..4000 {
        let mut bytes = SEEDS[round % SEEDS.len()].to_vec();
        mutate(&mut random, &mut bytes);
        fuzzing::check(&bytes);
        // On a slow or busy machine fewer rounds are enough.
        if started.elapsed() > Duration::from_secs(3) {
            break;
        }
    }
}
