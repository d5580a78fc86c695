//! What a handler wants to hear of its descriptor, and what it hears.

use rustix::event::epoll::EventFlags;

/// What a handler is called for. Readiness is level-triggered: a handler is called again until it has taken what
/// there is. Hang-ups and errors are reported whatever the interest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    readable: bool,
    writable: bool,
}

impl Interest {
    /// Hang-ups and errors only.
    pub const NONE: Self = Self { readable: false, writable: false };
    /// Something can be read, or the peer will send no more.
    pub const READ: Self = Self { readable: true, writable: false };
    /// Something can be written.
    pub const WRITE: Self = Self { readable: false, writable: true };
    /// Both.
    pub const READ_WRITE: Self = Self { readable: true, writable: true };

    pub(crate) fn reads(self) -> bool {
        self.readable
    }

    pub(crate) fn writes(self) -> bool {
        self.writable
    }

    pub(crate) fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN | EventFlags::RDHUP, self.readable);
        flags.set(EventFlags::OUT, self.writable);
        flags
    }
}

/// What has happened to a descriptor; several things may have at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Events(pub(crate) EventFlags);

impl Events {
    /// There is something to read, which may be the end of the stream.
    #[must_use]
    pub fn readable(self) -> bool {
        self.0.intersects(EventFlags::IN | EventFlags::RDHUP)
    }

    /// There is room to write.
    #[must_use]
    pub fn writable(self) -> bool {
        self.0.contains(EventFlags::OUT)
    }

    /// The peer has closed; there may still be something to read.
    #[must_use]
    pub fn hangup(self) -> bool {
        self.0.contains(EventFlags::HUP)
    }

    /// There is an error to be fetched, or the reader of a pipe has gone.
    #[must_use]
    pub fn error(self) -> bool {
        self.0.contains(EventFlags::ERR)
    }
}
