//! What a chardev is made of, as its user says it.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

/// The kinds of chardev.
#[derive(Debug)]
#[non_exhaustive]
pub enum Backend {
    /// A socket: listening, connecting or inherited.
    Socket(SocketOptions),
    /// The process's own stdin and stdout. One chardev at a time can have them.
    Stdio,
    /// Nothing: never a client.
    Null,
}

/// A socket chardev's options, as `-chardev socket` has them.
#[derive(Debug)]
pub struct SocketOptions {
    /// Where to listen or connect to.
    pub address: Address,
    /// Listen (`true`) or connect. Not looked at for [`Address::Fd`], which shows what it is.
    pub server: bool,
    /// For a listener: opening it waits for the first client.
    pub wait: bool,
    /// For a client: a failing or ended connection is made anew after this long. `None`: it is made once, by opening.
    pub reconnect: Option<Duration>,
}

impl SocketOptions {
    /// A listener that does not wait.
    #[must_use]
    pub fn server(address: Address) -> Self {
        Self { address, server: true, wait: false, reconnect: None }
    }

    /// A client that connects once.
    #[must_use]
    pub fn client(address: Address) -> Self {
        Self { address, server: false, wait: false, reconnect: None }
    }
}

/// A socket's address.
#[derive(Debug)]
#[non_exhaustive]
pub enum Address {
    /// A unix socket.
    Unix {
        /// The file, or the abstract name (its bytes, without the leading zero byte); 1 to 107 bytes.
        path: PathBuf,
        /// The name is in Linux's abstract name space: no file, no file permissions.
        abstract_name: bool,
        /// An abstract name has exactly its own length; else it is filled with zero bytes up to 107.
        tight: bool,
    },
    /// A TCP socket.
    #[cfg(feature = "tcp")]
    Tcp {
        /// Name or address. Empty: all local addresses when listening.
        host: String,
        /// Port. 0 when listening: the kernel chooses (see [`Chardev::local_addr`](crate::Chardev::local_addr)).
        port: u16,
        /// When listening: take the first free port from `port` to this one.
        to: Option<u16>,
        /// Use IPv4: `None` if not said, which means yes unless `ipv6` is `Some(true)`.
        ipv4: Option<bool>,
        /// Use IPv6: `None` if not said, which means yes unless `ipv4` is `Some(true)`.
        ipv6: Option<bool>,
    },
    /// A stream socket that the process has been given: a listening one gives clients, a connected one is the client.
    Fd(OwnedFd),
}

impl Address {
    /// A unix socket in the file system.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix { path: path.into(), abstract_name: false, tight: true }
    }
}
