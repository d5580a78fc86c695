//! What a chardev is made of, as its user says it.

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use peer_admission::Allowed;

use thread_start::Starter;

use crate::badge::Badge;
use crate::opener::Opener;

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
    /// A file that is written. It has one client, from the start.
    File(FileOptions),
    /// The fifos `PATH.in`, which is read, and `PATH.out`, which is written; when they are not both there, `PATH` for
    /// both. It has one client, from the start.
    Pipe(PathBuf),
}

/// A file chardev's options, as `-chardev file` has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    /// What is written; it is made if it is not there.
    pub path: PathBuf,
    /// What is read. `None`: there is never any input, and no end of it.
    pub input: Option<PathBuf>,
    /// Keep what is in the file.
    pub append: bool,
}

/// What goes for all kinds of chardev.
#[derive(Clone)]
#[non_exhaustive]
pub struct OpenOptions {
    /// A listener's: how many clients may wait besides those that the front end has taken (the kernel adds one).
    pub backlog: u32,
    /// Whose the chardev is.
    pub badge: Option<Badge>,
    /// Everything that is sent to clients is noted there, too.
    pub log: Option<LogOptions>,
    /// Opens files.
    pub opener: Opener,
    /// Starts the threads on which files are opened, and clients of listeners that are others' too accepted.
    pub starter: Starter,
}

impl OpenOptions {
    /// Nobody's, without a log, opening files by their names.
    #[must_use]
    pub fn new(backlog: u32) -> Self {
        Self { backlog, badge: None, log: None, opener: Opener::default(), starter: Starter::default() }
    }

    /// With this badge.
    #[must_use]
    pub fn badge(mut self, badge: Option<Badge>) -> Self {
        self.badge = badge;
        self
    }

    /// With this log.
    #[must_use]
    pub fn log(mut self, log: Option<LogOptions>) -> Self {
        self.log = log;
        self
    }

    /// With this opener.
    #[must_use]
    pub fn opener(mut self, opener: Opener) -> Self {
        self.opener = opener;
        self
    }

    /// With threads that this starts.
    #[must_use]
    pub fn starter(mut self, starter: Starter) -> Self {
        self.starter = starter;
        self
    }
}

impl fmt::Debug for OpenOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { backlog, log, .. } = self;
        f.debug_struct("OpenOptions").field("backlog", backlog).field("log", log).finish_non_exhaustive()
    }
}

/// Where a chardev's output is noted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// The file; it is made if it is not there.
    pub path: PathBuf,
    /// Keep what is in it.
    pub append: bool,
}

/// A socket chardev's options, as `-chardev socket` has them.
#[derive(Debug)]
pub struct SocketOptions {
    /// Where to listen or connect to.
    pub address: Address,
    /// Listen (`true`) or connect. An [`Address::Fd`] that is listening is a listener in either case.
    pub server: bool,
    /// For a listener: opening it waits for the first client.
    pub wait: bool,
    /// For a client: a failing or ended connection is made anew after this long. `None`: it is made once, by opening.
    pub reconnect: Option<Duration>,
    /// For a unix listener: who may connect. Others are closed unheard, and are no clients in any count. The socket's file
    /// has mode 0666 if others than this process's user are listed, else 0600. Without lists an abstract name, which
    /// has no file, admits root and this process's user; a listener that was given ([`Address::Fd`]) admits whom its
    /// giver let reach it. Whoever is [handed in](crate::Chardev::attach) is held against the lists too.
    pub allowed: Allowed,
    /// For a TCP listener that is made here: it may be reached from other hosts. Nothing is encrypted, and nobody is asked
    /// who they are. One that was given is its giver's decision.
    pub insecure: bool,
}

impl SocketOptions {
    /// A listener that does not wait.
    #[must_use]
    pub fn server(address: Address) -> Self {
        Self { server: true, ..Self::client(address) }
    }

    /// A client that connects once.
    #[must_use]
    pub fn client(address: Address) -> Self {
        let allowed = Allowed::ANYBODY;
        Self { address, server: false, wait: false, reconnect: None, allowed, insecure: false }
    }

    /// For these users and groups only.
    #[must_use]
    pub fn allowed(mut self, allowed: Allowed) -> Self {
        self.allowed = allowed;
        self
    }

    /// For other hosts too.
    #[must_use]
    pub fn insecure(mut self, insecure: bool) -> Self {
        self.insecure = insecure;
        self
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
        /// `host` must be an address: no name is looked up.
        numeric: bool,
        /// When connecting: the kernel looks after a peer that is silent.
        keep_alive: bool,
    },
    /// A stream socket that the process has been given: a listening one gives clients, a connected one is the client.
    Fd {
        /// The socket.
        fd: OwnedFd,
        /// What it is called, for messages: a number or a name.
        name: String,
    },
}

impl Address {
    /// A unix socket in the file system.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self::Unix { path: path.into(), abstract_name: false, tight: true }
    }
}
