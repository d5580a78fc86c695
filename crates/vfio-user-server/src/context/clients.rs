//! Clients come and go.

use std::time::{Duration, Instant};

use super::connection::Connection;
use super::endpoint::Endpoint;
use super::poller::Token;
use super::{Context, Event, State};
use crate::protocol::{Channel, Session, SessionLimits};

/// Clients accepted, and refused, per turn.
const MAX_ACCEPTS: usize = 16;
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
            let accepted = match listener.accept() {
                Ok(Some(accepted)) => accepted,
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a vfio-user client; trying again in a moment");
                    self.unwatch_listener();
                    self.accept_after = now.checked_add(ACCEPT_PAUSE);
                    return;
                }
            };
            let uid = accepted.credentials.map(|credentials| credentials.uid);
            let allowed = match &self.settings.allowed_uids {
                None => true,
                Some(uids) => uid.is_some_and(|uid| uids.contains(&uid)),
            };
            if !allowed {
                tracing::warn!(?uid, "a vfio-user client was refused: its user is not among allowed-uids");
                self.shared.counters.refused.add(1);
                fd_closer::close(accepted.stream);
                continue;
            }
            if let Err(error) = self.poller.add(&accepted.stream, Token::Connection, true, false) {
                tracing::warn!(%error, "a vfio-user client was refused: its connection cannot be watched");
                fd_closer::close(accepted.stream);
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
        for channel in [Channel::Main, Channel::Twin] {
            if let Some(socket) = connection.socket(channel) {
                self.poller.remove(socket);
            }
        }
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
        if negotiated || ended {
            (self.settings.on_event)(Event::Hangup(why));
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
