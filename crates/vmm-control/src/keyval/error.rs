//! What is wrong with a text of `key=value,...`. Every text is QEMU's.

/// What is wrong with a text of `key=value,...`, or with its values.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyvalError {
    /// A key that no key can be.
    #[error("Invalid parameter '{0}'")]
    InvalidKey(String),
    /// A part of a key that is longer than QEMU allows.
    #[error("Parameter{} '{name}' is too long", if *.fragment { " fragment" } else { "" })]
    TooLong {
        /// The part.
        name: String,
        /// Whether it is not the whole key.
        fragment: bool,
    },
    /// A key of more parts than anything needs.
    #[error("Parameter '{0}' is nested too deeply")]
    TooDeep(String),
    /// A key without a value.
    #[error("Expected '=' after parameter '{0}'")]
    NoValue(String),
    /// `a` and `a.b`, or `a.0` and `a.b`.
    #[error("Parameters '{0}*' used inconsistently")]
    Inconsistent(String),
    /// A list's element that was left out.
    #[error("Parameter '{0}' missing")]
    MissingElement(String),
    /// A mandatory member that was left out.
    #[error("Parameter '{0}' is missing")]
    Missing(String),
    /// A member that there is not.
    #[error("Parameter '{0}' is unexpected")]
    Unexpected(String),
    /// Members of a member that has none.
    #[error("Parameters '{0}.*' are unexpected")]
    UnexpectedMembers(String),
    /// A text where there should be members or elements.
    #[error("Invalid parameter type for '{name}', expected: {expected}")]
    WrongType {
        /// The member.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A text that is no value of its member's type.
    #[error("Parameter '{name}' expects {expected}")]
    Expects {
        /// The member.
        name: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A text that its member's enum does not have.
    #[error("Parameter '{name}' does not accept value '{value}'")]
    NotAccepted {
        /// The member.
        name: String,
        /// The text.
        value: String,
    },
}
