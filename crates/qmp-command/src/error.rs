//! The error a handler returns.

use std::any::Any;
use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;

use qmp_protocol::{Error, ErrorClass};

/// What a handler fails with: a QMP error class and a description for the client.
///
/// Any `std` error converts into one with `?`: its text becomes the description and its class is
/// `GenericError`, except that a [`qmp_protocol::Error`] keeps its own class. For that conversion to exist, this
/// type is not itself a `std::error::Error`.
///
/// ```
/// use qmp_command::CommandError;
/// use qmp_protocol::ErrorClass;
///
/// fn parse(s: &str) -> Result<u32, CommandError> {
///     Ok(s.parse::<u32>()?)
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
///
/// let e = CommandError::generic("no such thing").class(ErrorClass::DeviceNotFound);
/// assert_eq!(e.as_qmp().class, ErrorClass::DeviceNotFound);
/// ```
pub struct CommandError(Error);

impl CommandError {
    /// An error of class `GenericError`, as nearly all of QMP's are.
    pub fn generic(desc: impl Into<Cow<'static, str>>) -> Self {
        Self(Error::generic(desc))
    }

    /// The same error in another class. Clients branch on the class, so use only what QEMU uses in the same place.
    #[must_use]
    pub fn class(mut self, class: ErrorClass) -> Self {
        self.0.class = class;
        self
    }

    /// What the client will see.
    pub fn as_qmp(&self) -> &Error {
        &self.0
    }

    /// What the client will see.
    pub fn into_qmp(self) -> Error {
        self.0
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl<E: StdError + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        match (&error as &dyn Any).downcast_ref::<Error>() {
            Some(qmp) => Self(qmp.clone()),
            None => Self::generic(error.to_string()),
        }
    }
}

impl From<CommandError> for Box<dyn StdError + Send + Sync> {
    fn from(error: CommandError) -> Self {
        Box::new(error.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_qmp_error_keeps_its_class_through_the_question_mark() {
        fn inner() -> Result<(), Error> {
            Err(Error::new(ErrorClass::DeviceNotActive, "off"))
        }
        fn outer() -> Result<(), CommandError> {
            Ok(inner()?)
        }
        let e = outer().unwrap_err();
        assert_eq!((e.as_qmp().class, e.to_string().as_str()), (ErrorClass::DeviceNotActive, "off"));
    }

    #[test]
    fn survives_the_trip_through_a_boxed_error() {
        let boxed: Box<dyn StdError + Send + Sync> =
            CommandError::generic("x").class(ErrorClass::DeviceNotFound).into();
        let back = boxed.downcast::<Error>().unwrap();
        assert_eq!(back.class, ErrorClass::DeviceNotFound);
    }
}
