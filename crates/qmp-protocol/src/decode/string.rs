//! String tokens to strings.

use super::utf8;
use crate::error::Error;

/// The text of a string token, quotes included, which the scanner has found whole.
pub(super) fn decode(token: &[u8]) -> Result<String, Error> {
    let inner = token.get(1..token.len() - 1).unwrap_or_default();
    if inner.is_ascii() && !inner.contains(&b'\\') {
        return Ok(String::from_utf8_lossy(inner).into_owned());
    }
    let mut text = String::with_capacity(inner.len());
    let mut at = 1;
    while at < token.len() - 1 {
        if token[at] == b'\\' {
            let (character, len) = escape(&token[at..])?;
            text.push(character);
            at += len;
        } else {
            let (character, len) = utf8::decode(&token[at..]);
            text.push(character.ok_or_else(|| error("invalid UTF-8 sequence in string"))?);
            at += len;
        }
    }
    Ok(text)
}

/// The character of a two-byte escape, by the byte after the backslash.
pub(super) fn simple_escape(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' | b'\'' | b'\\' | b'/' => char::from(byte),
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        _ => return None,
    })
}

/// The character of the escape that begins `rest`, and the escape's length. The token's closing quote is in `rest` too.
fn escape(rest: &[u8]) -> Result<(char, usize), Error> {
    match rest.get(1) {
        Some(b'u') => {}
        Some(&byte) => {
            return simple_escape(byte)
                .map(|it| (it, 2))
                .ok_or_else(|| error("invalid escape sequence in string"));
        }
        None => return Err(error("invalid escape sequence in string")),
    }
    let mut code = four_digits(&rest[2..]);
    let mut len = 6;
    if let Some(high @ 0xD800..=0xDBFF) = code
        && rest.get(6..8) == Some(b"\\u")
    {
        code = match four_digits(&rest[8..]) {
            Some(low @ 0xDC00..=0xDFFF) => {
                len = 12;
                Some(0x1_0000 + ((high & 0x3FF) << 10 | (low & 0x3FF)))
            }
            _ => None,
        };
    }
    match code.filter(|&code| utf8::is_valid(code)).and_then(char::from_u32) {
        Some(character) => Ok((character, len)),
        None => {
            // QEMU quotes the escape by its length, even where the string ends before that.
            let quoted = utf8::lossy(&rest[..len.min(rest.len())]);
            Err(error(format!("{quoted} is not a valid Unicode character")))
        }
    }
}

/// The value of the four hexadecimal digits that begin `bytes`, if there are four.
fn four_digits(bytes: &[u8]) -> Option<u32> {
    bytes.get(..4)?.iter().try_fold(0, |code, &byte| Some(code << 4 | char::from(byte).to_digit(16)?))
}

/// A JSON error, with QEMU's words before the given ones.
pub(super) fn error(what: impl std::fmt::Display) -> Error {
    Error::generic(format!("JSON parse error, {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(token: &[u8]) -> String {
        decode(token).unwrap_err().desc.strip_prefix("JSON parse error, ").unwrap().to_owned()
    }

    #[test]
    fn escapes_are_resolved() {
        assert_eq!(
            decode(br#""\"\'\\\/\b\f\n\r\t\u00e9\uD834\uDD1E\u0000""#).unwrap(),
            "\"'\\/\u{8}\u{c}\n\r\té𝄞\0"
        );
        assert_eq!(decode("'é\u{7f}𝄞'".as_bytes()).unwrap(), "é\u{7f}𝄞");
        assert_eq!(decode(b"\"a\xC0\x80b\"").unwrap(), "a\0b");
    }

    #[test]
    fn bad_characters_are_quoted_as_they_stand() {
        for (token, quoted) in [
            (&br#""\u12""#[..], r#"\u12""#),
            (br#""\u""#, r#"\u""#),
            (br#""\u12g4""#, r"\u12g4"),
            (br#""\uD834\uD834""#, r"\uD834"),
            (br#""\uD834\uZZZZ""#, r"\uD834"),
            (br#""\uD834\u1""#, r"\uD834"),
            (br#""\uD834x""#, r"\uD834"),
            (br#""\uDD1E\uD834""#, r"\uDD1E"),
            (br#""\uD83F\uDFFE""#, r"\uD83F\uDFFE"),
            (br#""\uFDEF""#, r"\uFDEF"),
            (b"\"\\u12\xC3\xA9\"", "\\u12é"),
        ] {
            assert_eq!(complaint(token), format!("{quoted} is not a valid Unicode character"));
        }
    }

    #[test]
    fn other_faults_are_not_quoted() {
        for token in [&br#""\x""#[..], br#""\0""#, br#""\U""#, br#""\v""#] {
            assert_eq!(complaint(token), "invalid escape sequence in string");
        }
        assert_eq!(complaint(b"\"caf\xE9\""), "invalid UTF-8 sequence in string");
    }
}
