//! Collects tokens until a value is complete, within limits.
//!
//! Only the bytes of unfinished input are kept, as they came, but for white space between tokens. So what is held is
//! never more than what was received (the buffer's capacity at most twice that), however many tokens it makes.

use super::Limits;
use super::scanner::{self, Kind, State, Step, step};
use super::{parser, utf8};
use crate::error::Error;
use crate::value::Value;

/// The exact path's state between two slices of input.
pub(super) struct Assembler {
    limits: Limits,
    state: State,
    /// The tokens of the current value, then the bytes of the current token.
    held: Vec<u8>,
    /// Where in `held` the current token begins.
    token_start: usize,
    /// Tokens collected.
    tokens: usize,
    /// Bytes in them.
    token_bytes: usize,
    /// `{` less `}`; may be one below zero, but then the value ends.
    braces: isize,
    /// `[` less `]`, likewise.
    brackets: isize,
}

impl Assembler {
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            held: Vec::new(),
            token_start: 0,
            tokens: 0,
            token_bytes: 0,
            braces: 0,
            brackets: 0,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// True if nothing is held. It may still be skipping the rest of a lexical error.
    pub(super) fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    /// True if the next byte begins a new value.
    pub(super) fn is_at_start(&self) -> bool {
        self.held.is_empty() && self.state == State::Start
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Forgets unfinished input, and any error that is being recovered from.
    pub(super) fn reset(&mut self) {
        self.discard();
        self.state = State::Start;
    }

    /// Forgets unfinished input as too large. `None` if there is none.
    pub(super) fn refuse(&mut self) -> Option<Error> {
        (!self.is_idle()).then(|| {
            self.reset();
            token_size_error()
        })
    }

    /// Takes bytes from the front of `input` until a value or an error is complete, or all of them.
    ///
    /// A byte that shows that a number or keyword before it has ended is left in `input`.
    pub(super) fn feed(&mut self, input: &mut &[u8]) -> Option<Result<Value, Error>> {
        while let Some((&byte, rest)) = input.split_first() {
            match step(self.state, byte) {
                Step::Skip => *input = rest,
                Step::More(next) => {
                    self.state = next;
                    self.take(input, 1);
                    if let State::String(quote) = next {
                        let room = self.limits.bytes.saturating_add(1).saturating_sub(self.token_len());
                        let run = scanner::string_run(quote, input).min(room);
                        self.take(input, run);
                    }
                    if self.token_len() > self.limits.bytes {
                        self.reset();
                        return Some(Err(token_size_error()));
                    }
                }
                Step::Last(kind) => {
                    self.take(input, 1);
                    self.state = State::Start;
                    if let Some(parsed) = self.add_token(kind) {
                        return Some(parsed);
                    }
                }
                Step::Ended(kind) => {
                    self.state = State::Start;
                    if let Some(parsed) = self.add_token(kind) {
                        return Some(parsed);
                    }
                    if byte.is_ascii_whitespace() {
                        // Without it the next token could be taken for a part of this one.
                        self.held.push(b' ');
                        self.token_start = self.held.len();
                    }
                }
                Step::Stray => {
                    self.take(input, 1);
                    let error = stray_error(&self.held[self.token_start..]);
                    self.discard();
                    self.state = State::Recovery;
                    return Some(Err(error));
                }
                Step::Resume => self.state = State::Start,
            }
        }
        None
    }

    /// Ends the input: what is still to come of it, if anything. To be called until it gives nothing.
    pub(super) fn finish(&mut self) -> Option<Result<Value, Error>> {
        match scanner::end(self.state) {
            Some(kind) => {
                self.state = State::Start;
                if let Some(parsed) = self.add_token(kind) {
                    return Some(parsed);
                }
            }
            None if matches!(self.state, State::Start | State::Recovery) => {}
            None => {
                let error = stray_error(&self.held[self.token_start..]);
                self.reset();
                return Some(Err(error));
            }
        }
        (self.tokens > 0).then(|| self.parse())
    }

    fn token_len(&self) -> usize {
        self.held.len() - self.token_start
    }

    /// Moves `count` bytes from the front of `input` to the end of the current token.
    fn take(&mut self, input: &mut &[u8], count: usize) {
        let (taken, rest) = input.split_at(count);
        self.held.extend_from_slice(taken);
        *input = rest;
    }

    /// Counts the current token as one of `kind`. Gives the value if it is the last one, or the limit that it breaks.
    fn add_token(&mut self, kind: Kind) -> Option<Result<Value, Error>> {
        match kind {
            Kind::OpenBrace => self.braces += 1,
            Kind::CloseBrace => self.braces -= 1,
            Kind::OpenBracket => self.brackets += 1,
            Kind::CloseBracket => self.brackets -= 1,
            _ => {}
        }
        if let Err(error) = self.check_limits() {
            self.discard();
            return Some(Err(error));
        }
        self.tokens += 1;
        self.token_bytes += self.token_len();
        self.token_start = self.held.len();
        let open = self.braces > 0 || self.brackets > 0;
        let sane = self.braces >= 0 && self.brackets >= 0;
        (!(open && sane)).then(|| self.parse())
    }

    /// The limits in the order in which QEMU checks them, with the current token not yet counted.
    fn check_limits(&self) -> Result<(), Error> {
        let depth = self.braces + self.brackets;
        if self.token_bytes + self.token_len() + 1 > self.limits.bytes {
            Err(token_size_error())
        } else if self.tokens + 1 > self.limits.tokens {
            Err(Error::generic("JSON token count limit exceeded"))
        } else if depth > 0 && depth.unsigned_abs() > self.limits.nesting {
            Err(Error::generic("JSON nesting depth limit exceeded"))
        } else {
            Ok(())
        }
    }

    fn parse(&mut self) -> Result<Value, Error> {
        let parsed = parser::parse(&self.held);
        self.discard();
        parsed
    }

    /// Drops what is held and gives its memory back.
    fn discard(&mut self) {
        self.held = Vec::new();
        self.token_start = 0;
        self.tokens = 0;
        self.token_bytes = 0;
        self.braces = 0;
        self.brackets = 0;
    }
}

fn token_size_error() -> Error {
    Error::generic("JSON token size limit exceeded")
}

/// The error for a token that ends in an offending byte. A NUL ends QEMU's text early; it can only be that byte.
fn stray_error(token: &[u8]) -> Error {
    let shown = token.strip_suffix(b"\0").unwrap_or(token);
    Error::generic(format!("JSON parse error, stray '{}'", utf8::lossy(shown)))
}
