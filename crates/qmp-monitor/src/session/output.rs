//! What a session says: replies and events to the peer, as fast as it takes them.

use std::task::Context as TaskContext;

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
        while self.writer.len() < mark {
            let Some(raised) = events.next() else { break };
            if !raised.is_extension() || self.state.wants_extension(raised.name()) {
                self.writer.buffer().extend_from_slice(raised.bytes(self.format));
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
            match self.writer.poll_flush(&self.connection, self.core.limits.stall, cx) {
                Ok(true) => {}
                Ok(false) => return self.overflow(),
                Err(end) => return Some(end),
            }
            if !more {
                return None;
            }
        }
        // There are more; others have their turn first.
        cx.waker().wake_by_ref();
        None
    }

    /// The peer takes nothing for now: is the bound for events exceeded?
    fn overflow(&self) -> Option<End> {
        let extensions = self.state.wants_any_extension();
        let backlog = self.events.as_ref().map_or(0, |events| events.backlog(extensions));
        // Events that the session does not get are passed over when it can write, and kept until then.
        let kept = self.events.as_ref().map_or(0, |events| events.backlog(true));
        let limit = self.core.limits.events;
        (backlog > limit || kept > limit.saturating_mul(UNWANTED)).then_some(End::EventOverflow)
    }
}
