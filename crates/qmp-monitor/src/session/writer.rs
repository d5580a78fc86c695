//! What goes to a session's peer, and how long the peer may take nothing of it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use super::outbox::{Flushed, Outbox, Sink};
use super::{End, FAREWELL};

/// An outbox with its clocks.
#[derive(Default)]
pub(crate) struct Writer {
    outbox: Outbox,
    /// Runs while the peer takes nothing.
    stall: Option<Pin<Box<Sleep>>>,
    /// Set when the monitor or the plane closes: what is not written by then is not written.
    farewell: Option<Pin<Box<Sleep>>>,
}

impl Writer {
    /// Where bytes are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        self.outbox.buffer()
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.outbox.len()
    }

    /// Memory that they take up.
    pub(crate) fn capacity(&self) -> usize {
        self.outbox.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Forgets what waits: nobody will read it.
    pub(crate) fn give_up(&mut self) {
        self.outbox.clear();
        self.stall = None;
    }

    /// The monitor or the plane closes: from the first call on, the peer has [`FAREWELL`] to take what waits.
    pub(crate) fn hurry(&mut self) {
        self.farewell.get_or_insert_with(|| Box::pin(tokio::time::sleep(FAREWELL)));
    }

    /// Whether that time is over.
    pub(crate) fn poll_farewell(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.farewell.as_mut().map_or(Poll::Pending, |farewell| farewell.as_mut().poll(cx))
    }

    /// Writes as much as the peer takes; says whether that was all. If it was not, the task will be woken.
    ///
    /// # Errors
    /// Why the session must end: the transport fails, the peer has taken nothing for `limit`, its farewell is over.
    pub(crate) fn poll_flush(
        &mut self,
        sink: &impl Sink,
        limit: Duration,
        cx: &mut Context<'_>,
    ) -> Result<bool, End> {
        let progress = match self.outbox.poll_flush(sink, cx).map_err(End::Transport)? {
            Flushed::All => {
                self.stall = None;
                return Ok(true);
            }
            Flushed::Blocked { progress } => progress,
        };
        if progress {
            self.stall = None;
        }
        if self.poll_farewell(cx).is_ready() {
            return Err(End::Closed);
        }
        let stall = self.stall.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        if stall.as_mut().poll(cx).is_ready() {
            // The peer may have read for all that time and the socket not have said so: it speaks up only when most of
            // its buffer is free.
            if !self.outbox.push(sink).map_err(End::Transport)? {
                return Err(End::Stalled);
            }
            self.stall = None;
            cx.waker().wake_by_ref();
        }
        Ok(false)
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}
