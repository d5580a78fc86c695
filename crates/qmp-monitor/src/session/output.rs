//! What a session says: replies and events to the peer, as fast as it takes them.

use std::future::Future;
use std::task::Context as TaskContext;

use super::outbox::Flushed;
use super::{End, Session};

/// Bytes of events that are copied from the common list at a time.
const EVENT_BATCH: usize = 32 * 1024;

/// Such batches in one turn.
const EVENT_BATCHES: usize = 8;

/// Events may wait in all for a session that does not want most of them, in multiples of those it does.
const UNWANTED: u64 = 8;

impl Session {
    /// Appends events to the outbox while it holds less than `mark` bytes. `true` when there were any.
    pub(super) fn write_events(&mut self, mark: usize) -> bool {
        let Some(events) = &mut self.events else { return false };
        let mut any = false;
        while self.outbox.len() < mark {
            let Some(raised) = events.next() else { break };
            if !raised.is_extension() || self.state.wants_extension(raised.name()) {
                self.outbox.buffer().extend_from_slice(raised.bytes(self.format));
                any = true;
            }
        }
        any
    }

    /// Writes replies, then events; gives the reason when the session must end.
    ///
    /// Events that the peer does not take stay in the common list, where they are counted.
    pub(super) fn poll_output(&mut self, cx: &mut TaskContext<'_>) -> Option<End> {
        if self.doomed.is_some() {
            return None;
        }
        for _ in 0..EVENT_BATCHES {
            let more = self.write_events(EVENT_BATCH);
            match self.outbox.poll_flush(&self.connection, cx) {
                Ok(Flushed::All) => self.stall = None,
                Ok(Flushed::Blocked { progress }) => return self.poll_blocked(progress, cx),
                Err(error) => return Some(End::Transport(error)),
            }
            if !more {
                return None;
            }
        }
        // There are more; others have their turn first.
        cx.waker().wake_by_ref();
        None
    }

    /// The peer takes nothing for now: is its time up, or the bound for events exceeded?
    fn poll_blocked(&mut self, progress: bool, cx: &mut TaskContext<'_>) -> Option<End> {
        if progress {
            self.stall = None;
        }
        if let Some(farewell) = &mut self.farewell
            && farewell.as_mut().poll(cx).is_ready()
        {
            return Some(End::Closed);
        }
        let limit = self.core.limits.stall;
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if stall.as_mut().poll(cx).is_ready() {
            // The peer may have read for all that time and the socket not have said so: it speaks up only when most of
            // its buffer is free.
            match self.outbox.push(&self.connection) {
                Ok(true) => self.stall = None,
                Ok(false) => return Some(End::Stalled),
                Err(error) => return Some(End::Transport(error)),
            }
            cx.waker().wake_by_ref();
        }
        let extensions = self.state.wants_any_extension();
        let backlog = self.events.as_ref().map_or(0, |events| events.backlog(extensions));
        // Events that the session does not get are passed over when it can write, and kept until then.
        let kept = self.events.as_ref().map_or(0, |events| events.backlog(true));
        let limit = self.core.limits.events;
        (backlog > limit || kept > limit.saturating_mul(UNWANTED)).then_some(End::EventOverflow)
    }
}
