//! Why a chardev could not be opened or taken.

use std::io;
use std::path::PathBuf;

/// Why a chardev could not be opened, or its front end not be taken. Where QEMU 7.2 has a text for it, it is that.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A unix socket's path or abstract name does not fit into an address.
    #[error("UNIX socket path '{}' is too long (at most 107 bytes)", .path.display())]
    PathTooLong {
        /// The path or name.
        path: PathBuf,
    },
    /// A unix socket's path or abstract name is empty.
    #[error("UNIX socket path is empty")]
    PathEmpty,
    /// Something that is no socket is where the socket should be. It is left alone (QEMU would delete it).
    #[error("Failed to unlink socket {}: the file is not a socket", .path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// An old socket could not be removed.
    #[error("Failed to unlink socket {}: {}", .path.display(), reason(.source))]
    Unlink {
        /// The path.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The listening socket could not be made.
    #[error("Failed to bind socket to {address}: {}", reason(.source))]
    Bind {
        /// The address.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// Nobody could be reached.
    #[error("Failed to connect to '{address}': {}", reason(.source))]
    Connect {
        /// The address.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// No address for a host.
    #[error("address resolution failed for {address}: {}", reason(.source))]
    Resolve {
        /// Host and port.
        address: String,
        /// The reason.
        source: io::Error,
    },
    /// An inherited descriptor cannot be used.
    #[error("fd {fd} cannot be used: {}", reason(.source))]
    Fd {
        /// The descriptor's number.
        fd: i32,
        /// The reason.
        source: io::Error,
    },
    /// Another chardev has stdin and stdout.
    #[error("cannot use stdio by multiple character devices")]
    StdioInUse,
    /// Stdin or stdout cannot be used.
    #[error("stdio cannot be used: {}", reason(.source))]
    Stdio {
        /// The reason.
        source: io::Error,
    },
    /// The chardev has a front end already.
    #[error("Device '{id}' is in use")]
    InUse {
        /// The chardev's id.
        id: String,
    },
}

/// The system's text of an error, without the "(os error 2)" that Rust puts behind it.
pub(crate) fn reason(error: &io::Error) -> String {
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
        let source = || rustix::io::Errno::NOENT.into();
        let error = OpenError::Connect { address: "/nope".into(), source: source() };
        assert_eq!(error.to_string(), "Failed to connect to '/nope': No such file or directory");
        let error = OpenError::Bind { address: "/nope/x".into(), source: source() };
        assert_eq!(error.to_string(), "Failed to bind socket to /nope/x: No such file or directory");
        assert_eq!(OpenError::InUse { id: "n".into() }.to_string(), "Device 'n' is in use");
    }
}
