//! Who gets past a chardev's listener.

use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use peer_admission::{Allowed, Credentials, Refusals, Told};

use crate::connection::Peer;
use crate::stream::Stream;

/// Those who may connect, and what is said of others.
#[derive(Debug)]
pub(crate) struct Gate {
    allowed: Allowed,
    /// Nobody said who may connect: it is what the kind of listener implies. It goes for those who connect to it, and not
    /// for those who are handed in, whom somebody vouches for that was let in.
    implied: bool,
    refusals: Mutex<Refusals>,
}

impl Gate {
    /// For those who are listed; for everybody without lists.
    pub(crate) fn new(allowed: Allowed) -> Self {
        Self { allowed, implied: false, refusals: Mutex::default() }
    }

    /// For an abstract name, which no file mode protects.
    pub(crate) fn of_abstract_name(allowed: Allowed) -> Self {
        match allowed.is_anybody() {
            true => Self { implied: true, ..Self::new(Allowed::owner()) },
            false => Self::new(allowed),
        }
    }

    /// Whether one who has connected may go on. If not, that is logged, though not for everybody in a flood.
    pub(crate) fn admits(&self, id: &str, stream: &Stream, peer: &Peer) -> bool {
        let admitted = match stream {
            Stream::Unix(stream) => self.allowed.admits(stream.as_fd(), peer.credentials),
            _ => self.allowed.is_anybody(),
        };
        if !admitted {
            self.report(id, peer);
        }
        admitted
    }

    /// The same for one who was handed in.
    pub(crate) fn admits_handed_in(&self, id: &str, stream: &Stream, peer: &Peer) -> bool {
        self.implied || self.admits(id, stream, peer)
    }

    fn report(&self, id: &str, peer: &Peer) {
        let told = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).refused(Instant::now());
        let Some(Told { untold }) = told else { return };
        let (uid, gid) = peer.credentials.map(|Credentials { uid, gid, .. }| (uid, gid)).unzip();
        let pid = peer.credentials.and_then(|credentials| credentials.pid);
        tracing::warn!(
            chardev = id,
            uid,
            gid,
            pid,
            peer = %peer,
            untold,
            "refused: neither its user nor a group of its may connect"
        );
    }
}
