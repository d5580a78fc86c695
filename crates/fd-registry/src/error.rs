//! What can go wrong, in QEMU 7.2's words.

use std::io;

/// Why a call on [`FdSets`](crate::FdSets) or [`NamedFds`](crate::NamedFds) failed. The texts are those that QEMU 7.2 gives its clients.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A set was asked for by a negative number.
    #[error("Parameter 'fdset-id' expects a non-negative value")]
    NegativeId,

    /// The set is another's: see [`FdSets::limited_to`](crate::FdSets::limited_to).
    #[error("File descriptor set {set} belongs to another monitor")]
    NotYours {
        /// The set.
        set: i64,
    },

    /// There are as many descriptors in sets as there may be.
    #[error("There are too many file descriptors in sets")]
    TooMany,

    /// As many descriptors have names as there may be.
    #[error("There are too many named file descriptors: close some (closefd)")]
    TooManyNames,

    /// The free texts of all descriptors are as long as they may be.
    #[error("The 'opaque' texts of all file descriptors in sets are too long")]
    OpaqueTooLong,

    /// No such set, or no such descriptor in it.
    #[error("File descriptor named 'fdset-id:{set}{}' not found", .fd.map_or(String::new(), |fd| format!(", fd:{fd}")))]
    NotFound {
        /// The set as the caller named it.
        set: i64,
        /// The descriptor as the caller named it, if it named one.
        fd: Option<i64>,
    },

    /// The path is not `/dev/fdset/` and a number.
    #[error("Could not parse fdset {path}")]
    Path {
        /// The path as given.
        path: String,
    },

    /// No duplicate could be made: `ENOENT` if there is no such set, `EACCES` if none of its descriptors has the
    /// access mode asked for, else what `dup` said (`EMFILE`).
    #[error("Could not dup FD for {path} flags {flags:x}: {}", without_number(.source))]
    Dup {
        /// The path as given.
        path: String,
        /// The open flags as given; printed in hexadecimal, as QEMU does.
        flags: u32,
        /// The reason.
        source: io::Error,
    },
}

/// The system's text of an error, without the "(os error 2)" that Rust puts behind it.
fn without_number(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" (os error ") {
        text.truncate(at);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_qemus() {
        assert_eq!(Error::NegativeId.to_string(), "Parameter 'fdset-id' expects a non-negative value");
        assert_eq!(
            Error::NotFound { set: 0, fd: None }.to_string(),
            "File descriptor named 'fdset-id:0' not found"
        );
        assert_eq!(
            Error::NotFound { set: -4, fd: Some(-1) }.to_string(),
            "File descriptor named 'fdset-id:-4, fd:-1' not found"
        );
        let source = rustix::io::Errno::NOENT.into();
        assert_eq!(
            Error::Dup { path: "/dev/fdset/9".into(), flags: 2, source }.to_string(),
            "Could not dup FD for /dev/fdset/9 flags 2: No such file or directory"
        );
        assert_eq!(
            Error::Path { path: "/dev/fdset/x".into() }.to_string(),
            "Could not parse fdset /dev/fdset/x"
        );
    }
}
