//! The decoder's promises as one function, which the fuzz target and the smoke test call with hostile bytes.

use crate::{Decoder, Format, Limits, Message, Payload, encode_error, encode_return};

/// What the buffer may hold beyond twice the bytes received: a `Vec`'s first step.
const SLACK: usize = 16;

/// Feeds `data` to decoders in several ways and panics if a promise is broken:
///
/// * the messages, and where each ends, depend neither on how the input is cut nor on the fast path;
/// * unfinished input is held in at most about twice its size;
/// * what is answered is ASCII.
pub fn check(data: &[u8]) {
    let tight = Limits { nesting: 5, tokens: 30, bytes: 90 };
    for limits in [Limits::default(), tight] {
        for oob in [false, true] {
            let decoder = |exact| {
                let new = if exact { Decoder::new_exact } else { Decoder::new };
                let mut decoder = new(limits.clone());
                decoder.set_oob(oob);
                decoder
            };
            let expected = trace(decoder(true), data, |_| usize::MAX);
            expected.iter().for_each(|(_, message, _)| drop(reply(message, Format::Pretty)));
            assert_eq!(trace(decoder(false), data, |_| usize::MAX), expected, "the fast path differs");
            assert_eq!(trace(decoder(true), data, |_| 1), expected, "cutting at every byte differs");
            assert_eq!(trace(decoder(false), data, |_| 1), expected, "cutting at every byte differs, fast");
            let cut = |at: usize| 1 + usize::from(data[at].wrapping_mul(31) % 23);
            assert_eq!(trace(decoder(false), data, cut), expected, "cutting somewhere differs");
        }
    }
}

/// What a client could observe of one message: where it ended, what it was, what a simple server answers.
type Observed = (usize, Message, Vec<u8>);

/// Feeds `data` in pieces, each as long as `cut` says for the place where it begins.
fn trace(mut decoder: Decoder, data: &[u8], cut: impl Fn(usize) -> usize) -> Vec<Observed> {
    let mut observed = Vec::new();
    let (mut at, mut message_start) = (0, 0);
    while at < data.len() {
        let end = at.saturating_add(cut(at)).min(data.len());
        let mut piece = &data[at..end];
        while let Some(message) = decoder.next(&mut piece) {
            message_start = end - piece.len();
            let reply = reply(&message, Format::Compact);
            observed.push((message_start, message, reply));
        }
        assert!(piece.is_empty(), "input left over");
        at = end;
        let received = at - message_start;
        let held = decoder.held_bytes();
        assert!(held <= 2 * received + SLACK, "{held} bytes are held of {received}");
        assert!(!decoder.is_idle() || held == 0, "an idle decoder holds {held} bytes");
    }
    observed
}

/// The reply of a server that knows every command and returns its arguments.
fn reply(message: &Message, format: Format) -> Vec<u8> {
    let mut out = Vec::new();
    match message {
        Message::Request(request) => {
            let payload = Payload::encode(&request.arguments, format).unwrap_or_default();
            encode_return(&mut out, &payload, request.id.as_ref(), format);
        }
        Message::Malformed(bad) => encode_error(&mut out, &bad.error, bad.id.as_ref(), format),
    }
    assert!(out.is_ascii(), "a reply is not ASCII");
    out
}
