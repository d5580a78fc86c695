//! The fuzz target's function, on scripts of chance.

use proptest::prelude::*;
use vfio_user_server::protocol::fuzzing::check;

/// Most bytes that stand for what makes no sense stand for something else.
fn sensible(script: &mut [u8]) {
    for (at, byte) in script.iter_mut().enumerate() {
        if *byte >= 240 && !at.is_multiple_of(4) {
            *byte -= 100;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn no_script_breaks_a_promise(script in prop::collection::vec(any::<u8>(), 0..1500)) {
        check(&script);
    }

    #[test]
    fn nor_one_that_mostly_makes_sense(
        start in 0..4_u8,
        version in prop_oneof![Just(2), Just(5)],
        mut script in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        sensible(&mut script);
        check(&[&[start, version, 0][..], &script].concat());
    }
}
