//! Values by a writer of their own, because serde_json has no word for an infinite double and QEMU echoes one.

use std::io::{Result, Write};

use serde_json::ser::Formatter;

use super::layout::{Format, Layout};
use super::{double, text, written};
use crate::value::{Number, Object, Value};

/// Appends a value as it stands on the wire, without the end of line.
///
/// Objects are written in QEMU's member order, infinite doubles as `inf`.
///
/// ```
/// # use qmp_protocol::{Format, Value, encode_value};
/// let mut out = Vec::new();
/// encode_value(&mut out, &Value::from_json(b"{'a': [1e0, 'e\\u00e9']}").unwrap(), Format::Compact);
/// assert_eq!(out, br#"{"a": [1, "e\u00E9"]}"#);
/// ```
pub fn encode_value(out: &mut Vec<u8>, value: &Value, format: Format) {
    written(write(out, &mut Layout::new(format), value));
}

/// Writes `value` where `layout` stands.
pub(super) fn write<W: Write>(writer: &mut W, layout: &mut Layout, value: &Value) -> Result<()> {
    match value {
        Value::Null => writer.write_all(b"null"),
        Value::Bool(value) => writer.write_all(if *value { b"true" } else { b"false" }),
        Value::Number(Number::I64(value)) => layout.write_i64(writer, *value),
        Value::Number(Number::U64(value)) => layout.write_u64(writer, *value),
        Value::Number(Number::F64(value)) => double::write(writer, *value),
        Value::String(value) => text::write_string(writer, value),
        Value::Array(values) => write_array(writer, layout, values),
        Value::Object(members) => write_object(writer, layout, members),
    }
}

fn write_array<W: Write>(writer: &mut W, layout: &mut Layout, values: &[Value]) -> Result<()> {
    layout.begin_array(writer)?;
    for (at, value) in values.iter().enumerate() {
        layout.begin_array_value(writer, at == 0)?;
        write(writer, layout, value)?;
    }
    layout.end_array(writer)
}

fn write_object<W: Write>(writer: &mut W, layout: &mut Layout, members: &Object) -> Result<()> {
    layout.object(writer, |writer, layout| {
        members.iter_qdict().enumerate().try_for_each(|(at, (key, value))| {
            layout.name(writer, key, at == 0)?;
            write(writer, layout, value)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, format: Format) -> String {
        let mut out = Vec::new();
        encode_value(&mut out, &Value::from_json(text.as_bytes()).unwrap(), format);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_echo_as_recorded() {
        for (sent, echoed) in [
            (r#"[1, [2, {}], "x"]"#, r#"[1, [2, {}], "x"]"#),
            ("[1e400,-1e400,-0,-0.0,1e-400]", "[inf, -inf, 0, -0, 0]"),
            ("[9223372036854775808,18446744073709551616]", "[9223372036854775808, 1.8446744073709552e+19]"),
            (r#"{"z":1,"a":null,"m":true}"#, r#"{"a": null, "z": 1, "m": true}"#),
        ] {
            assert_eq!(shown(sent, Format::Compact), echoed);
        }
    }

    #[test]
    fn the_pretty_form_breaks_every_container() {
        let expected =
            "[\r\n    1,\r\n    {\r\n    },\r\n    {\r\n        \"a\": [\r\n        ]\r\n    }\r\n]";
        assert_eq!(shown("[1,{},{'a':[]}]", Format::Pretty), expected);
    }

    #[test]
    fn the_serde_form_is_the_same_but_for_what_json_lacks() {
        let text = r#"{"z":1,"a":[null,true,1.5,"é\u0001\u007f"],"m":{}}"#;
        let value = Value::from_json(text.as_bytes()).unwrap();
        for format in [Format::Compact, Format::Pretty] {
            let mut by_serde = Vec::new();
            let mut serializer = serde_json::Serializer::with_formatter(&mut by_serde, Layout::new(format));
            serde::Serialize::serialize(&value, &mut serializer).unwrap();
            assert_eq!(String::from_utf8(by_serde).unwrap(), shown(text, format));
        }
    }
}
