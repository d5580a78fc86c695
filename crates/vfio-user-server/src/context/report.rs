//! What a context tells of itself and of its client.

use super::{Context, Credentials, State, Stats};
use crate::dma::MapInfo;
use crate::irq::VectorInfo;
use crate::protocol::Peer;

/// What a context and its client are.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Report {
    /// What it is doing.
    pub state: State,
    /// The client, if there is one.
    pub client: Option<Client>,
    /// Its maps by address, the first [`MAX_REPORTED_MAPS`](super::MAX_REPORTED_MAPS) of them.
    pub maps: Vec<MapInfo>,
    /// How many there are.
    pub map_count: usize,
    /// Bytes of all of them.
    pub mapped_bytes: u64,
    /// Interrupts that are set up or masked.
    pub vectors: Vec<VectorInfo>,
    /// Counters.
    pub stats: Stats,
}

/// A client.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Client {
    /// Who it was when it connected; `None` if the kernel does not say.
    pub credentials: Option<Credentials>,
    /// What was agreed on; `None` while it has not negotiated.
    pub peer: Option<Peer>,
}

impl Context {
    pub(super) fn report(&self) -> Report {
        let client = |connection: &super::Connection| Client {
            credentials: connection.credentials,
            peer: connection.session.peer(),
        };
        let (maps, vectors, (map_count, mapped_bytes)) = match &self.endpoint {
            Some(endpoint) => (endpoint.maps(), endpoint.vectors(), endpoint.mapped()),
            None => Default::default(),
        };
        Report {
            state: self.state(),
            client: self.connection.as_ref().map(client),
            maps,
            map_count,
            mapped_bytes,
            vectors,
            stats: self.handle().stats(),
        }
    }
}
