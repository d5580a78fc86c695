//! Hostile scripts to the vfio-user protocol. What must hold is in `vfio_user_server::protocol::fuzzing`, which a test
//! calls as well.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vfio_user_server::protocol::fuzzing::check(data));
