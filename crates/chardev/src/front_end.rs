//! The one who takes a chardev's clients.

use std::sync::Arc;

use peer_admission::Allowed;

use crate::backoff::Backoff;
use crate::chardev::{Chardev, Source};
use crate::connect::Redial;
use crate::connection::Connection;
use crate::gate::Gate;
use crate::shared::Client;

/// The right to a chardev's clients, made by [`Chardev::front_end`]. Dropping it gives the right back; connections it
/// has given out stay with their owners.
#[derive(Debug)]
pub struct FrontEnd {
    chardev: Arc<Chardev>,
    max_clients: usize,
    /// How many more it takes that have no place.
    room: usize,
    gate: Gate,
    backoff: Backoff,
    redial: Redial,
}

impl FrontEnd {
    pub(crate) fn new(chardev: Arc<Chardev>, max_clients: usize) -> Self {
        let gate = Gate::new(Allowed::ANYBODY);
        Self { chardev, max_clients, room: 0, gate, backoff: Backoff::default(), redial: Redial::default() }
    }

    /// From now on takes only these clients. They must be among those that the chardev admits too. Others are closed
    /// unheard, and are no clients in any count.
    pub fn admit_only(&mut self, allowed: Allowed) {
        self.gate = Gate::new(allowed);
    }

    /// Gives a listener that serves several clients a waiting room: from now on [`next_beside`](Self::next_beside) gives
    /// up to `room` clients more than have a place, for the caller to look at who they are and to keep them waiting. Others
    /// have none, and this changes nothing.
    pub fn add_waiting_room(&mut self, room: usize) {
        if matches!(self.chardev.source, Source::Listener(_)) && self.max_clients > 1 {
            self.room = room;
        }
    }

    /// How many clients have a place at once.
    #[must_use]
    pub fn max_clients(&self) -> usize {
        self.max_clients
    }

    /// Whether a client more would have no place, when `waiting` of those that it gave out have none.
    #[must_use]
    pub fn is_full(&self, waiting: usize) -> bool {
        self.chardev.shared.clients() >= self.max_clients.saturating_add(waiting)
    }

    /// The chardev whose clients these are.
    #[must_use]
    pub fn chardev(&self) -> &Arc<Chardev> {
        &self.chardev
    }

    /// The next client. Waits until fewer than the front end's `max_clients` are connected, and only then accepts or
    /// connects; clients that come earlier wait in the kernel's backlog. [Parked](Connection::park) ones come first.
    ///
    /// `None`: there will never be another. That is so once the client of stdio, a file or a pipe has gone. A listener
    /// always has a next one, to any socket one can be [handed](Chardev::attach), and the null chardev never ends.
    ///
    /// Cancel-safe: no client is lost, and pauses between attempts go on where they were.
    pub async fn next(&mut self) -> Option<Connection> {
        loop {
            if let Next::Client(connection) = self.next_beside(0).await? {
                return Some(connection);
            }
        }
    }

    /// As [`next`](Self::next), for who has a [waiting room](Self::add_waiting_room) and keeps `waiting` clients there: the
    /// next client, which has a place or not, or the news that one who waits could have a place.
    ///
    /// `None` and cancelling are as with `next`.
    pub async fn next_beside(&mut self, waiting: usize) -> Option<Next> {
        let Self { chardev, max_clients, room, gate, backoff, redial } = self;
        let shared = &chardev.shared;
        loop {
            if waiting > 0 && shared.clients() < max_clients.saturating_add(waiting) {
                return Some(Next::Place);
            }
            shared.fewer_than(max_clients.saturating_add(*room)).await;
            while let Some(client) = shared.unpark() {
                if gate.admits(chardev.id(), &client.stream, &client.peer) {
                    return Some(Next::Client(shared.connection(client)));
                }
            }
            let arrival = async {
                match &chardev.source {
                    Source::Listener(listener) => loop {
                        let (stream, peer) = chardev.accept(listener, backoff).await;
                        if gate.admits(chardev.id(), &stream, &peer) {
                            break Some((stream, peer));
                        }
                        tokio::task::yield_now().await;
                    },
                    Source::Redialed(target, interval) => {
                        Some(redial.next(chardev.id(), target, *interval).await)
                    }
                    Source::Files => None,
                    Source::Socket | Source::Never => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = shared.one_parked() => {}
                () = shared.one_freed(), if waiting > 0 => {}
                arrived = arrival => {
                    let client = Client::new(arrived?);
                    shared.set_name(chardev.name_of_accepted(&client.stream));
                    return Some(Next::Client(shared.connection(client)));
                }
            }
        }
    }
}

/// What a front end with a waiting room has.
#[derive(Debug)]
pub enum Next {
    /// A client. If the front end [is full](FrontEnd::is_full) now, not counting this one, it has no place.
    Client(Connection),
    /// A place for one of those who wait.
    Place,
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.chardev.shared.release_front_end();
    }
}
