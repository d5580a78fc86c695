//! The one who takes a chardev's clients.

use std::sync::Arc;

use crate::backoff::Backoff;
use crate::chardev::{Chardev, Source};
use crate::connect::Redial;
use crate::connection::Connection;
use crate::shared::Client;

/// The right to a chardev's clients, made by [`Chardev::front_end`]. Dropping it gives the right back; connections it
/// has given out stay with their owners.
#[derive(Debug)]
pub struct FrontEnd {
    chardev: Arc<Chardev>,
    max_clients: usize,
    backoff: Backoff,
    redial: Redial,
}

impl FrontEnd {
    pub(crate) fn new(chardev: Arc<Chardev>, max_clients: usize) -> Self {
        Self { chardev, max_clients, backoff: Backoff::default(), redial: Redial::default() }
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
        let Self { chardev, max_clients, backoff, redial } = self;
        let shared = &chardev.shared;
        loop {
            shared.fewer_than(*max_clients).await;
            if let Some(connection) = shared.unpark() {
                return Some(connection);
            }
            let arrival = async {
                match &chardev.source {
                    Source::Listener(listener) => Some(chardev.accept(listener, backoff).await),
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
                arrived = arrival => {
                    let client = Client::new(arrived?);
                    shared.set_name(chardev.name_of_accepted(&client.stream));
                    return Some(shared.connection(client));
                }
            }
        }
    }
}

impl Drop for FrontEnd {
    fn drop(&mut self) {
        self.chardev.shared.release_front_end();
    }
}
