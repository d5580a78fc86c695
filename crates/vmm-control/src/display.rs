//! Displays of an author's, as far as `add_client` goes: it hands them a client's socket.

use std::fmt;

use fd_closer::Received;

use crate::CommandResult;

/// The displays that `add_client` knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisplayProtocol {
    /// `vnc`
    Vnc,
    /// `spice`
    Spice,
    /// `@dbus-display`
    DbusDisplay,
}

impl DisplayProtocol {
    /// The name in `add_client`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Vnc => "vnc",
            Self::Spice => "spice",
            Self::DbusDisplay => "@dbus-display",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::Vnc, Self::Spice, Self::DbusDisplay].into_iter().find(|protocol| protocol.name() == name)
    }
}

/// A client that `add_client` brought.
#[derive(Debug)]
pub struct DisplayClient {
    /// Its socket, of whatever family and in whatever state the sender left it. It is the acceptor's; dropped, it is
    /// closed where nobody waits.
    pub socket: Received,
    /// The sender asks that the client be let in without authentication. False when it did not say.
    pub skip_auth: bool,
    /// The sender asks for TLS. False when it did not say.
    pub tls: bool,
}

/// Takes a display's clients. Registered with [`Builder::display_acceptor`](crate::Builder::display_acceptor).
pub trait Acceptor: Send + Sync + 'static {
    /// Takes over a client. It must not block; what takes time belongs on a task of the acceptor's own.
    ///
    /// # Errors
    /// Whatever is against it; the sender sees it.
    fn accept(&self, client: DisplayClient) -> CommandResult<()>;
}

impl fmt::Debug for dyn Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}
