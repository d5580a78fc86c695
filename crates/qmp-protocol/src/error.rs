//! The errors of the wire, and the one error of encoding.

use std::borrow::Cow;
use std::fmt;

/// The `class` member of an error reply. Clients branch on it, so it is a closed list on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorClass {
    /// Everything that has no class of its own, which is nearly everything.
    GenericError,
    /// No such command, or not now: negotiation pending, or already done.
    CommandNotFound,
    /// The named device or object does not exist.
    DeviceNotFound,
    /// The device or display is not in use.
    DeviceNotActive,
    /// KVM lacks the capability that the command needs.
    KVMMissingCap,
}

impl ErrorClass {
    /// The class as it stands on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GenericError => "GenericError",
            Self::CommandNotFound => "CommandNotFound",
            Self::DeviceNotFound => "DeviceNotFound",
            Self::DeviceNotActive => "DeviceNotActive",
            Self::KVMMissingCap => "KVMMissingCap",
        }
    }
}

impl fmt::Display for ErrorClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error reply's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What a client may branch on.
    pub class: ErrorClass,
    /// What a human reads. Any text; it is escaped when it is encoded.
    pub desc: Cow<'static, str>,
}

impl Error {
    /// An error of the given class.
    pub fn new(class: ErrorClass, desc: impl Into<Cow<'static, str>>) -> Self {
        Self { class, desc: desc.into() }
    }

    /// An error of class [`ErrorClass::GenericError`].
    pub fn generic(desc: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorClass::GenericError, desc)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.desc)
    }
}

impl std::error::Error for Error {}

/// A Rust value that cannot be written as JSON: a map with keys that are not strings, or a `Serialize`
/// implementation that gave up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodeError {
    message: String,
}

impl EncodeError {
    pub(crate) fn new(message: impl fmt::Display) -> Self {
        Self { message: message.to_string() }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::new(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_displays_its_description() {
        let error = Error::generic("Parameter 'fdname' is missing");
        assert_eq!(error.to_string(), "Parameter 'fdname' is missing");
        assert_eq!(error.class.to_string(), "GenericError");
    }
}
