//! What a chardev, its front end and its connections share: who is connected, and who waits for a front end.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use peer_admission::Credentials;
use tokio::sync::Notify;

use crate::badge::Badge;
use crate::connection::{Connection, Peer};
use crate::log::Log;
use crate::stream::Stream;

/// A connected client.
pub(crate) struct Client {
    pub(crate) stream: Arc<Stream>,
    pub(crate) peer: Peer,
    /// Of one that was handed in.
    pub(crate) handed_in: Option<Box<HandedIn>>,
}

/// What is known of a client because somebody handed it in. Few are: each connection has room for a pointer to it.
pub(crate) struct HandedIn {
    pub(crate) badge: Option<Badge>,
    /// Who has done so.
    pub(crate) giver: Option<Credentials>,
}

impl Client {
    pub(crate) fn new((stream, peer): (Stream, Peer)) -> Self {
        Self { stream: Arc::new(stream), peer, handed_in: None }
    }
}

#[derive(Default)]
pub(crate) struct Shared {
    /// Connections in other hands.
    clients: AtomicUsize,
    /// A connection has gone. Only the front end waits, so one stored wake-up is enough.
    freed: Notify,
    /// A client has been parked. Likewise.
    parked: Notify,
    /// A client has come. Nothing is stored for those who do not wait.
    arrived: Notify,
    /// Where all output is noted, too.
    log: Option<Log>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    front_end: Claim,
    /// Connected clients that no front end has yet.
    parked: VecDeque<Client>,
    /// What the newest connection is called, where that is not what they all are.
    name: Option<String>,
    /// Connections in other hands, by the number of their place.
    live: HashMap<u64, Weak<Stream>>,
    next_place: u64,
}

/// Who takes the clients.
#[derive(Clone, Copy, Debug, Default)]
enum Claim {
    #[default]
    Nobody,
    FrontEnd {
        max_clients: usize,
    },
    /// Nobody, for ever.
    Retired,
}

impl State {
    /// Parked clients that have hung up, to be closed when the lock is free. With a front end they are left to it: it may
    /// still read what they sent.
    fn take_gone(&mut self) -> VecDeque<Client> {
        if matches!(self.front_end, Claim::FrontEnd { .. }) {
            return VecDeque::new();
        }
        let (gone, here) = self.parked.drain(..).partition(|client| client.stream.has_hung_up());
        self.parked = here;
        gone
    }
}

impl Shared {
    pub(crate) fn new(log: Option<Log>) -> Self {
        Self { log, ..Self::default() }
    }

    /// Makes the caller the front end, unless there is one.
    pub(crate) fn claim_front_end(&self, max_clients: usize) -> bool {
        self.claim(Claim::FrontEnd { max_clients })
    }

    /// Keeps all front ends away, unless there is one.
    pub(crate) fn retire(&self) -> bool {
        self.claim(Claim::Retired)
    }

    fn claim(&self, claim: Claim) -> bool {
        let mut state = self.lock();
        let free = matches!(state.front_end, Claim::Nobody);
        if free {
            state.front_end = claim;
        }
        free
    }

    pub(crate) fn release_front_end(&self) {
        self.lock().front_end = Claim::Nobody;
    }

    pub(crate) fn has_front_end(&self) -> bool {
        matches!(self.lock().front_end, Claim::FrontEnd { .. })
    }

    /// Whether any client is connected, parked ones included, unless they have hung up.
    pub(crate) fn is_connected(&self) -> bool {
        // Whoever looks clears up: parked clients that have gone are closed.
        let (gone, any) = {
            let mut state = self.lock();
            let gone = state.take_gone();
            (gone, state.parked.iter().any(|client| !client.stream.has_hung_up()))
        };
        drop(gone);
        any || self.clients.load(Ordering::Acquire) > 0
    }

    /// Connections in other hands.
    pub(crate) fn clients(&self) -> usize {
        self.clients.load(Ordering::Acquire)
    }

    /// Waits until a connection has gone. May be dropped at any time. Can return once too often.
    pub(crate) async fn one_freed(&self) {
        self.freed.notified().await;
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

    /// Waits until a client is connected. May be dropped at any time.
    pub(crate) async fn one_connected(&self) {
        let mut arrived = std::pin::pin!(self.arrived.notified());
        loop {
            arrived.as_mut().enable();
            if self.is_connected() {
                return;
            }
            arrived.as_mut().await;
            arrived.set(self.arrived.notified());
        }
    }

    pub(crate) fn park(&self, client: Client) {
        let gone = {
            let mut state = self.lock();
            let gone = state.take_gone();
            state.parked.push_back(client);
            gone
        };
        drop(gone);
        self.parked.notify_one();
        self.arrived.notify_waiters();
    }

    /// Parks a client that was handed in, if there is room for it: with a front end, for as many as that takes, else
    /// for one. Without a front end those who hung up make room.
    pub(crate) fn park_if_room(&self, client: Client, name: Option<String>) -> Result<(), Client> {
        let mut gone = VecDeque::new(); // closed when the lock is free again
        let mut state = self.lock();
        let room = match state.front_end {
            Claim::FrontEnd { max_clients } => max_clients,
            Claim::Nobody => {
                gone = state.take_gone();
                1
            }
            Claim::Retired => 0,
        };
        if self.clients.load(Ordering::Acquire) + state.parked.len() >= room {
            drop(state);
            drop(gone);
            return Err(client);
        }
        state.parked.push_back(client);
        state.name = name;
        drop(state);
        self.parked.notify_one();
        self.arrived.notify_waiters();
        Ok(())
    }

    /// The client that has been parked longest.
    pub(crate) fn unpark(&self) -> Option<Client> {
        self.lock().parked.pop_front()
    }

    pub(crate) fn connection(self: &Arc<Self>, client: Client) -> Connection {
        self.clients.fetch_add(1, Ordering::AcqRel);
        let mut state = self.lock();
        let place = state.next_place;
        state.next_place += 1;
        state.live.insert(place, Arc::downgrade(&client.stream));
        drop(state);
        self.arrived.notify_waiters();
        Connection::new(client, Slot { shared: Arc::clone(self), place })
    }

    /// Hangs up on everybody: who has a connection sees its end, and parked clients are let go.
    pub(crate) fn disconnect(&self) {
        let mut state = self.lock();
        let parked = std::mem::take(&mut state.parked);
        let live: Vec<_> = state.live.values().filter_map(Weak::upgrade).collect();
        drop(state);
        parked.iter().for_each(|client| client.stream.disconnect());
        live.iter().for_each(|stream| stream.disconnect());
    }

    /// What the newest connection is called.
    pub(crate) fn name(&self) -> Option<String> {
        self.lock().name.clone()
    }

    pub(crate) fn set_name(&self, name: Option<String>) {
        self.lock().name = name;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("clients", &self.clients).finish_non_exhaustive()
    }
}

/// A connection's place among those that the front end takes at once.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    place: u64,
}

impl Slot {
    /// Parks first and frees the place then, so that who waits for the place finds the client.
    pub(crate) fn park(self, client: Client) {
        self.shared.park(client);
    }

    /// Notes what was sent, if that is wanted.
    pub(crate) fn log(&self, sent: &[u8]) {
        if let Some(log) = &self.shared.log {
            log.write(sent);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.shared.lock().live.remove(&self.place);
        self.shared.clients.fetch_sub(1, Ordering::AcqRel);
        self.shared.freed.notify_one();
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot")
    }
}
