//! QMP without I/O: QEMU's JSON dialect in, replies and events out.
//!
//! A [`Decoder`] is fed the bytes a client sent, in slices of any size, and yields one [`Message`] per command:
//! a [`Request`], or a [`Malformed`] with the error that QEMU 7.2 gives. The `encode_*` functions append one line
//! each to a buffer: greeting, return, error, event. Nothing here reads, writes, sleeps or knows the time, so the
//! whole protocol can be tested, fuzzed and measured in memory.
//!
//! ```
//! use qmp_protocol::{Decoder, Format, Limits, Message, Payload, encode_error, encode_return};
//!
//! let mut decoder = Decoder::new(Limits::default());
//! let mut input: &[u8] = b"{'execute': 'query-name', 'id': 7} [1,]";
//! let mut output = Vec::new();
//! while let Some(message) = decoder.next(&mut input) {
//!     match message {
//!         Message::Request(request) => {
//!             assert_eq!(request.execute, "query-name");
//!             encode_return(&mut output, &Payload::empty(), request.id.as_ref(), Format::Compact);
//!         }
//!         Message::Malformed(bad) => encode_error(&mut output, &bad.error, bad.id.as_ref(), Format::Compact),
//!     }
//! }
//! assert_eq!(
//!     String::from_utf8(output).unwrap(),
//!     "{\"return\": {}, \"id\": 7}\r\n\
//!      {\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, expecting value\"}}\r\n"
//! );
//! ```
//!
//! The rooms inside: `value` is what JSON values are in memory, `decode` goes from bytes to messages, `encode` goes
//! from values to bytes, [`order`] holds the two hash orders that show on QEMU's wire.

mod decode;
mod encode;
mod error;
#[doc(hidden)]
pub mod fuzzing;
mod message;
pub mod order;
mod value;

pub use decode::{Decoder, Limits};
pub use encode::{
    Event, Format, Payload, Version, encode_error, encode_event, encode_event_with, encode_greeting,
    encode_return, encode_value,
};
pub use error::{EncodeError, Error, ErrorClass};
pub use message::{Malformed, Message, Request};
pub use value::{Iter, Number, Object, Value, to_value};

/// Keeps the example in the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
