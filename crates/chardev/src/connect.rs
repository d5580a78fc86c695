//! Client mode: connecting, and connecting again.

use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;

use crate::connection::Peer;
use crate::error::OpenError;
use crate::stream::Stream;
use crate::unix::{Name, connect_to};

/// Where to connect to.
#[derive(Debug)]
pub(crate) enum Target {
    Unix {
        path: PathBuf,
        abstract_name: bool,
        tight: bool,
    },
    #[cfg(feature = "tcp")]
    Tcp(crate::tcp::TcpAddress),
}

/// How long one attempt may take. A listener whose backlog is full, or a host that does not answer, could make it last for
/// minutes or for ever, and whoever asked for it keeps a place at a monitor until it ends.
const LONGEST_ATTEMPT: Duration = Duration::from_secs(10);

impl Target {
    /// Makes one attempt, of 10 s at most.
    pub(crate) async fn connect(&self) -> Result<(Stream, Peer), OpenError> {
        let attempt = tokio::time::timeout(LONGEST_ATTEMPT, self.attempt()).await;
        attempt.unwrap_or_else(|_| {
            Err(OpenError::Connect { address: self.text(), source: Errno::TIMEDOUT.into() })
        })
    }

    fn text(&self) -> String {
        match self {
            Self::Unix { path, .. } => path.display().to_string(),
            #[cfg(feature = "tcp")]
            Self::Tcp(address) => address.text(),
        }
    }

    async fn attempt(&self) -> Result<(Stream, Peer), OpenError> {
        match self {
            Self::Unix { path, abstract_name, tight } => {
                let name = Name { path, abstract_name: *abstract_name, tight: *tight };
                let stream = connect_to(name).await?;
                let peer = Peer::of_unix(&stream, format!("unix:{}", name.text()));
                Ok((Stream::unix(stream), peer))
            }
            #[cfg(feature = "tcp")]
            Self::Tcp(address) => address.connect().await,
        }
    }
}

/// When to try next. Like [`Backoff`](crate::backoff::Backoff), but at the user's interval, which also separates the end
/// of one connection from the next attempt.
#[derive(Debug, Default)]
pub(crate) struct Redial {
    until: Option<Instant>,
    /// The last attempt succeeded, so the next is due an interval after now.
    connected: bool,
    /// A failure has been logged since the last success.
    reported: bool,
}

impl Redial {
    /// The next connection, however long it takes; called when the last one has gone. May be dropped at any time.
    pub(crate) async fn next(&mut self, id: &str, target: &Target, interval: Duration) -> (Stream, Peer) {
        if std::mem::take(&mut self.connected) {
            self.until = Some(Instant::now() + interval);
        }
        loop {
            if let Some(until) = self.until {
                tokio::time::sleep_until(until).await;
                self.until = None;
            }
            match target.connect().await {
                Ok(connection) => {
                    *self = Self { connected: true, ..Self::default() };
                    return connection;
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.reported, true) {
                        tracing::warn!("Unable to connect character device {id}: {error}");
                    }
                    self.until = Some(Instant::now() + interval);
                }
            }
        }
    }
}
