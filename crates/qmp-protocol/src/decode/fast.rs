//! The shortcut for what clients send: a plain command, whole in one slice.
//!
//! It reads the command in one pass, without keeping anything, and gives up at the first byte that is in any way out of
//! the ordinary: an error, text beyond ASCII, a number that is no small integer, an unknown or repeated member, deep
//! nesting, the end of the slice. Giving up costs nothing but time, as the exact path then starts over from the same
//! byte; so what matters is only that a command it does take is the one that the exact path would have given.

use super::Limits;
use super::string::simple_escape;
use crate::message::Request;
use crate::value::{Number, Object, Value};

/// Deepest nesting that is plain; it bounds the recursion.
const MAX_DEPTH: usize = 32;

/// Longest run of digits that is sure to fit an `i64`.
const MAX_DIGITS: usize = 18;

/// Takes a command from the front of `input`, white space before it included, if a plain one stands there; else leaves
/// `input` alone.
pub(super) fn request(input: &mut &[u8], limits: &Limits) -> Option<Request> {
    // A text this long can break neither limit, as no token is shorter than a byte.
    let safe = limits.tokens.min(limits.bytes.saturating_sub(1)).min(input.len());
    let mut cursor = Cursor { rest: &input[..safe] };
    let request = cursor.request(limits.nesting.min(MAX_DEPTH))?;
    let taken = safe - cursor.rest.len();
    *input = &input[taken..];
    Some(request)
}

/// What is still to be read.
struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn request(&mut self, depth: usize) -> Option<Request> {
        let depth = depth.checked_sub(1)?;
        let (mut execute, mut arguments, mut id) = (None, None, None);
        self.expect(b'{')?;
        loop {
            let key = self.plain_text()?;
            self.expect(b':')?;
            let fresh = match key {
                b"execute" => execute.replace(self.string()?).is_none(),
                b"arguments" => {
                    self.expect(b'{')?;
                    arguments.replace(self.object(depth.checked_sub(1)?)?).is_none()
                }
                b"id" => id.replace(self.value(depth)?).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
            match self.token()? {
                b',' => {}
                b'}' => return Some(Request { execute: execute?, oob: false, arguments, id }),
                _ => return None,
            }
        }
    }

    /// A value, in which `depth` more containers may be open at one time.
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.skip_space();
        match *self.rest.first()? {
            b'"' | b'\'' => self.string().map(Value::String),
            b'-' | b'0'..=b'9' => self.integer(),
            b'{' => {
                self.advance(1);
                self.object(depth.checked_sub(1)?).map(Value::Object)
            }
            b'[' => {
                self.advance(1);
                self.array(depth.checked_sub(1)?)
            }
            b't' => self.word(b"true", Value::Bool(true)),
            b'f' => self.word(b"false", Value::Bool(false)),
            b'n' => self.word(b"null", Value::Null),
            _ => None,
        }
    }

    /// The rest of an object whose brace has been read.
    fn object(&mut self, depth: usize) -> Option<Object> {
        let mut members = Object::new();
        self.skip_space();
        if *self.rest.first()? == b'}' {
            self.advance(1);
            return Some(members);
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            if !members.insert_new(key, self.value(depth)?) {
                return None;
            }
            match self.token()? {
                b',' => {}
                b'}' => return Some(members),
                _ => return None,
            }
        }
    }

    /// The rest of a list whose bracket has been read.
    fn array(&mut self, depth: usize) -> Option<Value> {
        let mut values = Vec::new();
        self.skip_space();
        if *self.rest.first()? == b']' {
            self.advance(1);
            return Some(Value::Array(values));
        }
        loop {
            values.push(self.value(depth)?);
            match self.token()? {
                b',' => {}
                b']' => return Some(Value::Array(values)),
                _ => return None,
            }
        }
    }

    /// What a string without escapes says, all of it ASCII.
    fn plain_text(&mut self) -> Option<&'a [u8]> {
        let quote = self.opening_quote()?;
        let len = self.plain_run(quote);
        let (text, rest) = self.rest.split_at(len);
        if *rest.first()? != quote {
            return None;
        }
        self.rest = &rest[1..];
        Some(text)
    }

    /// A string without escapes other than those of two bytes.
    fn string(&mut self) -> Option<String> {
        let before = self.rest;
        if let Some(text) = self.plain_text() {
            return std::str::from_utf8(text).ok().map(str::to_owned);
        }
        self.rest = before;
        let quote = self.opening_quote()?;
        let mut string = String::new();
        loop {
            let (text, rest) = self.rest.split_at(self.plain_run(quote));
            string.push_str(std::str::from_utf8(text).ok()?);
            match *rest.first()? {
                b'\\' => {
                    string.push(simple_escape(*rest.get(1)?)?);
                    self.rest = &rest[2..];
                }
                byte if byte == quote => {
                    self.rest = &rest[1..];
                    return Some(string);
                }
                _ => return None,
            }
        }
    }

    fn opening_quote(&mut self) -> Option<u8> {
        let quote = self.token()?;
        matches!(quote, b'"' | b'\'').then_some(quote)
    }

    /// The number of bytes that stand for themselves in a string with this quote.
    fn plain_run(&self, quote: u8) -> usize {
        let plain = |byte: u8| matches!(byte, 0x20..=0x7F) && byte != quote && byte != b'\\';
        self.rest.iter().position(|&byte| !plain(byte)).unwrap_or(self.rest.len())
    }

    /// An integer that fits for sure, and that has something behind it.
    fn integer(&mut self) -> Option<Value> {
        let negative = self.rest.first() == Some(&b'-');
        let digits = &self.rest[usize::from(negative)..];
        let len = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        let leading_zero = digits[0] == b'0' && len > 1;
        let goes_on = matches!(digits[len], b'.' | b'e' | b'E');
        if len == 0 || len > MAX_DIGITS || leading_zero || goes_on {
            return None;
        }
        let number = digits[..len].iter().fold(0, |number: i64, &byte| number * 10 + i64::from(byte - b'0'));
        self.rest = &digits[len..];
        Some(Value::Number(Number::I64(if negative { -number } else { number })))
    }

    /// A keyword. That a longer one does not begin here shows in what must come next.
    fn word(&mut self, word: &[u8], value: Value) -> Option<Value> {
        self.rest = self.rest.strip_prefix(word)?;
        Some(value)
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.token()? == byte).then_some(())
    }

    /// The next byte that is not white space.
    fn token(&mut self) -> Option<u8> {
        self.skip_space();
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    fn skip_space(&mut self) {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = self.rest {
            self.rest = rest;
        }
    }

    fn advance(&mut self, count: usize) {
        self.rest = &self.rest[count..];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(text: &str) -> Option<Request> {
        let mut input = text.as_bytes();
        let request = request(&mut input, &Limits::default());
        assert_eq!(input.len(), if request.is_some() { 0 } else { text.len() });
        request
    }

    #[test]
    fn plain_commands_are_taken() {
        for text in [
            r#"{"execute": "query-name", "id": 1}"#,
            "\r\n{\t'execute':'stop'}",
            r#"{"execute":"a","arguments":{"b":[true,false,null,-1,"x\n\"",{}],"c":{"d":[]}},"id":"libvirt-1"}"#,
        ] {
            assert!(taken(text).is_some(), "{text}");
        }
    }

    #[test]
    fn anything_else_is_left_alone() {
        for text in [
            "",
            " ",
            "{",
            "{}",
            "[]",
            r#"{"execute": "query-name", "id": 1"#,
            r#"{"execute": "query-name", "id": 01}"#,
            r#"{"execute": "query-name", "id": 1.5}"#,
            r#"{"execute": "query-name", "id": 1e5}"#,
            r#"{"execute": "query-name", "id": 1234567890123456789}"#,
            r#"{"execute": "query-name", "id": -}"#,
            r#"{"execute": "query-name", "id": nullx}"#,
            r#"{"execute": "query-name", "id": "é"}"#,
            r#"{"execute": "query-name", "id": "\u0041"}"#,
            r#"{"execute": "query-name", "execute": "stop"}"#,
            r#"{"execute": "query-name", "other": 1}"#,
            r#"{"execute": "query-name", "id": {"a": 1, "a": 1}}"#,
            r#"{"execute": "query-name", "arguments": []}"#,
            r#"{"exec-oob": "query-name"}"#,
            r#"{"execute": 1}"#,
            r#"{"execute": "query-name",}"#,
        ] {
            assert!(taken(text).is_none(), "{text}");
        }
        let deep = format!(r#"{{"execute": "a", "id": {}{}}}"#, "[".repeat(32), "]".repeat(32));
        assert!(taken(&deep).is_none());
    }

    #[test]
    fn nothing_that_could_break_a_limit_is_taken() {
        let text = br#"{"execute": "stop"}"#;
        let generous = Limits { nesting: 1, tokens: text.len(), bytes: text.len() + 1 };
        assert!(request(&mut &text[..], &generous).is_some());
        for limits in [
            Limits { nesting: 0, ..generous.clone() },
            Limits { tokens: text.len() - 1, ..generous.clone() },
            Limits { bytes: text.len(), ..generous.clone() },
        ] {
            assert!(request(&mut &text[..], &limits).is_none());
        }
    }
}
