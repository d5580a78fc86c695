//! Properties over generated input: how it is cut, and which path takes it, changes nothing.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use qmp_protocol::{Format, Value, encode_value, fuzzing};

/// The spelling of some JSON value, mostly plain.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        any::<i64>().prop_map(|number| number.to_string()),
        any::<f64>()
            .prop_filter("finite", |number| number.is_finite())
            .prop_map(|number| format!("{number:e}")),
        select(vec!["null", "true", "false", "0", "-0", "1.5", "1e400", "18446744073709551615"])
            .prop_map(str::to_owned),
        string(),
    ];
    scalar.prop_recursive(6, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(|values| format!("[{}]", values.join(", "))),
            vec((string(), inner), 0..6).prop_map(|members| {
                let members: Vec<String> =
                    members.into_iter().map(|(key, value)| format!("{key}: {value}")).collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

/// The spelling of some string, escapes included.
fn string() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "a",
        "b",
        "id",
        " ",
        "\\n",
        "\\\"",
        "\\u00e9",
        "\\ud834\\udd1e",
        "é",
        "😀",
        "\u{7f}",
        "k1",
    ]);
    (select(vec!['"', '\'']), vec(piece, 0..5))
        .prop_map(|(quote, pieces)| format!("{quote}{}{quote}", pieces.concat()))
}

/// The spelling of something close to a command.
fn command() -> impl Strategy<Value = String> {
    let member = prop_oneof![
        4 => Just("\"execute\": \"query-name\"".to_owned()),
        1 => Just("'exec-oob':'yank'".to_owned()),
        3 => json().prop_map(|value| format!("\"id\":{value}")),
        2 => vec((string(), json()), 0..4).prop_map(|members| {
            let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{key}:{value}")).collect();
            format!("\"arguments\": {{{}}}", members.join(", "))
        }),
        1 => (string(), json()).prop_map(|(key, value)| format!("{key}:{value}")),
    ];
    vec(member, 0..4).prop_map(|members| format!("{{{}}}", members.join(", ")))
}

/// Commands one after the other, with some bytes changed.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let separator = select(vec!["", " ", "\n", "\r\n", "@", "]"]);
    let edit = (
        any::<prop::sample::Index>(),
        prop_oneof![any::<u8>(), select(b"{}[]:,\"'\\0-e.n \n\xFF".to_vec())],
        any::<bool>(),
    );
    (vec((command(), separator), 1..4), vec(edit, 0..4)).prop_map(|(parts, edits)| {
        let mut bytes: Vec<u8> =
            parts.into_iter().flat_map(|(text, end)| [text, end.to_owned()].concat().into_bytes()).collect();
        for (place, byte, insert) in edits {
            let place = place.index(bytes.len());
            if insert {
                bytes.insert(place, byte);
            } else {
                bytes[place] = byte;
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cutting_and_the_fast_path_change_nothing(bytes in stream()) {
        fuzzing::check(&bytes);
    }

    #[test]
    fn any_double_survives_the_way_out_and_in(bits in any::<u64>()) {
        let double = f64::from_bits(bits);
        prop_assume!(double.is_finite());
        let mut out = Vec::new();
        encode_value(&mut out, &double.into(), Format::Compact);
        // A whole number without an exponent comes back as an integer of the same value.
        let back = Value::from_json(&out).unwrap().as_f64();
        prop_assert_eq!(back, Some(double));
    }

    #[test]
    fn a_value_survives_the_way_out_and_in(text in json()) {
        let Ok(value) = Value::from_json(text.as_bytes()) else { return Ok(()) };
        prop_assume!(!text.contains("1e400"));
        // A double without a fraction turns into an integer once, and members that share a bucket change places.
        let mut seen = Vec::new();
        for format in [Format::Compact, Format::Pretty] {
            let mut out = Vec::new();
            encode_value(&mut out, &value, format);
            seen.push(Value::from_json(&out).unwrap());
            let mut again = Vec::new();
            encode_value(&mut again, &seen[0], format);
            seen.push(Value::from_json(&again).unwrap());
        }
        prop_assert!(seen.windows(2).all(|pair| pair[0] == pair[1]));
    }
}
