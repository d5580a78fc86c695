//! A value encoded once and sent often.

use std::sync::Arc;

use serde::Serialize;
use serde_json::ser::Formatter;

use super::layout::{Format, Layout};
use super::written;
use crate::error::EncodeError;

/// The content of a `return` member or of an event's `data`, already encoded for a place one level deep.
///
/// The empty object, which most commands return, costs no memory; a shared one is cloned by counting.
///
/// ```
/// # use qmp_protocol::{Format, Payload};
/// let payload = Payload::encode(&[1.0, 0.1], Format::Compact).unwrap();
/// assert_eq!(payload.as_bytes(), b"[1, 0.10000000000000001]");
/// ```
#[derive(Clone, Debug)]
pub struct Payload(Content);

#[derive(Clone, Debug)]
enum Content {
    Empty,
    Owned(Vec<u8>),
    Shared(Arc<[u8]>),
}

impl Payload {
    /// `{}`, in whichever form it is sent.
    pub const fn empty() -> Self {
        Self(Content::Empty)
    }

    /// Encodes any value: structs in declaration order, [`crate::Object`]s in QEMU's. A double that is not finite becomes
    /// `null`. `format` must be the one of the message it goes into.
    ///
    /// # Errors
    ///
    /// If a map has keys that are no strings, or a `Serialize` implementation fails.
    pub fn encode<T: Serialize + ?Sized>(value: &T, format: Format) -> Result<Self, EncodeError> {
        let mut bytes = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, Layout::inside(format));
        value.serialize(&mut serializer).map_err(EncodeError::new)?;
        Ok(if bytes == b"{}" { Self::empty() } else { Self(Content::Owned(bytes)) })
    }

    /// Bytes that were encoded before, for instance a schema of 200 kB that every client asks for.
    ///
    /// They must be ASCII and one JSON value; that is not checked.
    pub fn shared(bytes: Arc<[u8]>) -> Self {
        Self(Content::Shared(bytes))
    }

    /// The encoded bytes; of the empty object its compact form.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Content::Empty => b"{}",
            Content::Owned(bytes) => bytes,
            Content::Shared(bytes) => bytes,
        }
    }

    /// Appends the payload as the value of a message's member.
    pub(super) fn append(&self, out: &mut Vec<u8>, layout: &mut Layout) {
        match &self.0 {
            Content::Empty => {
                written(layout.begin_object(out));
                written(layout.end_object(out));
            }
            _ => out.extend_from_slice(self.as_bytes()),
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::empty()
    }
}
