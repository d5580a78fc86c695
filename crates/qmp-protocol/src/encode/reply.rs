//! The lines that answer a client: greeting, return, error.

use super::layout::{Format, Layout};
use super::{Line, Payload, text, value};
use crate::error::Error;
use crate::value::{Object, Value};

/// What the greeting says about the program. Clients read the three numbers to know the dialect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
    /// Who made it; any text, `""` included.
    pub package: String,
}

/// Appends `{"return": .., "id": ..}`.
///
/// ```
/// # use qmp_protocol::{Format, Payload, encode_return};
/// let mut out = Vec::new();
/// encode_return(&mut out, &Payload::empty(), Some(&"a".into()), Format::Compact);
/// assert_eq!(out, b"{\"return\": {}, \"id\": \"a\"}\r\n");
/// ```
pub fn encode_return(out: &mut Vec<u8>, payload: &Payload, id: Option<&Value>, format: Format) {
    let mut line = Line::begin(out, format);
    line.member("return", |out, layout| {
        payload.append(out, layout);
        Ok(())
    });
    if let Some(id) = id {
        line.member("id", |out, layout| value::write(out, layout, id));
    }
    line.end();
}

/// Appends `{"id": .., "error": {"class": .., "desc": ..}}`.
pub fn encode_error(out: &mut Vec<u8>, error: &Error, id: Option<&Value>, format: Format) {
    let mut line = Line::begin(out, format);
    if let Some(id) = id {
        line.member("id", |out, layout| value::write(out, layout, id));
    }
    line.member("error", |out, layout| write_error(out, layout, error));
    line.end();
}

fn write_error(out: &mut Vec<u8>, layout: &mut Layout, error: &Error) -> std::io::Result<()> {
    layout.object(out, |out, layout| {
        layout.name(out, "class", true)?;
        text::write_string(out, error.class.as_str())?;
        layout.name(out, "desc", false)?;
        text::write_string(out, &error.desc)
    })
}

/// Appends the line that a client reads first. `capabilities` is `["oob"]`, or empty where out-of-band commands are not
/// offered.
pub fn encode_greeting(out: &mut Vec<u8>, version: &Version, capabilities: &[&str], format: Format) {
    let numbers = [("major", version.major), ("minor", version.minor), ("micro", version.micro)];
    let qemu: Object = numbers.into_iter().map(|(name, number)| (name, u64::from(number))).collect();
    let version: Object = [("qemu", Value::Object(qemu)), ("package", Value::from(version.package.as_str()))]
        .into_iter()
        .collect();
    let capabilities = capabilities.iter().map(|&name| Value::from(name)).collect::<Vec<_>>();
    let greeting: Object =
        [("version", Value::Object(version)), ("capabilities", Value::Array(capabilities))]
            .into_iter()
            .collect();
    let mut line = Line::begin(out, format);
    line.member("QMP", |out, layout| value::write(out, layout, &Value::Object(greeting)));
    line.end();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(encode: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn version() -> Version {
        Version { major: 7, minor: 2, micro: 22, package: "Debian".to_owned() }
    }

    #[test]
    fn the_greeting_is_the_recorded_one() {
        assert_eq!(
            line(|out| encode_greeting(out, &version(), &["oob"], Format::Compact)),
            "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}, \
             \"package\": \"Debian\"}, \"capabilities\": [\"oob\"]}}\r\n"
        );
    }

    #[test]
    fn the_pretty_greeting_is_the_recorded_one() {
        let expected = "{
    \"QMP\": {
        \"version\": {
            \"qemu\": {
                \"micro\": 22,
                \"minor\": 2,
                \"major\": 7
            },
            \"package\": \"Debian\"
        },
        \"capabilities\": [
            \"oob\"
        ]
    }
}
";
        let greeting = line(|out| encode_greeting(out, &version(), &["oob"], Format::Pretty));
        assert_eq!(greeting, expected.replace('\n', "\r\n"));
    }

    #[test]
    fn an_error_has_its_id_first_and_a_return_last() {
        let error = Error::generic("no");
        let id = Value::from(9_i64);
        assert_eq!(
            line(|out| encode_error(out, &error, Some(&id), Format::Compact)),
            "{\"id\": 9, \"error\": {\"class\": \"GenericError\", \"desc\": \"no\"}}\r\n"
        );
        assert_eq!(
            line(|out| encode_return(out, &Payload::empty(), Some(&id), Format::Compact)),
            "{\"return\": {}, \"id\": 9}\r\n"
        );
    }

    #[test]
    fn pretty_replies_indent_their_payload() {
        let id = Value::from(1_i64);
        assert_eq!(
            line(|out| encode_return(out, &Payload::empty(), Some(&id), Format::Pretty)),
            "{\r\n    \"return\": {\r\n    },\r\n    \"id\": 1\r\n}\r\n"
        );
        let payload = Payload::encode(&[1], Format::Pretty).unwrap();
        assert_eq!(
            line(|out| encode_return(out, &payload, None, Format::Pretty)),
            "{\r\n    \"return\": [\r\n        1\r\n    ]\r\n}\r\n"
        );
        let error = Error::generic("no");
        assert_eq!(
            line(|out| encode_error(out, &error, None, Format::Pretty)),
            "{\r\n    \"error\": {\r\n        \"class\": \"GenericError\",\r\n        \"desc\": \"no\"\r\n    }\r\n}\r\n"
        );
    }

    #[test]
    fn a_shared_payload_is_sent_as_it_is() {
        let payload = Payload::shared(std::sync::Arc::from(&b"[1, 2]"[..]));
        assert_eq!(
            line(|out| encode_return(out, &payload, None, Format::Compact)),
            "{\"return\": [1, 2]}\r\n"
        );
    }
}
