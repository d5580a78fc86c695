//! What holds for all arguments.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use qmp_command::QapiType;
use qmp_command::arguments::{Parts, decode};
use qmp_command::schema::Null;
use qmp_protocol::{Object, Value};
use serde::Deserialize;

#[derive(Debug, Deserialize, QapiType)]
#[expect(dead_code, reason = "decoded, not read")]
struct Everything {
    a: i64,
    b: Option<u64>,
    c: Option<f64>,
    d: Option<bool>,
    e: Option<Vec<u8>>,
    f: Option<Box<Everything>>,
    g: Option<Vec<Everything>>,
    h: Option<Choice>,
    i: Option<Letter>,
    j: Option<Null>,
    k: Option<Value>,
    l: Option<String>,
}

#[derive(Debug, QapiType)]
#[serde(tag = "i", rename_all = "lowercase")]
#[expect(dead_code, reason = "decoded, not read")]
enum Choice {
    A(Box<Everything>),
    B(Pair),
    C,
}

#[derive(Debug, Deserialize, QapiType)]
#[expect(dead_code, reason = "decoded, not read")]
struct Pair {
    a: String,
    b: i32,
}

#[derive(Debug, Deserialize, QapiType)]
#[serde(rename_all = "lowercase")]
enum Letter {
    A,
    B,
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-300_i64..300).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>()
            .prop_filter("NaN is no JSON, and not equal to itself", |n| !n.is_nan())
            .prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 8, |inner| {
        prop_oneof![vec(inner.clone(), 0..4).prop_map(Value::Array), object_of(inner).prop_map(Value::Object)]
    })
}

fn object_of(values: impl Strategy<Value = Value>) -> impl Strategy<Value = Object> {
    btree_map("[a-m]|[a-c]{2}|\\PC{0,3}", values, 0..12).prop_map(|members| members.into_iter().collect())
}

fn text<T>(result: Result<T, qmp_protocol::Error>) -> String {
    result.err().map(|error| error.desc.into_owned()).unwrap_or_default()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn nothing_panics_and_every_complaint_has_words(arguments in object_of(any_value())) {
        for complaint in [
            decode::<Everything>(Some(arguments.clone())).err(),
            decode::<Choice>(Some(arguments.clone())).err(),
            decode::<Pair>(Some(arguments.clone())).err(),
            decode::<Letter>(Some(arguments.clone())).err(),
            decode::<Vec<Letter>>(Some(arguments.clone())).err(),
            decode::<()>(Some(arguments)).err(),
        ] {
            prop_assert!(complaint.is_none_or(|error| !error.desc.is_empty()));
        }
    }

    #[test]
    fn any_comes_through_unchanged(value in any_value()) {
        #[derive(Deserialize)]
        struct Holder {
            value: Value,
        }

        let arguments = Object::from_iter([("value", value.clone())]);
        prop_assert_eq!(decode::<Holder>(Some(arguments)).unwrap().value, value);
    }

    /// Whatever stands in the arguments and in whatever order: first the declared members, one after the other, each
    /// missing or wrong, then one that is not declared.
    #[test]
    fn complaints_come_in_qapis_order(arguments in object_of(any_value())) {
        let string = arguments.get("a");
        let number = arguments.get("b");
        let surplus: Vec<_> = arguments.iter().map(|(name, _)| name).filter(|name| !["a", "b"].contains(name)).collect();
        let said = text(decode::<Pair>(Some(arguments.clone())));
        if string.is_none() {
            prop_assert_eq!(said, "Parameter 'a' is missing");
        } else if string.and_then(Value::as_str).is_none() {
            prop_assert_eq!(said, "Invalid parameter type for 'a', expected: string");
        } else if number.is_none() {
            prop_assert_eq!(said, "Parameter 'b' is missing");
        } else if number.and_then(Value::as_i64).is_none() {
            prop_assert_eq!(said, "Invalid parameter type for 'b', expected: integer");
        } else if number.and_then(Value::as_i64).is_some_and(|number| i32::try_from(number).is_err()) {
            prop_assert_eq!(said, "Parameter 'b' expects int32_t");
        } else if surplus.is_empty() {
            prop_assert_eq!(said, "");
        } else {
            let names = surplus.iter().map(|name| format!("Parameter '{name}' is unexpected")).collect::<Vec<_>>();
            prop_assert!(names.contains(&said), "{said}");
        }
    }
}

/// Whatever the protocol lets through, on the smallest stack that threads usually have: what serde decodes is bounded,
/// and what is taken as it came is not.
#[test]
fn the_deepest_value_fits_the_stack() {
    #[derive(Deserialize)]
    struct Holder {
        value: Value,
    }

    let nested = |levels| (0..levels).fold(Value::Null, |inner, _| Object::from_iter([("k", inner)]).into());
    let on_small_stack = move || {
        for levels in [1, 100, 127, 128, 200, 860, 1022] {
            let arguments = || Object::from_iter([("value", nested(levels))]);
            let decoded = decode::<Holder>(Some(arguments())).map(|holder| holder.value);
            if levels <= 128 {
                assert_eq!(decoded, Ok(nested(levels)));
            } else {
                assert_eq!(decoded.unwrap_err().desc, "Parameter 'value' is nested too deeply");
            }
            let mut parts = Parts::new(arguments());
            assert_eq!(parts.take_any(&["value"]), Ok(nested(levels)));
            assert_eq!(parts.finish(), Ok(()));
        }
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(on_small_stack).unwrap().join().unwrap();
}
