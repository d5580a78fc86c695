//! A listening socket of either family.

use std::io;

use tokio::net::UnixListener;

use crate::connection::Peer;
use crate::socket_file::SocketFile;
use crate::stream::Stream;

#[derive(Debug)]
pub(crate) enum Listener {
    Unix {
        listener: UnixListener,
        /// What its clients are called in logs.
        name: String,
        /// Unlinked with the listener.
        _file: Option<SocketFile>,
    },
    #[cfg(feature = "tcp")]
    Tcp(tokio::net::TcpListener),
}

impl Listener {
    /// The next client. May be dropped at any time; no client is lost.
    pub(crate) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Unix { listener, name, .. } => {
                let (stream, _) = listener.accept().await?;
                let peer = Peer::of_unix(&stream, name);
                Ok((Stream::Unix(stream.into()), peer))
            }
            #[cfg(feature = "tcp")]
            Self::Tcp(listener) => crate::tcp::stream(listener.accept().await?.0),
        }
    }
}
