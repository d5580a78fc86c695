//! Exports a device: listens, serves one client at a time without ever blocking, and has one pollable descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use crate::PciDevice;
use crate::dma::DmaPolicy;

/// Where clients connect to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listen {
    /// A socket file, made with mode 0600; a stale one is replaced, a live one refused. Unlinked in the end.
    Path(PathBuf),
    /// A name in the abstract namespace.
    Abstract(Vec<u8>),
    /// A socket that listens already, or one that is connected to the only client.
    Fd(OwnedFd),
}

/// Limits and deadlines of a context.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// How long a client may take to negotiate. 10 s.
    pub negotiation: Duration,
    /// How long a half-sent message may stay half, or replies unread. 30 s.
    pub stall: Duration,
    /// How long a client may take to answer a command of ours. 10 s.
    pub reply: Duration,
    /// Maps at once. 65535.
    pub maps: usize,
    /// Bytes mapped at once. 8 TiB.
    pub mapped_bytes: u64,
}

/// The client's credentials when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Credentials {
    /// Its process.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
}

/// What happens to a context. Told on its thread; the listener must not block.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A client has negotiated.
    Attached(Credentials),
    /// The client that had negotiated has gone, of itself or because of what it did; the text says why.
    Hangup(String),
}

/// What the context is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Waits for a client.
    Listening,
    /// A client has connected but has not negotiated.
    Negotiating,
    /// Serves a client.
    Serving,
    /// The client has gone and no other is taken.
    Ended,
}

/// Sets a context up.
#[allow(missing_debug_implementations)]
pub struct Builder;

#[allow(clippy::todo, unused_variables, missing_docs, clippy::unused_self)]
impl Builder {
    /// As [`DmaPolicy`] says; `Auto` if this is not called.
    pub fn dma(self, policy: DmaPolicy) -> Self {
        todo!()
    }
    /// Users that may connect; anybody who can reach the socket if this is not called.
    pub fn allowed_uids(self, uids: impl IntoIterator<Item = u32>) -> Self {
        todo!()
    }
    pub fn limits(self, limits: Limits) -> Self {
        todo!()
    }
    /// Whether the context listens again after a hang-up (device state kept), or ends. Off if this is not called.
    pub fn reconnect(self, on: bool) -> Self {
        todo!()
    }
    /// Is told what happens.
    pub fn on_event(self, listener: impl FnMut(Event) + Send + 'static) -> Self {
        todo!()
    }
    /// Starts to listen. On error nothing is left behind, and the device is given back.
    pub fn listen(self, listen: Listen) -> Result<Context, (ListenError, Box<dyn PciDevice>)> {
        todo!()
    }
}

/// Why a context cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen")]
#[non_exhaustive]
pub struct ListenError {
    /// The reason.
    #[source]
    pub source: std::io::Error,
}

/// A device that is exported.
#[derive(Debug)]
pub struct Context;

#[allow(clippy::todo, unused_variables, missing_docs, clippy::unused_self, clippy::missing_errors_doc)]
impl Context {
    pub fn builder(device: Box<dyn PciDevice>) -> Builder {
        todo!()
    }
    /// Does what there is to do, within a budget, and never blocks. For loops other than an iothread: call it whenever
    /// the descriptor is readable.
    pub fn turn(&mut self) {
        todo!()
    }
    pub fn handle(&self) -> Handle {
        todo!()
    }
    /// Hands the context to an iothread.
    pub fn spawn(self, iothread: &iothread::Handle) -> Result<Exported, iothread::Error> {
        todo!()
    }
}

impl AsFd for Context {
    #[allow(clippy::todo)]
    fn as_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }
}

/// A context that an iothread polls. Its drop stops it and waits until the iothread has let go of it.
#[derive(Debug)]
pub struct Exported;

#[allow(clippy::todo, unused_variables, missing_docs, clippy::unused_self)]
impl Exported {
    pub fn handle(&self) -> &Handle {
        todo!()
    }
    /// Stops it and gives the device back; `None` if the device has panicked. Blocks while a call of the device goes on.
    pub fn finish(self) -> Option<Box<dyn PciDevice>> {
        todo!()
    }
}

/// Looks at a context and steers it, from any thread.
#[derive(Debug, Clone)]
pub struct Handle;

#[allow(clippy::todo, unused_variables, missing_docs, clippy::unused_self)]
impl Handle {
    /// Reads counters. Takes no lock, asks nobody.
    pub fn stats(&self) -> Stats {
        todo!()
    }
    pub fn state(&self) -> State {
        todo!()
    }
    /// Has a report made on the context's thread, soon; `tell` is called there, and is dropped if the context goes.
    pub fn report(&self, tell: impl FnOnce(Report) + Send + 'static) {
        todo!()
    }
    /// Ends the client's connection, as if it had hung up.
    pub fn disconnect(&self) {
        todo!()
    }
    /// Calls `call` with the device on its thread, soon.
    pub fn run(&self, call: impl FnOnce(&mut dyn PciDevice, &mut crate::DeviceContext<'_>) + Send + 'static) {
        todo!()
    }
}

/// Counters, from the start of the context.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Clients that have negotiated.
    pub clients: u64,
    /// Connections that were refused or ended before they had negotiated.
    pub refused: u64,
    /// Commands received.
    pub commands: u64,
    /// Of them, answered with an error.
    pub errors: u64,
    /// Region reads.
    pub reads: u64,
    /// Region writes.
    pub writes: u64,
    /// Bytes of region reads.
    pub read_bytes: u64,
    /// Bytes of region writes.
    pub written_bytes: u64,
    /// Interrupts signalled.
    pub interrupts: u64,
    /// DMA commands sent to the client.
    pub dma_messages: u64,
    /// Accesses by the time from the start of their turn to their answer: under 1, 2, 4, ... 32768 us, and the rest.
    pub latency: [u64; 17],
}

/// What a context and its client are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// What it is doing.
    pub state: State,
    /// The client, if there is one.
    pub client: Option<Client>,
    /// Its maps, at most 1024 of them.
    pub maps: Vec<crate::dma::MapInfo>,
    /// How many there are.
    pub map_count: usize,
    /// Interrupts that are set up.
    pub vectors: Vec<crate::irq::VectorInfo>,
    /// Counters.
    pub stats: Stats,
}

/// A client.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Client {
    /// Who it is.
    pub credentials: Option<Credentials>,
    /// The version agreed on, and what the client said it can do.
    pub peer: Option<crate::protocol::Peer>,
}
