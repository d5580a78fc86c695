//! Reading a command line from left to right.
//!
//! Lines are cut as C cuts them: by bytes, with the six white-space characters of ASCII. All cuts stand beside an ASCII
//! byte, so they never split a character.

pub(crate) use crate::keyval::number::is_space;

/// A place in a line. Cheap to copy, so that a reader can go back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    text: &'a str,
    at: usize,
}

/// Why there is no string at a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoString {
    /// The line ends.
    End,
    /// A quotation mark is missing.
    Unterminated,
    /// A backslash stands before a character that it gives no meaning.
    Escape,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes passed so far.
    pub(super) fn position(&self) -> usize {
        self.at
    }

    /// Everything from here on.
    pub(super) fn rest(&self) -> &'a str {
        // The cursor only ever passes whole characters, or stops at an ASCII byte.
        self.text.get(self.at..).unwrap_or_default()
    }

    /// The byte here; `None` at the end.
    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The character here, for messages. QEMU shows the first byte alone, which is no text where there are several: it has
    /// two for U+0000.
    pub(super) fn peek_char(&self) -> Option<char> {
        self.peek().map(|byte| match byte {
            1..0x80 => char::from(byte),
            _ => char::REPLACEMENT_CHARACTER,
        })
    }

    /// Whether the line ends here.
    pub(super) fn is_at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Passes one character, if there is one.
    pub(super) fn pass(&mut self) {
        self.at += self.rest().chars().next().map_or(0, char::len_utf8);
    }

    /// Passes everything.
    pub(super) fn pass_all(&mut self) {
        self.at = self.text.len();
    }

    /// Passes this byte, which is ASCII, if it stands here.
    pub(super) fn pass_if(&mut self, byte: u8) -> bool {
        let here = self.peek() == Some(byte);
        if here {
            self.at += 1;
        }
        here
    }

    /// Passes white space.
    pub(super) fn skip_spaces(&mut self) {
        self.take_while(is_space);
    }

    /// Passes the characters of which this holds (all of a character's bytes, when it is not ASCII), and gives them.
    pub(super) fn take_while(&mut self, holds: impl Fn(u8) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.bytes().position(|byte| !holds(byte)).unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// Passes a word, or a string in quotation marks with the escapes `\n`, `\r`, `\\`, `\'` and `\"`.
    ///
    /// A quotation mark inside a word means nothing, and a string ends at its second one, whatever follows.
    pub(super) fn string(&mut self) -> Result<String, NoString> {
        self.skip_spaces();
        if self.is_at_end() {
            return Err(NoString::End);
        }
        if !self.pass_if(b'"') {
            return Ok(self.take_while(|byte| !is_space(byte)).to_owned());
        }
        let mut string = String::new();
        loop {
            string.push_str(self.take_while(|byte| byte != b'"' && byte != b'\\'));
            if self.pass_if(b'"') {
                return Ok(string);
            }
            if !self.pass_if(b'\\') {
                return Err(NoString::Unterminated);
            }
            string.push(match self.peek() {
                Some(b'n') => '\n',
                Some(b'r') => '\r',
                Some(quoted @ (b'\\' | b'\'' | b'"')) => char::from(quoted),
                _ => return Err(NoString::Escape),
            });
            self.pass();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<(String, &str), NoString> {
        let mut cursor = Cursor::new(text);
        cursor.string().map(|string| (string, cursor.rest()))
    }

    #[test]
    fn words_end_at_white_space_and_strings_at_their_quotation_mark() {
        assert_eq!(string(" \x0b\x0cone two"), Ok(("one".into(), " two")));
        assert_eq!(string("a\"b c"), Ok(("a\"b".into(), " c")));
        assert_eq!(string("\"a b\"c"), Ok(("a b".into(), "c")));
        assert_eq!(string("\"\""), Ok((String::new(), "")));
        assert_eq!(string("é\u{a0}x y"), Ok(("é\u{a0}x".into(), " y")), "a no-break space is no space");
    }

    #[test]
    fn words_are_taken_whole() {
        let long = "a".repeat(5000);
        assert_eq!(string(&format!("{long} b")), Ok((long, " b")));
    }

    #[test]
    fn escapes_are_five() {
        assert_eq!(string(r#""\n\r\\\'\"é""#), Ok(("\n\r\\'\"é".into(), "")));
        assert_eq!(string(r#""\t""#), Err(NoString::Escape));
        assert_eq!(string(r#""\"#), Err(NoString::Escape));
        assert_eq!(string(r#""abc"#), Err(NoString::Unterminated));
        assert_eq!(string("  "), Err(NoString::End));
    }
}
