//! Exports a device: listens, serves one client at a time without ever blocking, and has one pollable descriptor.
//!
//! A [`Context`] owns a device and all that surrounds it. Whoever polls its descriptor calls [`Context::turn`] when it is
//! readable, on one thread; most hand it to an iothread with [`Context::spawn`]. A turn is bounded in messages, bytes and
//! time, and what is left waits for the next, so contexts of one thread are served in turn.
//!
//! One register access goes: one `recvmsg`, the protocol's [`step`](crate::protocol::Session::step), a call of the device,
//! one `send`. There is no lock on that way and, once buffers have grown, no allocation.
//!
//! While a client is served others wait in the listener's backlog. A client that does not negotiate, leaves a message
//! unfinished, or does not take its replies is dropped at a deadline ([`Limits`]).

mod builder;
mod clients;
mod connection;
pub(crate) mod endpoint;
mod handle;
mod listener;
mod look;
pub(crate) mod poller;
mod report;
mod spawn;
mod stats;
mod turn;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use peer_admission::{Allowed, Refusals};

#[cfg(feature = "adapter")]
pub(crate) use builder::Options;
pub use builder::{Builder, ListenError};
pub use handle::Handle;
pub use listener::Listen;
pub use report::{Client, Report};
pub use spawn::Exported;
pub use stats::{LATENCIES, Stats};

use self::connection::Connection;
use self::endpoint::Endpoint;
use self::handle::Shared;
use self::listener::Listener;
use self::poller::{Poller, Token};

/// Maps that a [`Report`] lists.
pub const MAX_REPORTED_MAPS: usize = 1024;

/// Limits and deadlines of a context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// How long a client may take to negotiate. 10 s.
    pub negotiation: Duration,
    /// How long a message may stay half there, or replies unread. 30 s.
    pub stall: Duration,
    /// How long a client may take to answer a command of ours. 10 s.
    pub reply: Duration,
    /// Maps at once. 65535, the protocol's default, which is also the most that QEMU's client accepts.
    pub maps: usize,
    /// Bytes mapped at once. 8 TiB.
    pub mapped_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            negotiation: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            reply: Duration::from_secs(10),
            maps: 65_535,
            mapped_bytes: 8 << 40,
        }
    }
}

/// A client's credentials when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its process; 0 if it has no number that this process knows.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What happens to a context. Told on its thread; whoever is told must not block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client has negotiated.
    Attached(Option<Credentials>),
    /// The client that had negotiated has gone, of itself or for what it did. Its memory and its interrupts have gone with
    /// it.
    Hangup {
        /// Why.
        reason: String,
        /// No other client is taken: the context has ended.
        ended: bool,
    },
    /// The context has ended while no client was there that had negotiated: the only one there could be has not, or the
    /// device has panicked.
    Ended {
        /// Why.
        reason: String,
    },
}

/// What a context is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// It waits for a client.
    Listening,
    /// A client has connected but has not negotiated.
    Negotiating,
    /// It serves a client.
    Serving,
    /// The client has gone, and no other is taken.
    Ended,
}

/// What a context is set up with, besides its device.
struct Settings {
    limits: Limits,
    /// Users that may connect, and groups. Anybody without either.
    allowed_uids: Option<Vec<u32>>,
    allowed_gids: Option<Vec<u32>>,
    reconnect: bool,
    on_event: Box<dyn FnMut(Event) + Send>,
}

/// A device that is exported.
///
/// ```no_run
/// # fn device() -> Box<dyn vfio_user_server::PciDevice> { unimplemented!() }
/// use vfio_user_server::context::{Context, Listen};
///
/// let iothread = iothread::IoThread::builder("IO v").start()?;
/// let context = Context::builder(device()).listen(Listen::Path("/run/device.sock".into())).map_err(|(error, _)| error)?;
/// let exported = context.spawn(&iothread.handle())?;
/// # drop(exported);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Context {
    poller: Arc<Poller>,
    shared: Arc<Shared>,
    settings: Settings,
    /// `None` once no other client is taken.
    listener: Option<Listener>,
    /// Who may connect: what was set, or what the kind of listener implies.
    allowed: Allowed,
    refusals: Refusals,
    /// Accepting has failed since it last succeeded, and that was told.
    accept_failed: bool,
    /// Failures that others can bring about at will, one after each success, are not all told.
    accept_failures: Refusals,
    /// A client is being accepted; until then the listening socket is not watched.
    accepting: bool,
    connection: Option<Connection>,
    /// Somebody else watches the connection: see [`Context::connection_source`].
    direct: bool,
    /// Whoever watches it has seen that the client has closed it.
    hung_up: bool,
    /// `None` only while the context is being taken apart.
    endpoint: Option<Box<dyn Endpoint>>,
    /// Where the next connection's tokens begin, so that none is used twice.
    next_token: u64,
    /// What is watched for the client's letting go of INTx, and which of its changes that is. A duplicate: the client's
    /// may be closed by the command that replaces it, and one that is closed while it is watched, and while the client
    /// has it open, stays watched for ever.
    resample: (Option<OwnedFd>, u64),
    /// What the timer is set to.
    armed: Option<Instant>,
    /// Connections are not accepted before this: there was no room for one.
    accept_after: Option<Instant>,
    /// The next turn has work already.
    again: bool,
    /// Turns that were spent on the connection alone.
    turns: u32,
    /// Memory of the last look.
    ready: Vec<Token>,
}

impl Context {
    /// Sets up the export of a device.
    #[must_use]
    pub fn builder(device: Box<dyn crate::PciDevice>) -> Builder {
        Builder::new(device)
    }

    /// A handle for other threads.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle(Arc::clone(&self.shared))
    }

    /// What it is doing.
    #[must_use]
    pub fn state(&self) -> State {
        self.handle().state()
    }

    /// Stops, and gives the device back: `None` if it has panicked, or is an adapted one.
    #[must_use]
    pub fn into_device(mut self) -> Option<Box<dyn crate::PciDevice>> {
        self.close();
        self.endpoint.take().and_then(Endpoint::into_device)
    }

    fn device_has_panicked(&self) -> bool {
        self.endpoint.as_ref().is_some_and(|endpoint| endpoint.has_panicked())
    }

    /// Lets go of the client and of the socket.
    fn close(&mut self) {
        if let Some(endpoint) = &mut self.endpoint
            && self.connection.take().is_some()
        {
            endpoint.hangup();
        }
        self.listener = None;
        self.shared.close();
    }
}

impl AsFd for Context {
    /// Readable when [`Context::turn`] has something to do. Belongs to the context: to be polled, nothing else.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.poller.as_fd()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("state", &self.state())
            .field("listener", &self.listener)
            .finish_non_exhaustive()
    }
}
