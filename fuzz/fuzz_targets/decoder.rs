//! Hostile bytes to the QMP decoder. What must hold is in `qmp_protocol::fuzzing`, which a test calls as well.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| qmp_protocol::fuzzing::check(data));
