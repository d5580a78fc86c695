//! The decoder: what a session holds of its client's unfinished input.

use std::fmt;

use super::assembler::Assembler;
use super::fast;
use crate::message::Message;

/// What one value may cost before it is refused. The defaults are QEMU's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Brackets and braces open at one time.
    pub nesting: usize,
    /// Tokens: brackets, separators, scalars.
    pub tokens: usize,
    /// Bytes in tokens; white space between them is free.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { nesting: 1024, tokens: 2 << 20, bytes: 64 << 20 }
    }
}

/// Cuts a client's bytes into messages.
///
/// It may be fed slices of any size: where they are cut changes nothing. An error never ends it; like QEMU it goes on
/// at the next byte that makes sense. An idle decoder holds no heap memory.
///
/// ```
/// use qmp_protocol::{Decoder, Limits, Message};
///
/// let mut decoder = Decoder::new(Limits::default());
/// assert!(decoder.next(&mut &b"{\"execute\": \"st"[..]).is_none());
/// let mut input: &[u8] = b"op\"} {";
/// let Some(Message::Request(request)) = decoder.next(&mut input) else { panic!("not a request") };
/// assert_eq!(request.execute, "stop");
/// assert_eq!(input, b" {");
/// ```
pub struct Decoder {
    assembler: Assembler,
    oob: bool,
    fast: bool,
}

impl Decoder {
    /// A decoder with nothing held and out-of-band commands off.
    pub fn new(limits: Limits) -> Self {
        Self { assembler: Assembler::new(limits), oob: false, fast: true }
    }

    /// A decoder that never takes the shortcut for plain commands. For tests that compare the two ways.
    #[doc(hidden)]
    pub fn new_exact(limits: Limits) -> Self {
        Self { fast: false, ..Self::new(limits) }
    }

    /// Takes bytes from the front of `input` up to and including the last byte of the next message, or all of them
    /// and gives nothing.
    ///
    /// To be called until it gives nothing. A number or keyword outside of any object has no last byte of its own: it
    /// becomes a message when the byte after it is seen, and that byte stays in `input`. So such a message can take no byte.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Message> {
        if self.fast
            && self.assembler.is_at_start()
            && let Some(request) = fast::request(input, self.assembler.limits())
        {
            return Some(Message::Request(request));
        }
        self.assembler.feed(input).map(|parsed| Message::from_parsed(parsed, self.oob))
    }

    /// Says whether the session has out-of-band commands enabled: `exec-oob` is then a command's member, from the next
    /// message on.
    pub fn set_oob(&mut self, enabled: bool) {
        self.oob = enabled;
    }

    /// True if no byte of an unfinished message is held.
    pub fn is_idle(&self) -> bool {
        self.assembler.is_idle()
    }

    /// Heap memory held for unfinished input, in bytes: at most twice what was received of it, and a small constant.
    pub fn held_bytes(&self) -> usize {
        self.assembler.held_bytes()
    }

    /// Forgets unfinished input, if there is any, as if it had broken the limit of bytes, and gives the error for it: to be
    /// used when it is too much in the eyes of others. What is still to come of it is read as after such an error.
    pub fn refuse_unfinished(&mut self) -> Option<Message> {
        let parsed = Err(self.assembler.refuse()?);
        Some(Message::from_parsed(parsed, self.oob))
    }

    /// Forgets unfinished input, as when the client has gone. Whether out-of-band is enabled stays as it is.
    pub fn reset(&mut self) {
        self.assembler.reset();
    }
}

impl fmt::Debug for Decoder {
    /// Says how much is held, not what: it is a client's text, of any length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Decoder")
            .field("limits", self.assembler.limits())
            .field("oob", &self.oob)
            .field("held_bytes", &self.held_bytes())
            .finish_non_exhaustive()
    }
}
