//! A listening socket of either family.

use std::io;
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use fd_closer::Received;
use tokio::net::UnixListener;

use crate::aside::watched;
use crate::connection::Peer;
use crate::given_listener::GivenListener;
use crate::socket_file::SocketFile;
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) enum Listener {
    /// Made here, and nobody else's.
    Unix {
        listener: OwnListener,
        /// What its clients are called in logs.
        name: Arc<str>,
        /// Unlinked with the listener.
        _file: Option<SocketFile>,
    },
    /// Made here, and nobody else's. (What its backlog holds has no descriptors in it, and the kernel does not let it
    /// linger.)
    #[cfg(feature = "tcp")]
    Tcp(tokio::net::TcpListener),
    /// Given.
    Given {
        listener: GivenListener,
        /// What its clients are called in logs.
        name: Arc<str>,
        #[cfg(feature = "tcp")]
        tcp: bool,
    },
}

impl Listener {
    /// The next client. `None`: it had gone before it could be taken, which says nothing about the next one. May be dropped
    /// at any time; no client is lost.
    ///
    /// # Errors
    /// Nobody can be accepted now.
    pub(crate) async fn accept(&self) -> io::Result<Option<(Stream, Peer)>> {
        match self {
            Self::Unix { listener, name, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::of_unix(&stream, name.clone());
                Ok(Some((Stream::unix(stream), peer)))
            }
            // One that was reset in the backlog is accepted like any other, and has no address any more.
            #[cfg(feature = "tcp")]
            Self::Tcp(listener) => Ok(crate::tcp::stream(listener.accept().await?.0.into()).ok()),
            Self::Given {
                listener,
                name,
                #[cfg(feature = "tcp")]
                tcp,
            } => {
                let client = Received::from(listener.accept().await?);
                #[cfg(feature = "tcp")]
                if *tcp {
                    return Ok(crate::tcp::stream(watched(client, tokio::net::TcpStream::from_std)?).ok());
                }
                let stream = watched(client, tokio::net::UnixStream::from_std)?;
                let peer = Peer::of_unix(&stream, name.clone());
                Ok(Some((Stream::unix(stream), peer)))
            }
        }
    }

    /// Whether its clients' credentials are known.
    pub(crate) fn is_unix(&self) -> bool {
        match self {
            Self::Unix { .. } => true,
            #[cfg(feature = "tcp")]
            Self::Tcp(_) => false,
            #[cfg(feature = "tcp")]
            Self::Given { tcp, .. } => !tcp,
            #[cfg(not(feature = "tcp"))]
            Self::Given { .. } => true,
        }
    }

    /// Where a TCP listener listens. `None` for others.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Unix { .. } => None,
            #[cfg(feature = "tcp")]
            Self::Tcp(listener) => listener.local_addr().ok(),
            #[cfg(feature = "tcp")]
            Self::Given { listener, .. } => rustix::net::getsockname(listener.socket()).ok()?.try_into().ok(),
            #[cfg(not(feature = "tcp"))]
            Self::Given { .. } => None,
        }
    }
}

/// A unix listener that nobody else has. What waits in its backlog is closed where nobody waits.
#[derive(Debug)]
pub(crate) struct OwnListener(Option<UnixListener>);

impl From<UnixListener> for OwnListener {
    fn from(listener: UnixListener) -> Self {
        Self(Some(listener))
    }
}

impl Deref for OwnListener {
    type Target = UnixListener;

    fn deref(&self) -> &UnixListener {
        match &self.0 {
            Some(listener) => listener,
            None => unreachable!("only drop takes it"),
        }
    }
}

impl Drop for OwnListener {
    fn drop(&mut self) {
        // An error says that the runtime is gone, and closes it here.
        if let Some(Ok(listener)) = self.0.take().map(UnixListener::into_std) {
            fd_closer::close_listener(OwnedFd::from(listener));
        }
    }
}
