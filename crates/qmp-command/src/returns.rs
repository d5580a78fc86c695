//! What handlers return, on its way to the wire.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use qmp_protocol::{EncodeError, Format, Payload};
use serde::Serialize;

use crate::schema::{QapiType, TypeRef, Types};

/// What a handler can return: anything that serializes, or what was encoded before ([`Encoded`]).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a command's return value",
    note = "derive `serde::Serialize` for it"
)]
pub trait Returns: 'static {
    /// The bytes that go into a reply of this form. `()` is the empty object, as QEMU's commands without a return
    /// value return one.
    ///
    /// # Errors
    /// When a `Serialize` implementation fails, or a map's keys are no strings.
    fn encode(&self, format: Format) -> Result<Payload, EncodeError>;
}

impl<T: Serialize + 'static> Returns for T {
    fn encode(&self, format: Format) -> Result<Payload, EncodeError> {
        if (self as &dyn Any).is::<()>() { Ok(Payload::empty()) } else { Payload::encode(self, format) }
    }
}

/// A return value of type `T` that never changes: encoded once, cloned by counting.
///
/// For what is large and asked for often, such as a schema.
///
/// ```
/// use qmp_command::{Command, Context, Encoded};
/// let list = Encoded::new(&vec![1, 2, 3])?;
/// let command = Command::new("x-list").read_only().handler(move |_: Context, (): ()| {
///     std::future::ready(Ok(list.clone()))
/// });
/// # Ok::<(), qmp_protocol::EncodeError>(())
/// ```
pub struct Encoded<T> {
    compact: Arc<[u8]>,
    pretty: Arc<[u8]>,
    of: PhantomData<fn() -> T>,
}

impl<T: Serialize> Encoded<T> {
    /// Encodes `value` in both forms.
    ///
    /// # Errors
    /// As [`Payload::encode`].
    pub fn new(value: &T) -> Result<Self, EncodeError> {
        let encode = |format| Payload::encode(value, format).map(|payload| Arc::from(payload.as_bytes()));
        Ok(Self { compact: encode(Format::Compact)?, pretty: encode(Format::Pretty)?, of: PhantomData })
    }
}

impl<T> Clone for Encoded<T> {
    fn clone(&self) -> Self {
        Self { compact: self.compact.clone(), pretty: self.pretty.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for Encoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("bytes", &self.compact.len()).finish_non_exhaustive()
    }
}

impl<T: 'static> Returns for Encoded<T> {
    fn encode(&self, format: Format) -> Result<Payload, EncodeError> {
        Ok(match format {
            _ if *self.compact == *b"{}" => Payload::empty(),
            Format::Compact => Payload::shared(self.compact.clone()),
            Format::Pretty => Payload::shared(self.pretty.clone()),
        })
    }
}

impl<T: QapiType> QapiType for Encoded<T> {
    const OPTIONAL: bool = T::OPTIONAL;

    fn describe(types: &mut Types) -> TypeRef {
        T::describe(types)
    }

    fn describe_member(types: &mut Types) -> TypeRef {
        T::describe_member(types)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_before_is_as_encoded_now() {
        let value = vec!["a", "b"];
        let encoded = Encoded::new(&value).unwrap();
        for format in [Format::Compact, Format::Pretty] {
            let (now, before) = (value.encode(format).unwrap(), encoded.clone().encode(format).unwrap());
            assert_eq!(now.as_bytes(), before.as_bytes());
        }
        assert_eq!(Encoded::<Vec<u8>>::describe(&mut Types::new()), Vec::<u8>::describe(&mut Types::new()));
    }

    #[test]
    fn nothing_is_an_empty_object() {
        assert_eq!(().encode(Format::Pretty).unwrap().as_bytes(), b"{}");
        let empty = Encoded::new(&serde_json::json!({})).unwrap();
        assert_eq!(empty.encode(Format::Pretty).unwrap().as_bytes(), b"{}");
    }
}
