//! Large writes to memory, taken piece by piece as they come.
//!
//! A write is executed once all of it is there; but where it goes to memory nobody can tell, and a buffer that is as large as
//! the write costs more than the write. So such a one goes through the usual buffer. If its client leaves half-way, half
//! of it has been written.

use super::deferred::Deferred;
use super::engine::Engine;
use super::header::{HEADER, Header};
use super::inbox::Inbox;
use super::{Access, Outcome, Target};
use crate::Errno;

/// Bytes of the buffer meanwhile: about what a socket holds.
const ROOM: usize = 256 * 1024;

/// A write that is being taken.
#[derive(Debug)]
pub(super) struct Pieces {
    write: Deferred,
    done: u32,
    failed: Option<Errno>,
}

impl Pieces {
    /// Begins, if the write at the front, of which there is only a part, is one to be taken so.
    pub(super) fn begin<T: Target + ?Sized>(
        engine: &mut Engine,
        inbox: &mut Inbox,
        target: &T,
    ) -> Option<Self> {
        let (header, fixed) = inbox.unfinished_write(&engine.limits)?;
        let size = header.size as usize;
        if engine.peer.is_none() || engine.blocked() || size < engine.limits.pieces {
            return None;
        }
        let write = engine.check_large_write(target, header, fixed)?;
        inbox.open(size, HEADER + fixed.len());
        Some(Self { write, done: 0, failed: None })
    }

    /// Bytes that are still to come.
    fn left(&self) -> usize {
        (self.write.count - self.done) as usize
    }

    /// How much room the next read should find.
    pub(super) fn room(&self) -> usize {
        self.left().min(ROOM)
    }

    /// Takes what is there. Once that was all, answers; gives the header then.
    pub(super) fn go_on<T: Target + ?Sized>(
        &mut self,
        engine: &mut Engine,
        inbox: &mut Inbox,
        target: &mut T,
    ) -> Option<Header> {
        let piece = inbox.front(self.left());
        let count = piece.len();
        if count > 0 && self.failed.is_none() {
            let offset = self.write.offset + u64::from(self.done);
            let access = Access { token: engine.deferred.token(), region: self.write.region, offset };
            self.failed = match target.region_write(access, piece) {
                Outcome::Done => None,
                Outcome::Failed(errno) => Some(errno),
                // Memory answers at once.
                Outcome::Deferred => Some(Errno::IO),
            };
        }
        inbox.consume(count);
        // No more than what is left, which fits.
        self.done += u32::try_from(count).unwrap_or(0);
        if self.left() > 0 {
            return None;
        }
        engine.counters.commands += 1;
        engine.counters.writes += 1;
        engine.counters.written_bytes += u64::from(self.write.count);
        match self.failed {
            None => engine.written(&self.write),
            Some(errno) => engine.fail_command(&self.write.header, errno),
        }
        Some(self.write.header)
    }
}
