//! Clients come and go.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::connection::{Connection, Stream};
use peer_admission::Told;

use super::endpoint::Endpoint;
use super::listener::Next;
use super::poller::Token;
use super::{Context, Event, State};
use crate::protocol::{Channel, Session, SessionLimits};

/// Clients accepted, and refused, per turn: each takes as long as many an access of another's on the same thread, and
/// anybody who can reach the socket can make any number of them.
const MAX_ACCEPTS: usize = 1;
/// How long accepting pauses when there is no room for another descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

impl Context {
    /// Takes the next client, if there is none.
    pub(super) fn accept(&mut self, now: Instant) {
        if self.connection.is_some() || self.accept_after.is_some_and(|after| after > now) {
            return;
        }
        if self.accept_after.take().is_some() {
            self.watch_listener();
        }
        for _ in 0..MAX_ACCEPTS {
            let Some(listener) = &mut self.listener else { return };
            let lasts = listener.lasts();
            let accepted = match listener.accept(&self.poller) {
                Ok(Next::Client(accepted)) => accepted,
                Ok(Next::Nobody) => {
                    if std::mem::take(&mut self.accepting) {
                        self.watch_listener();
                    }
                    return;
                }
                // The listening socket would tell of the same client all the while.
                Ok(Next::Soon) => {
                    if !std::mem::replace(&mut self.accepting, true) {
                        self.unwatch_listener();
                    }
                    return;
                }
                Err(error) => {
                    if !self.accept_failed
                        && let Some(Told { untold }) = self.accept_failures.refused(now)
                    {
                        self.accept_failed = true;
                        tracing::warn!(%error, untold, "cannot accept a vfio-user client; trying again and again");
                    }
                    self.unwatch_listener();
                    self.accept_after = now.checked_add(ACCEPT_PAUSE);
                    return;
                }
            };
            if std::mem::take(&mut self.accepting) {
                self.watch_listener();
            }
            self.accept_failed = false;
            let peer = accepted.credentials;
            if !self.allowed.admits(&accepted.stream, peer) {
                if let Some(Told { untold }) = self.refusals.refused(now) {
                    let (uid, gid) = peer.map(|peer| (peer.uid, peer.gid)).unzip();
                    let pid = peer.and_then(|peer| peer.pid);
                    tracing::warn!(
                        uid,
                        gid,
                        pid,
                        untold,
                        "a vfio-user client was refused: neither its user nor a group of its may connect"
                    );
                }
                self.shared.counters.refused.add(1);
                fd_closer::close_connection(accepted.stream);
                if !lasts {
                    return self.end("the only client there could be was refused");
                }
                continue;
            }
            if !self.direct
                && let Err(error) = self.poller.add(&accepted.stream, Token::Connection, true, false)
            {
                if let Some(Told { untold }) = self.accept_failures.refused(now) {
                    tracing::warn!(%error, untold, "a vfio-user client was refused: its connection cannot be watched");
                }
                fd_closer::close_connection(accepted.stream);
                if !lasts {
                    return self.end("the only client there could be cannot be watched");
                }
                continue;
            }
            self.unwatch_listener();
            let mut limits = SessionLimits::default();
            limits.max_dma_maps = u32::try_from(self.settings.limits.maps).unwrap_or(u32::MAX).min(65_535);
            let mut session = Session::new(limits);
            session.begin_tokens_at(self.next_token);
            self.connection = Some(Connection::new(accepted, session, now));
            self.shared.set_state(State::Negotiating);
            // It may have sent something already, which epoll will tell in the next turn.
            return;
        }
        self.again = true;
    }

    /// No client will come any more.
    fn end(&mut self, reason: &str) {
        self.listener = None;
        self.shared.set_state(State::Ended);
        (self.settings.on_event)(Event::Ended { reason: reason.to_owned() });
    }

    /// From now on whoever calls turns watches the connection that [`connection_source`](Self::connection_source) tells.
    pub(super) fn watch_connection_elsewhere(&mut self) {
        self.direct = true;
        if let Some(connection) = &self.connection {
            self.poller.remove(&*connection.stream);
            // Its watching begins in a turn.
            self.again = true;
            self.poller.wake();
        }
    }

    /// The client's socket, and what it is to be watched for, to read and to write, until the next turn.
    pub(super) fn connection_source(&self) -> Option<(&Arc<Stream>, (bool, bool))> {
        self.connection.as_ref().map(|connection| (&connection.stream, connection.interest))
    }

    /// The connection cannot be served.
    pub(super) fn refuse_connection(&mut self, why: &str) {
        tracing::warn!(why, "a vfio-user client was refused");
        self.hang_up(why.to_owned());
        // The turn is over, and what the device has asked for since is looked at in the next.
        self.again = true;
        self.poller.wake();
    }

    fn watch_listener(&self) {
        if let Some(socket) = self.listener.as_ref().and_then(|listener| listener.fd()) {
            self.poller.modify(socket, Token::Listener, true, false);
        }
    }

    fn unwatch_listener(&self) {
        if let Some(socket) = self.listener.as_ref().and_then(|listener| listener.fd()) {
            self.poller.modify(socket, Token::Listener, false, false);
        }
    }

    /// The client goes, of itself or not: what is its goes, the device is told, and then whoever wants to know.
    pub(super) fn hang_up(&mut self, why: String) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.direct {
            self.poller.remove(&*connection.stream);
        }
        if let Some(twin) = connection.socket(Channel::Twin) {
            self.poller.remove(twin);
        }
        self.hung_up = false;
        self.next_token = connection.session.next_token();
        self.shared.counters.take(connection.session.counters(), &mut connection.counted);
        let negotiated = connection.negotiated;
        drop(connection);
        if let Some(endpoint) = &mut self.endpoint {
            endpoint.hangup();
        }
        tracing::debug!(why, negotiated, "a vfio-user client has gone");
        let lasts = self.listener.as_ref().is_some_and(|listener| listener.lasts());
        if !negotiated {
            self.shared.counters.refused.add(1);
        }
        // A client that has never negotiated ends nothing, unless no other can come.
        let ended = !lasts || (negotiated && !self.settings.reconnect);
        if ended {
            self.listener = None;
            self.shared.set_state(State::Ended);
        } else {
            self.shared.set_state(State::Listening);
            self.watch_listener();
        }
        if negotiated {
            (self.settings.on_event)(Event::Hangup { reason: why, ended });
        } else if ended {
            (self.settings.on_event)(Event::Ended { reason: why });
        }
    }
}

/// The client has negotiated.
pub(super) fn attach(
    connection: &mut Connection,
    endpoint: &mut Box<dyn Endpoint>,
    on_event: &mut Box<dyn FnMut(Event) + Send>,
) {
    connection.negotiated = true;
    if let Some(twin) = endpoint.take_twin() {
        connection.set_twin(twin);
    }
    endpoint.attached();
    on_event(Event::Attached(connection.credentials));
}
