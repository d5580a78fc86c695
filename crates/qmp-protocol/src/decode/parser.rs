//! The grammar: tokens of one balanced value to a [`Value`], or the first fault.
//!
//! It keeps its own stack, so nesting costs no machine stack. A key is read as any value is and judged afterwards,
//! which decides the error that `{[1,]: 2}` gets.

use super::number;
use super::scanner::{Kind, Token, Tokens};
use super::string::{self, error};
use crate::error::Error;
use crate::value::{Object, Value};

/// Longest text after "JSON parse error, " that QEMU keeps, in bytes.
const MAX_MESSAGE: usize = 1023;

/// A container that is open, and what it waits for.
enum Frame {
    /// An element of a list.
    Element(Vec<Value>),
    /// A key.
    Key(Object),
    /// The value of this key.
    Member(Object, String),
}

/// Parses the first value of `text`, which must be free of lexical errors.
pub(super) fn parse(text: &[u8]) -> Result<Value, Error> {
    let mut tokens = Tokens::new(text);
    let mut frames: Vec<Frame> = Vec::new();
    loop {
        let Some(mut value) = begin_value(&mut tokens, &mut frames)? else { continue };
        loop {
            let Some(frame) = frames.pop() else { return Ok(value) };
            match add(frame, value, &mut tokens)? {
                Added::Open(frame) => {
                    frames.push(frame);
                    break;
                }
                Added::Closed(container) => value = container,
            }
        }
    }
}

/// The next token, of which there must be one.
fn next<'a>(tokens: &mut Tokens<'a>) -> Result<Token<'a>, Error> {
    tokens.next().ok_or_else(|| error("premature EOI"))
}

/// Reads a scalar or an empty container, or opens a container and gives nothing.
fn begin_value(tokens: &mut Tokens<'_>, frames: &mut Vec<Frame>) -> Result<Option<Value>, Error> {
    let token = next(tokens)?;
    let (close, frame, empty) = match token.kind {
        Kind::OpenBrace => (Kind::CloseBrace, Frame::Key(Object::new()), Value::Object(Object::new())),
        Kind::OpenBracket => (Kind::CloseBracket, Frame::Element(Vec::new()), Value::Array(Vec::new())),
        _ => return scalar(token).map(Some),
    };
    let mut ahead = tokens.clone();
    if next(&mut ahead)?.kind == close {
        *tokens = ahead;
        return Ok(Some(empty));
    }
    frames.push(frame);
    Ok(None)
}

fn scalar(token: Token<'_>) -> Result<Value, Error> {
    match token.kind {
        Kind::Integer => Ok(Value::Number(number::integer(token.text))),
        Kind::Float => Ok(Value::Number(number::float(token.text))),
        Kind::String => string::decode(token.text).map(Value::String),
        Kind::Keyword => keyword(token.text),
        _ => Err(error("expecting value")),
    }
}

fn keyword(text: &[u8]) -> Result<Value, Error> {
    match text {
        b"null" => Ok(Value::Null),
        b"true" => Ok(Value::Bool(true)),
        b"false" => Ok(Value::Bool(false)),
        _ => {
            let mut message = format!("invalid keyword '{}'", String::from_utf8_lossy(text));
            message.truncate(MAX_MESSAGE);
            Err(error(message))
        }
    }
}

/// What became of a container that got a value.
enum Added {
    /// It waits for the next one.
    Open(Frame),
    /// It is complete.
    Closed(Value),
}

/// Gives `value` to `frame`, and reads the token after it.
fn add(frame: Frame, value: Value, tokens: &mut Tokens<'_>) -> Result<Added, Error> {
    match frame {
        Frame::Element(mut values) => {
            values.push(value);
            match next(tokens)?.kind {
                Kind::Comma => Ok(Added::Open(Frame::Element(values))),
                Kind::CloseBracket => Ok(Added::Closed(Value::Array(values))),
                _ => Err(error("expected separator in list")),
            }
        }
        Frame::Key(members) => {
            let Value::String(key) = value else { return Err(error("key is not a string in object")) };
            match next(tokens)?.kind {
                Kind::Colon => Ok(Added::Open(Frame::Member(members, key))),
                _ => Err(error("missing : in object pair")),
            }
        }
        Frame::Member(mut members, key) => {
            if !members.insert_new(key, value) {
                return Err(error("duplicate key"));
            }
            match next(tokens)?.kind {
                Kind::Comma => Ok(Added::Open(Frame::Key(members))),
                Kind::CloseBrace => Ok(Added::Closed(Value::Object(members))),
                _ => Err(error("expected separator in dict")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_named_as_recorded() {
        for (text, fault) in [
            ("{]", "expecting value"),
            ("[}", "expecting value"),
            ("[,]", "expecting value"),
            ("[1,]", "expecting value"),
            (r#"{"a":}"#, "expecting value"),
            (r#"{"a":1,}"#, "expecting value"),
            (r#"{,"a":1}"#, "expecting value"),
            (r#"{"a"::1}"#, "expecting value"),
            (r#"{[1,]:2}"#, "expecting value"),
            (r#"{"a"}"#, "missing : in object pair"),
            (r#"{"a",1}"#, "missing : in object pair"),
            (r#"{"a":1 "b":2}"#, "expected separator in dict"),
            (r#"{"id":0e1}"#, "expected separator in dict"),
            ("[1 2]", "expected separator in list"),
            ("[true1]", "expected separator in list"),
            ("{1:2}", "key is not a string in object"),
            ("{{}:1}", "key is not a string in object"),
            ("{1}", "key is not a string in object"),
            (r#"{"a":1,"a":2}"#, "duplicate key"),
            (r#"{"a":1,"a":2 3}"#, "duplicate key"),
            (r#"{"a":1,"a":x}"#, "invalid keyword 'x'"),
            ("[nan]", "invalid keyword 'nan'"),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.desc, format!("JSON parse error, {fault}"), "{text}");
        }
    }

    #[test]
    fn a_long_keyword_is_cut() {
        let error = parse("a".repeat(3000).as_bytes()).unwrap_err();
        assert_eq!(error.desc.len(), "JSON parse error, ".len() + MAX_MESSAGE);
        assert!(error.desc.ends_with('a'));
    }
}
