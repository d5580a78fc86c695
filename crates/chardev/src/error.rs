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
    /// The listening TCP socket could not be made.
    #[error("Failed to bind socket: {}", reason(.source))]
    BindTcp {
        /// The reason.
        source: io::Error,
    },
    /// A TCP port, or each of several, is taken.
    #[error("Failed to find an available port: {}", reason(.source))]
    NoPort {
        /// The last reason.
        source: io::Error,
    },
    /// A TCP listener could be reached from other hosts.
    #[error(
        "Listening on {address} would let other hosts in, without encryption or authentication; give a loopback address \
         (127.0.0.1 or ::1), or insecure=on if that is meant"
    )]
    NotLoopback {
        /// The first address that is not this host's alone.
        address: String,
    },
    /// Users or groups are listed for what is no listening unix socket: there nobody can be told apart.
    #[error("'{option}' needs a listening unix socket")]
    NotAUnixListener {
        /// Which list.
        option: &'static str,
    },
    /// A given descriptor is no socket.
    #[error("File descriptor '{name}' is not a socket")]
    FdNotASocket {
        /// What the descriptor is called.
        name: String,
    },
    /// A given socket is to listen and cannot.
    #[error("Failed to listen on fd socket: {}", reason(.source))]
    FdListen {
        /// The reason.
        source: io::Error,
    },
    /// A given socket cannot be used.
    #[error("File descriptor '{name}' cannot be used: {}", reason(.source))]
    Fd {
        /// What the descriptor is called.
        name: String,
        /// The reason.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("Could not open '{}': {}", .path.display(), reason(.source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A log cannot be opened.
    #[error("Could not create '{}': {}", .path.display(), reason(.source))]
    Create {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// What has been opened cannot be used.
    #[error("Failed to set FD nonblocking: {}", reason(.source))]
    Unusable {
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

/// Why a client could not be handed to a chardev.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The chardev is no socket.
    #[error("the chardev is not a socket")]
    NotASocketChardev,
    /// The chardev has as many clients as it can have.
    #[error("the chardev has no room for another client")]
    Full,
    /// The client is not among those that may connect.
    #[error("the client is not among those that may connect")]
    Refused,
    /// The descriptor is no connected stream socket of a known family.
    #[error("the client cannot be used: {}", reason(.source))]
    Unusable {
        /// The reason.
        source: io::Error,
    },
}

/// The system's text of an error, without the "(os error 2)" that Rust puts behind it: as QEMU has it in its own texts.
#[must_use]
pub fn reason(error: &io::Error) -> String {
    let mut text = error.to_string();
    if let Some(at) = text.rfind(" (os error ") {
        text.truncate(at);
    }
    // Rust's library says first what it tried.
    text.strip_prefix("failed to lookup address information: ").map(str::to_owned).unwrap_or(text)
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
