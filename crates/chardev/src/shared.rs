//! What a chardev, its front end and its connections share: who is connected, and who waits for a front end.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::connection::{Connection, Peer};
use crate::stream::Stream;

#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Connections in other hands.
    clients: AtomicUsize,
    /// A connection has gone. Only the front end waits, so one stored wake-up is enough.
    freed: Notify,
    /// A client has been parked. Likewise.
    parked: Notify,
    /// A front end has the chardev.
    front_end: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Connected clients that no front end has yet.
    parked: VecDeque<(Stream, Peer)>,
    /// What the newest connection is called, where each is called something else (TCP).
    name: Option<String>,
}

impl Shared {
    /// Makes the caller the front end, unless there is one.
    pub(crate) fn claim_front_end(&self) -> bool {
        !self.front_end.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn release_front_end(&self) {
        self.front_end.store(false, Ordering::Release);
    }

    /// Whether any client is connected, parked ones included.
    pub(crate) fn is_connected(&self) -> bool {
        self.clients.load(Ordering::Acquire) > 0 || !self.lock().parked.is_empty()
    }

    /// Waits until fewer than `max` connections are in other hands. May be dropped at any time.
    pub(crate) async fn fewer_than(&self, max: usize) {
        while self.clients.load(Ordering::Acquire) >= max {
            self.freed.notified().await;
        }
    }

    /// Waits until a client is parked. May be dropped at any time. Can return once too often.
    pub(crate) async fn one_parked(&self) {
        self.parked.notified().await;
    }

    pub(crate) fn park(&self, stream: Stream, peer: Peer) {
        self.lock().parked.push_back((stream, peer));
        self.parked.notify_one();
    }

    /// The client that has been parked longest, as a connection.
    pub(crate) fn unpark(self: &Arc<Self>) -> Option<Connection> {
        let (stream, peer) = self.lock().parked.pop_front()?;
        Some(self.connection(stream, peer))
    }

    pub(crate) fn connection(self: &Arc<Self>, stream: Stream, peer: Peer) -> Connection {
        self.clients.fetch_add(1, Ordering::AcqRel);
        Connection::new(stream, peer, Slot(Arc::clone(self)))
    }

    /// What the newest connection is called.
    pub(crate) fn name(&self) -> Option<String> {
        self.lock().name.clone()
    }

    #[cfg(feature = "tcp")]
    pub(crate) fn set_name(&self, name: String) {
        self.lock().name = Some(name);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection's place among those that the front end takes at once.
pub(crate) struct Slot(Arc<Shared>);

impl Slot {
    /// Parks first and frees the place then, so that who waits for the place finds the client.
    pub(crate) fn park(self, stream: Stream, peer: Peer) {
        self.0.park(stream, peer);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.clients.fetch_sub(1, Ordering::AcqRel);
        self.0.freed.notify_one();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
