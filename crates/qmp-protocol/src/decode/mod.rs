//! Bytes to messages.
//!
//! ```text
//!   bytes --> scanner (tokens' ends) --> assembler (balance, limits, what is held) --> parser --> Message
//!      \___________________ fast path: a plain command, whole in the slice ________________________/
//! ```
//!
//! The exact path does what QEMU does: bytes are cut into tokens as they come, collected until brackets balance, and
//! only then parsed. Its consequences are visible to clients (a grammar error is reported at the balanced end, a
//! lexical error at once), so they are kept. The fast path is a shortcut that gives up wherever the result could
//! differ; tests hold it to the exact path's results.

mod assembler;
mod decoder;
mod fast;
mod number;
mod parser;
mod scanner;
mod string;
mod utf8;

pub use decoder::{Decoder, Limits};

use crate::error::Error;
use crate::value::Value;

impl Value {
    /// Reads one value in QEMU's dialect, as QEMU reads a JSON argument on its command line.
    ///
    /// # Errors
    ///
    /// The description that QEMU gives: for text that is not JSON, is cut short, or is nothing or more than one value.
    ///
    /// ```
    /// # use qmp_protocol::Value;
    /// assert_eq!(Value::from_json(b"'it\\'s'").unwrap(), Value::from("it's"));
    /// assert_eq!(Value::from_json(b"{} {}").unwrap_err().desc, "Expecting at most one JSON value");
    /// ```
    pub fn from_json(text: &[u8]) -> Result<Self, Error> {
        let mut assembler = assembler::Assembler::new(Limits::default());
        let mut rest = text;
        let mut first = None;
        loop {
            let parsed = match assembler.feed(&mut rest) {
                Some(parsed) => parsed,
                None => match assembler.finish() {
                    Some(parsed) => parsed,
                    None => return first.unwrap_or_else(|| Err(Error::generic("Expecting a JSON value"))),
                },
            };
            match first {
                None if parsed.is_err() => return parsed,
                None => first = Some(parsed),
                Some(_) => return Err(Error::generic("Expecting at most one JSON value")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        Value::from_json(text.as_bytes()).unwrap_err().desc.into_owned()
    }

    #[test]
    fn one_value_is_read_to_the_end_of_the_text() {
        assert_eq!(Value::from_json(b" 12 ").unwrap(), Value::from(12_i64));
        assert_eq!(Value::from_json(b"12").unwrap(), Value::from(12_i64));
        assert_eq!(Value::from_json(b"true").unwrap(), Value::Bool(true));
    }

    #[test]
    fn anything_else_is_described_as_qemu_does() {
        assert_eq!(complaint(""), "Expecting a JSON value");
        assert_eq!(complaint("{}{}"), "Expecting at most one JSON value");
        assert_eq!(complaint("{} 1"), "Expecting at most one JSON value");
        assert_eq!(complaint("{} @"), "Expecting at most one JSON value");
        assert_eq!(complaint("{'a':"), "JSON parse error, premature EOI");
        assert_eq!(complaint("{ 2"), "JSON parse error, key is not a string in object");
        assert_eq!(complaint("{@"), "JSON parse error, stray '@'");
    }
}
