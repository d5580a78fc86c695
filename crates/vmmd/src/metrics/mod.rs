//! `-metrics`: what the plane and its commands count, for Prometheus, over HTTP on a unix socket.
//!
//! The library counts through the `metrics` crate's facade and leaves it to the program to collect. [`Recorder`] collects,
//! [`Figures`] makes a text of it, `http` answers requests, `io` carries their bytes. `crate::serve` calls this, and
//! only if the option is given: without it there is no recorder.
//!
//! What holds:
//!
//! * **The socket is a chardev's**, as monitors' are: its mode, who may connect, what happens when descriptors run out and
//!   how descriptors that clients send along are closed. It stands on no list of the plane's, so no monitor's client gets at it.
//! * **A client holds little, and not for long**: [`CLIENTS`] are served at once, others wait in the kernel's backlog. A
//!   connection is one request. Its head has a limit in bytes and one in time, and the whole of it has one in time, which
//!   ends those that do not read.
//! * **Nothing happens between requests**: figures are copied when they are asked for. There is no timer that ticks.
//! * **One text at a time is made**, and others have their turn in between.

mod http;
mod io;
mod recorder;

use std::sync::Arc;

use tokio::task::{JoinHandle, JoinSet};
use vmm_control::ControlPlane;
use vmm_control::chardev::FrontEnd;

pub(crate) use self::recorder::{Figures, Recorder};
use crate::config::Config;
use crate::serve::{self, StartError};

/// How many clients are served at once.
const CLIENTS: usize = 8;

/// Opens the socket that `config` names, if it does. Dropping what comes back removes it.
///
/// # Errors
/// It cannot be opened.
pub(crate) async fn open(config: &Config, plane: &ControlPlane) -> Result<Option<FrontEnd>, StartError> {
    let Some(chardev) = &config.metrics else { return Ok(None) };
    let opened = serve::open(chardev, CLIENTS, plane).await?;
    let place = opened.filename();
    tracing::info!("serving metrics on {}", place.strip_prefix("disconnected:").unwrap_or(&place));
    let fail = |source| StartError::Chardev { origin: chardev.origin.clone(), source };
    opened.front_end(CLIENTS).map(Some).map_err(fail)
}

/// A listener that runs until [`end`](Self::end) or until it is dropped.
#[derive(Debug)]
pub(crate) struct Server(JoinHandle<()>);

impl Server {
    /// Starts it, on the current runtime.
    pub(crate) fn start(mut front_end: FrontEnd, figures: Figures) -> Self {
        let figures = Arc::new(figures);
        Self(tokio::spawn(async move {
            let mut clients = JoinSet::new();
            while let Some(client) = front_end.next().await {
                // Those that are done leave nothing but this.
                while clients.try_join_next().is_some() {}
                clients.spawn(http::serve(client, Arc::clone(&figures)));
            }
        }))
    }

    /// Ends it: nobody listens any more when this returns, and clients are hung up on.
    pub(crate) async fn end(mut self) {
        self.0.abort();
        if let Err(error) = (&mut self.0).await
            && error.is_panic()
        {
            tracing::error!(%error, "the metrics listener has failed");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}
