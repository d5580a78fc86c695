//! The decoder's error, and all of QAPI's texts for arguments.

use std::fmt;

use qmp_protocol::Error;
use serde::de::{self, Expected, Unexpected};

use super::path::Path;

/// What does not fit.
///
/// The decoder's own errors know their place from the start. Those that a type's serde implementation makes do not; the
/// place is added by the first member or element on their way out.
#[derive(Debug)]
pub(crate) enum DecodeError {
    /// The final text.
    Text(String),
    /// A value of the wrong type, at the place where it passes next.
    Type {
        expected: String,
    },
    /// A value of the right type that is not accepted, likewise.
    Value {
        expected: String,
    },
    /// A member, of the object that it passes next, that is absent or should be.
    Missing {
        member: &'static str,
    },
    Unexpected {
        member: String,
    },
    /// An enum's value, likewise.
    Variant {
        value: String,
    },
}

impl DecodeError {
    pub(crate) fn missing(path: &Path<'_>) -> Self {
        Self::Text(format!("Parameter '{}' is missing", path.full()))
    }

    pub(crate) fn wrong_type(path: &Path<'_>, expected: impl fmt::Display) -> Self {
        Self::Text(format!("Invalid parameter type for '{}', expected: {expected}", path.full()))
    }

    pub(crate) fn unexpected(path: &Path<'_>) -> Self {
        Self::Text(format!("Parameter '{}' is unexpected", path.full()))
    }

    /// Takes the last name alone, as QEMU does.
    pub(crate) fn not_a_value(path: &Path<'_>, value: &str) -> Self {
        Self::Text(format!("Parameter '{}' does not accept value '{value}'", path.last()))
    }

    /// Takes the last name alone, as QEMU does.
    pub(crate) fn out_of_range(path: &Path<'_>, expected: &str) -> Self {
        Self::Text(format!("Parameter '{}' expects {expected}", path.last()))
    }

    /// Takes the whole path, unlike [`out_of_range`](Self::out_of_range).
    pub(crate) fn expects(path: &Path<'_>, expected: impl fmt::Display) -> Self {
        Self::Text(format!("Parameter '{}' expects {expected}", path.full()))
    }

    pub(crate) fn too_long(path: &Path<'_>, expected: usize) -> Self {
        Self::Text(format!("Only {expected} list elements expected in {}", path.full()))
    }

    /// Adds the place, if it is not there.
    pub(crate) fn at(self, path: &Path<'_>) -> Self {
        match self {
            Self::Text(text) => Self::Text(text),
            Self::Type { expected } => Self::wrong_type(path, expected),
            Self::Value { expected } => Self::expects(path, expected),
            Self::Missing { member } => Self::missing(&Path::Member { parent: path, name: member }),
            Self::Unexpected { member } => Self::unexpected(&Path::Member { parent: path, name: &member }),
            Self::Variant { value } => Self::not_a_value(path, &value),
        }
    }

    pub(crate) fn into_qmp(self, path: &Path<'_>) -> Error {
        let Self::Text(text) = self.at(path) else { return Error::generic("Invalid arguments") };
        Error::generic(text)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            other => write!(f, "{other:?}"),
        }
    }
}

impl std::error::Error for DecodeError {}

impl de::Error for DecodeError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Text(message.to_string())
    }

    fn invalid_type(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Type { expected: expected.to_string() }
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Self::Value { expected: expected.to_string() }
    }

    fn invalid_length(_: usize, expected: &dyn Expected) -> Self {
        Self::Value { expected: expected.to_string() }
    }

    fn unknown_variant(value: &str, _: &'static [&'static str]) -> Self {
        Self::Variant { value: value.to_owned() }
    }

    fn unknown_field(member: &str, _: &'static [&'static str]) -> Self {
        Self::Unexpected { member: member.to_owned() }
    }

    fn missing_field(member: &'static str) -> Self {
        Self::Missing { member }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::Error as _;

    use super::*;

    #[test]
    fn a_place_is_added_once() {
        let list = Path::Member { parent: &Path::Root, name: "list" };
        let element = Path::Element { parent: &list, index: 0 };
        let text = |error: DecodeError| error.at(&element).at(&list).to_string();
        assert_eq!(text(DecodeError::missing_field("x")), "Parameter 'list[0].x' is missing");
        assert_eq!(text(DecodeError::unknown_field("x", &[])), "Parameter 'list[0].x' is unexpected");
        assert_eq!(
            text(DecodeError::unknown_variant("x", &[])),
            "Parameter 'null' does not accept value 'x'"
        );
        assert_eq!(
            text(DecodeError::invalid_type(Unexpected::Unit, &"a port")),
            "Invalid parameter type for 'list[0]', expected: a port"
        );
        assert_eq!(text(DecodeError::invalid_length(3, &"two")), "Parameter 'list[0]' expects two");
        assert_eq!(text(DecodeError::custom("as it is")), "as it is");
    }
}
