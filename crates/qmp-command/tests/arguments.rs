//! Arguments against structs: every complaint here was made by QEMU 7.2 for the same arguments.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

use qmp_command::arguments::decode;
use qmp_command::schema::Null;
use qmp_protocol::{Number, Object, Value};
use serde::Deserialize;
use serde::de::DeserializeOwned;

fn value(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => value.into(),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) => number.into(),
            (None, None) => number.as_f64().unwrap().into(),
        },
        serde_json::Value::String(text) => text.into(),
        serde_json::Value::Array(values) => Value::Array(values.into_iter().map(value).collect()),
        serde_json::Value::Object(members) => {
            Value::Object(members.into_iter().map(|(name, member)| (name, value(member))).collect())
        }
    }
}

fn arguments(json: &str) -> Option<Object> {
    match value(serde_json::from_str(json).unwrap()) {
        Value::Null => None,
        Value::Object(members) => Some(members),
        other => panic!("{other:?} are no arguments"),
    }
}

fn accepts<T: DeserializeOwned>(json: &str) -> T {
    decode(arguments(json)).unwrap_or_else(|error| panic!("{json}: {error}"))
}

#[track_caller]
fn refuses<T: DeserializeOwned>(json: &str, desc: &str) {
    let error = decode::<T>(arguments(json)).err().unwrap_or_else(|| panic!("{json} was accepted"));
    assert_eq!(error.desc, desc, "{json}");
    assert_eq!(error.class, qmp_protocol::ErrorClass::GenericError);
}

#[derive(Debug, Deserialize)]
struct AddClient {
    protocol: String,
    fdname: String,
    skipauth: Option<bool>,
    tls: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Getfd {
    fdname: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AddFd {
    fdset_id: Option<i64>,
    opaque: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct RemoveFd {
    fdset_id: i64,
    fd: Option<i64>,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "kebab-case")]
enum Capability {
    Oob,
}

#[derive(Debug, Deserialize)]
struct Capabilities {
    enable: Option<Vec<Capability>>,
}

#[test]
fn what_fits_is_decoded() {
    let client: AddClient = accepts(r#"{"tls": true, "fdname": "a", "protocol": "vnc"}"#);
    assert_eq!((client.protocol.as_str(), client.fdname.as_str()), ("vnc", "a"));
    assert_eq!((client.skipauth, client.tls), (None, Some(true)));
    let empty: AddFd = accepts("null");
    assert_eq!((empty.fdset_id, empty.opaque), (None, None));
    assert_eq!(accepts::<Getfd>(r#"{"fdname": "a"}"#).fdname, "a");
    assert_eq!(accepts::<RemoveFd>(r#"{"fd": 1, "fdset-id": 0}"#).fd, Some(1));
    let caps: Capabilities = accepts(r#"{"enable": ["oob", "oob"]}"#);
    assert_eq!(caps.enable, Some(vec![Capability::Oob, Capability::Oob]));
    assert_eq!(accepts::<RemoveFd>(r#"{"fdset-id": -9223372036854775808}"#).fdset_id, i64::MIN);
}

#[test]
fn declared_members_come_first_and_in_order() {
    refuses::<Getfd>("null", "Parameter 'fdname' is missing");
    refuses::<Getfd>(r#"{"FDNAME": "a"}"#, "Parameter 'fdname' is missing");
    refuses::<Getfd>(r#"{"x": 1, "fdname": 2}"#, "Invalid parameter type for 'fdname', expected: string");
    refuses::<Getfd>(r#"{"fdname": "a", "b": 1}"#, "Parameter 'b' is unexpected");
    refuses::<Getfd>(r#"{"fdname": "a", "foo": 1, "bar": 2}"#, "Parameter 'bar' is unexpected");
    refuses::<AddClient>(r#"{"fdname": "a"}"#, "Parameter 'protocol' is missing");
    refuses::<AddClient>(r#"{"protocol": "vnc"}"#, "Parameter 'fdname' is missing");
    refuses::<AddClient>(
        r#"{"protocol": 1, "fdname": 1}"#,
        "Invalid parameter type for 'protocol', expected: string",
    );
    refuses::<AddClient>(
        r#"{"protocol": "vnc", "fdname": 1}"#,
        "Invalid parameter type for 'fdname', expected: string",
    );
    refuses::<RemoveFd>("{}", "Parameter 'fdset-id' is missing");
}

#[test]
fn a_string_is_a_string() {
    for wrong in ["[]", "1", "null", "{}", "true", "1.5"] {
        let json = format!(r#"{{"fdname": {wrong}}}"#);
        refuses::<Getfd>(&json, "Invalid parameter type for 'fdname', expected: string");
    }
}

#[test]
fn null_is_not_absence() {
    refuses::<AddClient>(
        r#"{"protocol": "vnc", "fdname": "a", "skipauth": null}"#,
        "Invalid parameter type for 'skipauth', expected: boolean",
    );
    refuses::<AddFd>(r#"{"fdset-id": null}"#, "Invalid parameter type for 'fdset-id', expected: integer");
    refuses::<Capabilities>(r#"{"enable": null}"#, "Invalid parameter type for 'enable', expected: array");
    refuses::<AddFd>(r#"{"opaque": 1}"#, "Invalid parameter type for 'opaque', expected: string");
}

#[test]
fn an_integer_is_written_as_one() {
    for wrong in ["[1]", "1e0", "1.5", "1.0", "9223372036854775808", "-9223372036854775809", "\"1\"", "true"]
    {
        let json = format!(r#"{{"fdset-id": {wrong}}}"#);
        refuses::<AddFd>(&json, "Invalid parameter type for 'fdset-id', expected: integer");
    }
    refuses::<RemoveFd>(
        r#"{"fdset-id": 0, "fd": 2.0}"#,
        "Invalid parameter type for 'fd', expected: integer",
    );
}

#[test]
fn lists_and_enums() {
    for wrong in ["\"oob\"", "{}", "1"] {
        let json = format!(r#"{{"enable": {wrong}}}"#);
        refuses::<Capabilities>(&json, "Invalid parameter type for 'enable', expected: array");
    }
    refuses::<Capabilities>(
        r#"{"enable": ["oob", {}]}"#,
        "Invalid parameter type for 'enable[1]', expected: string",
    );
    for (list, value) in
        [(r#"["nope"]"#, "nope"), (r#"["OOB"]"#, "OOB"), (r#"[""]"#, ""), (r#"["oob", "x"]"#, "x")]
    {
        let json = format!(r#"{{"enable": {list}}}"#);
        refuses::<Capabilities>(&json, &format!("Parameter 'null' does not accept value '{value}'"));
    }
    refuses::<Capabilities>(r#"{"enable": [], "foo": 1}"#, "Parameter 'foo' is unexpected");
}

#[test]
fn no_arguments_means_none() {
    #[derive(Debug, Deserialize)]
    struct Nothing {}

    #[derive(Debug, Deserialize)]
    struct Wrapper(Nothing);

    let () = accepts("null");
    let () = accepts("{}");
    let Nothing {} = accepts("{}");
    let Wrapper(Nothing {}) = accepts("null");
    refuses::<()>(r#"{"a": 1}"#, "Parameter 'a' is unexpected");
    refuses::<Nothing>(r#"{"a": 1}"#, "Parameter 'a' is unexpected");
    refuses::<Wrapper>(r#"{"foo": 1, "bar": null}"#, "Parameter 'bar' is unexpected");
}

#[derive(Debug, Deserialize, PartialEq)]
struct Widths {
    a: Option<i8>,
    b: Option<i16>,
    c: Option<i32>,
    d: Option<u8>,
    e: Option<u16>,
    f: Option<u32>,
    g: Option<u64>,
    h: Option<f64>,
    n: Option<Null>,
    l: Option<Vec<u16>>,
    nested: Option<Box<Widths>>,
}

#[test]
fn narrow_integers_have_their_range() {
    refuses::<Widths>(r#"{"a": 128}"#, "Parameter 'a' expects int8_t");
    refuses::<Widths>(r#"{"b": -32769}"#, "Parameter 'b' expects int16_t");
    refuses::<Widths>(r#"{"c": 2147483648}"#, "Parameter 'c' expects int32_t");
    refuses::<Widths>(r#"{"d": 256}"#, "Parameter 'd' expects uint8_t");
    refuses::<Widths>(r#"{"e": 65536}"#, "Parameter 'e' expects uint16_t");
    refuses::<Widths>(r#"{"f": 5000000000}"#, "Parameter 'f' expects uint32_t");
    refuses::<Widths>(r#"{"f": -1}"#, "Parameter 'f' expects uint32_t");
    refuses::<Widths>(r#"{"a": "1"}"#, "Invalid parameter type for 'a', expected: integer");
    refuses::<Widths>(r#"{"a": 9223372036854775808}"#, "Invalid parameter type for 'a', expected: integer");
    let edges: Widths =
        accepts(r#"{"a": -128, "b": 32767, "c": -2147483648, "d": 255, "e": 65535, "f": 4294967295}"#);
    assert_eq!((edges.a, edges.b, edges.c), (Some(-128), Some(32767), Some(i32::MIN)));
    assert_eq!((edges.d, edges.e, edges.f), (Some(255), Some(65535), Some(u32::MAX)));
}

#[test]
fn what_is_no_unsigned_integer_is_told_so_with_its_path() {
    for wrong in ["1.0", "\"1048576\"", "null", "{}", "18446744073709551616"] {
        refuses::<Widths>(&format!(r#"{{"g": {wrong}}}"#), "Parameter 'g' expects uint64");
    }
    refuses::<Widths>(r#"{"f": "1"}"#, "Parameter 'f' expects uint64");
    refuses::<Widths>(r#"{"nested": {"f": "1"}}"#, "Parameter 'nested.f' expects uint64");
    refuses::<Widths>(r#"{"l": [1, "a"]}"#, "Parameter 'l[1]' expects uint64");
    // Out of range, there is no path, and an element has no name.
    refuses::<Widths>(r#"{"nested": {"f": -1}}"#, "Parameter 'f' expects uint32_t");
    refuses::<Widths>(r#"{"l": [70000]}"#, "Parameter 'null' expects uint16_t");
}

#[test]
fn a_negative_u64_is_its_twos_complement() {
    assert_eq!(accepts::<Widths>(r#"{"g": -1}"#).g, Some(u64::MAX));
    assert_eq!(accepts::<Widths>(r#"{"g": 18446744073709551615}"#).g, Some(u64::MAX));
}

#[test]
fn a_number_is_any_number() {
    assert_eq!(accepts::<Widths>(r#"{"h": 3}"#).h, Some(3.0));
    assert_eq!(accepts::<Widths>(r#"{"h": 18446744073709551615}"#).h, Some(18_446_744_073_709_551_615.0));
    let infinite = Object::from_iter([("h", Value::Number(Number::F64(f64::INFINITY)))]);
    assert_eq!(decode::<Widths>(Some(infinite)).unwrap().h, Some(f64::INFINITY));
    refuses::<Widths>(r#"{"h": "3"}"#, "Invalid parameter type for 'h', expected: number");
    refuses::<Widths>(r#"{"n": 0}"#, "Invalid parameter type for 'n', expected: null");
    assert_eq!(accepts::<Widths>(r#"{"n": null}"#).n, Some(Null));
}

#[test]
fn a_nested_struct_is_done_before_the_next_member() {
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "decoding fails")]
    struct Outer {
        inner: Getfd,
        last: String,
    }

    refuses::<Outer>(r#"{"inner": {"fdname": "a", "x": 1}, "y": 2}"#, "Parameter 'inner.x' is unexpected");
    refuses::<Outer>(r#"{"inner": {"fdname": "a"}, "y": 2}"#, "Parameter 'last' is missing");
    refuses::<Outer>(r#"{"inner": {}}"#, "Parameter 'inner.fdname' is missing");
    refuses::<Outer>(r#"{"inner": []}"#, "Invalid parameter type for 'inner', expected: object");
    refuses::<Outer>("{}", "Parameter 'inner' is missing");
}

#[test]
fn any_takes_anything_but_nothing() {
    #[derive(Debug, Deserialize)]
    struct QomSet {
        path: String,
        property: String,
        value: Value,
    }

    refuses::<QomSet>(r#"{"path": "/x", "property": "y"}"#, "Parameter 'value' is missing");
    for any in ["null", "1", "1.5", "18446744073709551615", r#"{"a": [{"b": null}], "c": true}"#] {
        let set: QomSet = accepts(&format!(r#"{{"path": "/x", "property": "y", "value": {any}}}"#));
        assert_eq!((set.path.as_str(), set.property.as_str()), ("/x", "y"));
        assert_eq!(set.value, value(serde_json::from_str(any).unwrap()));
    }
}

#[test]
fn a_types_own_errors_are_the_clients() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct FdName(String);

    impl TryFrom<String> for FdName {
        type Error = &'static str;

        fn try_from(name: String) -> Result<Self, Self::Error> {
            if name.starts_with(|first: char| first.is_ascii_digit()) {
                return Err("Parameter 'fdname' expects a name not starting with a digit");
            }
            Ok(Self(name))
        }
    }

    #[derive(Debug, Deserialize)]
    struct Getfd {
        fdname: FdName,
    }

    assert_eq!(accepts::<Getfd>(r#"{"fdname": "a1"}"#).fdname.0, "a1");
    refuses::<Getfd>(r#"{"fdname": "1a"}"#, "Parameter 'fdname' expects a name not starting with a digit");
    refuses::<Getfd>(r#"{"fdname": 1}"#, "Invalid parameter type for 'fdname', expected: string");
    refuses::<Getfd>("{}", "Parameter 'fdname' is missing");
}

#[test]
fn maps_and_tuples_are_read_though_qapi_has_none() {
    #[derive(Debug, Deserialize)]
    struct Odd {
        pair: Option<(u8, u8)>,
        map: Option<std::collections::BTreeMap<String, u8>>,
        letter: Option<char>,
    }

    let odd: Odd = accepts(r#"{"pair": [1, 2], "map": {"a": 1}, "letter": "x"}"#);
    assert_eq!((odd.pair, odd.map.unwrap()["a"], odd.letter), (Some((1, 2)), 1, Some('x')));
    refuses::<Odd>(r#"{"pair": [1, 2, 3]}"#, "Only 2 list elements expected in pair");
    refuses::<Odd>(r#"{"pair": [1]}"#, "Parameter 'pair' expects a tuple of size 2");
    refuses::<Odd>(r#"{"map": {"a": 256}}"#, "Parameter 'a' expects uint8_t");
    refuses::<Odd>(r#"{"letter": "xy"}"#, "Parameter 'letter' expects a character");
}
