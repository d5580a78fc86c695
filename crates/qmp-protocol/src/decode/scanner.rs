//! The lexer as a pure function: a state and a byte to what that byte does.
//!
//! It never looks back and never ahead, so input may be cut anywhere. A byte can belong to the token before it, end it
//! as its last byte, or show that it ended before: numbers and keywords have no closing byte of their own.

/// What a finished token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    OpenBrace,
    CloseBrace,
    OpenBracket,
    CloseBracket,
    Comma,
    Colon,
    Integer,
    Float,
    String,
    Keyword,
}

/// What the scanner is in the middle of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum State {
    /// Between tokens.
    #[default]
    Start,
    /// After a lexical error: skipping to a byte that is likely to begin something sound.
    Recovery,
    /// In a string with this quote.
    String(u8),
    /// After a backslash in a string with this quote.
    Escape(u8),
    /// After `-`.
    Sign,
    /// After a leading `0`, which takes neither digits nor an exponent.
    Zero,
    /// In an integer.
    Digits,
    /// After the decimal point.
    Point,
    /// In the digits of a fraction.
    Fraction,
    /// After `e` or `E`.
    Exponent,
    /// After the exponent's sign.
    ExponentSign,
    /// In the digits of an exponent.
    ExponentDigits,
    /// In a run of lower case letters.
    Keyword,
}

/// What one byte does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is of no account: white space, or skipped in recovery.
    Skip,
    /// It is part of a token that goes on.
    More(State),
    /// It is the last byte of a token.
    Last(Kind),
    /// The token ended before it; it is to be scanned again, from [`State::Start`].
    Ended(Kind),
    /// It is the offending byte of a lexical error; [`State::Recovery`] follows.
    Stray,
    /// Recovery is over; it is to be scanned again, from [`State::Start`].
    Resume,
}

/// True for a byte that may stand in a string. All others end recovery too, but for the tab.
fn is_string_byte(byte: u8) -> bool {
    matches!(byte, 0x20..=0xFD)
}

/// What `byte` does in `state`.
pub(super) fn step(state: State, byte: u8) -> Step {
    match (state, byte) {
        (State::Start, _) => start(byte),
        (State::Recovery, b'[' | b']' | b'{' | b'}' | b':' | b',') => Step::Resume,
        (State::Recovery, _) => {
            if is_string_byte(byte) || byte == b'\t' {
                Step::Skip
            } else {
                Step::Resume
            }
        }
        (State::String(quote), _) if byte == quote => Step::Last(Kind::String),
        (State::String(quote), b'\\') => Step::More(State::Escape(quote)),
        (State::String(quote) | State::Escape(quote), _) if is_string_byte(byte) => {
            Step::More(State::String(quote))
        }
        (State::Sign, b'0') => Step::More(State::Zero),
        (State::Sign | State::Digits, b'0'..=b'9') => Step::More(State::Digits),
        (State::Zero, b'0'..=b'9') => Step::Stray,
        (State::Zero | State::Digits, b'.') => Step::More(State::Point),
        (State::Point | State::Fraction, b'0'..=b'9') => Step::More(State::Fraction),
        (State::Digits | State::Fraction, b'e' | b'E') => Step::More(State::Exponent),
        (State::Exponent, b'+' | b'-') => Step::More(State::ExponentSign),
        (State::Exponent | State::ExponentSign | State::ExponentDigits, b'0'..=b'9') => {
            Step::More(State::ExponentDigits)
        }
        (State::Keyword, b'a'..=b'z') => Step::More(State::Keyword),
        _ => end(state).map_or(Step::Stray, Step::Ended),
    }
}

/// What a byte between tokens begins.
fn start(byte: u8) -> Step {
    match byte {
        b' ' | b'\t' | b'\r' | b'\n' => Step::Skip,
        b'{' => Step::Last(Kind::OpenBrace),
        b'}' => Step::Last(Kind::CloseBrace),
        b'[' => Step::Last(Kind::OpenBracket),
        b']' => Step::Last(Kind::CloseBracket),
        b',' => Step::Last(Kind::Comma),
        b':' => Step::Last(Kind::Colon),
        b'"' | b'\'' => Step::More(State::String(byte)),
        b'-' => Step::More(State::Sign),
        b'0' => Step::More(State::Zero),
        b'1'..=b'9' => Step::More(State::Digits),
        b'a'..=b'z' => Step::More(State::Keyword),
        _ => Step::Stray,
    }
}

/// The token that is complete if the input ends in `state`.
pub(super) fn end(state: State) -> Option<Kind> {
    match state {
        State::Zero | State::Digits => Some(Kind::Integer),
        State::Fraction | State::ExponentDigits => Some(Kind::Float),
        State::Keyword => Some(Kind::Keyword),
        _ => None,
    }
}

/// The number of bytes at the front of `input` that leave a string's state as it is.
pub(super) fn string_run(quote: u8, input: &[u8]) -> usize {
    input
        .iter()
        .position(|&byte| byte == quote || byte == b'\\' || !is_string_byte(byte))
        .unwrap_or(input.len())
}

/// A token and the text that it stands in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a [u8],
}

/// The tokens of a text that has been scanned before and found free of lexical errors.
#[derive(Clone, Debug)]
pub(super) struct Tokens<'a> {
    rest: &'a [u8],
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { rest: text }
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = Token<'a>;

    fn next(&mut self) -> Option<Token<'a>> {
        let text = self.rest.trim_ascii_start();
        let mut state = State::Start;
        let mut len = 0;
        let kind = loop {
            if let State::String(quote) = state {
                len += string_run(quote, &text[len..]);
            }
            let Some(&byte) = text.get(len) else { break end(state) };
            match step(state, byte) {
                Step::More(next) => state = next,
                Step::Last(kind) => {
                    len += 1;
                    break Some(kind);
                }
                Step::Ended(kind) => break Some(kind),
                Step::Skip | Step::Stray | Step::Resume => break None,
            }
            len += 1;
        };
        let (text, rest) = text.split_at(len);
        self.rest = rest;
        kind.map(|kind| Token { kind, text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<(Kind, &str)> {
        Tokens::new(text.as_bytes())
            .map(|token| (token.kind, std::str::from_utf8(token.text).unwrap()))
            .collect()
    }

    #[test]
    fn numbers_and_keywords_end_where_the_next_token_begins() {
        use Kind::{Float, Integer, Keyword};
        assert_eq!(tokens("0x10"), [(Integer, "0"), (Keyword, "x"), (Integer, "10")]);
        assert_eq!(tokens("1-2"), [(Integer, "1"), (Integer, "-2")]);
        assert_eq!(tokens("true1"), [(Keyword, "true"), (Integer, "1")]);
        assert_eq!(tokens("0e1"), [(Integer, "0"), (Keyword, "e"), (Integer, "1")]);
        assert_eq!(tokens("0.0e0 1E+5"), [(Float, "0.0e0"), (Float, "1E+5")]);
    }

    #[test]
    fn a_string_ends_at_its_own_quote() {
        assert_eq!(tokens(r#"'a"\'' "b'\"""#), [(Kind::String, r#"'a"\''"#), (Kind::String, r#""b'\"""#)]);
    }
}
