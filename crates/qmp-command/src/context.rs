//! What a handler may know of the session its request came from.

use std::any::Any;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fd_closer::Received;
use qmp_protocol::{Format, Object};

use crate::log_gate::LogGate;
use crate::policy::Policy;

/// Who is at the other end of a local socket, as the kernel says (`SO_PEERCRED`, taken when it connected).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Process id; `None` when the process is in another pid namespace.
    pub pid: Option<i32>,
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// The session a request came from. A monitor crate implements it; handlers that need more than this trait gives
/// downcast through [`Context::session`].
pub trait Session: fmt::Debug + Send + Sync + 'static {
    /// A number that no other session of the process has.
    fn id(&self) -> u64;
    /// The id of the monitor it belongs to.
    fn monitor(&self) -> &str;
    /// Its client's credentials, where the transport knows them.
    fn peer(&self) -> Option<Peer> {
        None
    }
    /// What it may do. Everything by default.
    fn policy(&self) -> &Policy {
        static EVERYTHING: Policy = Policy::UNRESTRICTED;
        &EVERYTHING
    }
    /// What keeps it from filling the log with refusals. `None`: nothing does.
    fn refusals(&self) -> Option<&LogGate> {
        None
    }
    /// For downcasting; `self`.
    fn as_any(&self) -> &dyn Any;
}

/// The file descriptors that the newest fd-bearing write brought, shared by the requests that can see them.
///
/// The first request that takes one gets the first and closes the rest; dropping the last clone closes what was
/// not taken. A newer write does not change an older set: its requests go on seeing it.
#[derive(Clone, Debug, Default)]
pub struct PendingFds(Option<Arc<Mutex<Pending>>>);

#[derive(Debug, Default)]
struct Pending {
    fds: Vec<Received>,
    refused: bool,
    lost: bool,
}

impl PendingFds {
    /// The fds of one write, in its order.
    pub fn new(fds: Vec<OwnedFd>) -> Self {
        Self::received(fds.into_iter().map(Received::from).collect())
    }

    /// The same, of fds that are [charged](Received::charged) to somebody.
    pub fn received(fds: Vec<Received>) -> Self {
        Self((!fds.is_empty()).then(|| Arc::new(Mutex::new(Pending { fds, ..Pending::default() }))))
    }

    /// Some that came and could not be received: whoever looks for one learns that.
    pub fn lost() -> Self {
        Self(Some(Arc::new(Mutex::new(Pending { lost: true, ..Pending::default() }))))
    }

    /// Whether they came and could [not be received](Self::lost).
    pub fn are_lost(&self) -> bool {
        self.lock().is_some_and(|pending| pending.lost)
    }

    /// The first fd; all others are closed. `None` when there are none (left).
    pub fn take_first(&self) -> Option<Received> {
        let fds = std::mem::take(&mut self.lock()?.fds);
        // The others are closed here, outside the lock.
        fds.into_iter().next()
    }

    /// Closes all that were not taken, since somebody holds too many; whoever looks for one learns why there is none.
    /// Says how many there were.
    pub fn refuse(&self) -> usize {
        let Some(mut pending) = self.lock() else { return 0 };
        pending.refused |= !pending.fds.is_empty();
        let fds = std::mem::take(&mut pending.fds);
        drop(pending);
        fds.len()
    }

    /// Whether they were [refused](Self::refuse).
    pub fn are_refused(&self) -> bool {
        self.lock().is_some_and(|pending| pending.refused)
    }

    /// How many are there to take.
    pub fn len(&self) -> usize {
        self.lock().map_or(0, |pending| pending.fds.len())
    }

    fn lock(&self) -> Option<MutexGuard<'_, Pending>> {
        self.0.as_ref().map(|fds| fds.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is none to take.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Where a request came from, and how its reply is to be written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Context {
    session: Arc<dyn Session>,
    fds: PendingFds,
    oob: bool,
    format: Format,
}

impl Context {
    /// An in-band request of `session`, without fds, answered in compact form.
    pub fn new(session: Arc<dyn Session>) -> Self {
        Self { session, fds: PendingFds::default(), oob: false, format: Format::Compact }
    }

    /// With the fds that the request can see.
    #[must_use]
    pub fn with_fds(mut self, fds: PendingFds) -> Self {
        self.fds = fds;
        self
    }

    /// For a request executed out-of-band.
    #[must_use]
    pub fn with_oob(mut self, oob: bool) -> Self {
        self.oob = oob;
        self
    }

    /// With the reply written in this form.
    #[must_use]
    pub fn with_format(mut self, format: Format) -> Self {
        self.format = format;
        self
    }

    /// The session's number.
    pub fn session_id(&self) -> u64 {
        self.session.id()
    }

    /// The id of the monitor that the session belongs to.
    pub fn monitor(&self) -> &str {
        self.session.monitor()
    }

    /// The client's credentials, where the transport knows them.
    pub fn peer(&self) -> Option<Peer> {
        self.session.peer()
    }

    /// What the session may do.
    pub fn policy(&self) -> &Policy {
        self.session.policy()
    }

    /// The session as its concrete type, or `None` when it is of another.
    pub fn session<T: Session>(&self) -> Option<&T> {
        self.session.as_any().downcast_ref()
    }

    /// Whether the request overtakes others.
    pub fn is_oob(&self) -> bool {
        self.oob
    }

    /// How the reply will be written.
    pub fn format(&self) -> Format {
        self.format
    }

    /// Takes the first fd that came with the newest fd-bearing write this request can see; the others are closed.
    ///
    /// `None` when there is none, and always `None` in a command that was not declared with
    /// [`takes_fd`](crate::CommandBuilder::takes_fd).
    /// It comes as [`Received`], which closes it where nobody waits; take the fd itself out of it only to keep it.
    pub fn take_fd(&self) -> Option<Received> {
        self.fds.take_first()
    }

    /// Whether fds came for this request and were closed because too many are held.
    pub fn fds_are_refused(&self) -> bool {
        self.fds.are_refused()
    }

    /// Whether fds came for this request and could not be received.
    pub fn fds_are_lost(&self) -> bool {
        self.fds.are_lost()
    }

    pub(crate) fn refusals(&self) -> Option<&LogGate> {
        self.session.refusals()
    }

    /// Makes the fds invisible, for commands that do not take any.
    pub(crate) fn hide_fds(&mut self) {
        self.fds = PendingFds::default();
    }
}

/// One call of a command: what the stack of a command is a service of.
#[derive(Debug)]
pub struct Invocation {
    /// The `arguments` member as it came, or `None` when there was none.
    pub arguments: Option<Object>,
    /// Where it came from.
    pub context: Context,
}

/// A session without a client or a monitor, for calling commands from tests and from the process itself.
pub fn detached_session() -> Arc<dyn Session> {
    #[derive(Debug)]
    struct Detached;
    impl Session for Detached {
        fn id(&self) -> u64 {
            0
        }
        fn monitor(&self) -> &str {
            ""
        }
        fn as_any(&self) -> &dyn Any {
            self
        }
    }
    Arc::new(Detached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, pipe};

    #[test]
    fn taking_an_fd_gives_the_first_and_closes_the_rest() {
        let (mut r1, w1) = pipe().unwrap();
        let (mut r2, w2) = pipe().unwrap();
        let ctx = Context::new(detached_session()).with_fds(PendingFds::new(vec![w1.into(), w2.into()]));
        let first = ctx.take_fd().unwrap();
        assert_eq!(r2.read(&mut [0]).unwrap(), 0, "the second is closed");
        assert!(ctx.take_fd().is_none());
        drop(first);
        assert_eq!(r1.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn refused_fds_are_closed_and_whoever_wants_one_learns_of_it() {
        let (mut reader, writer) = pipe().unwrap();
        let fds = PendingFds::new(vec![writer.into()]);
        let ctx = Context::new(detached_session()).with_fds(fds.clone());
        assert!(!ctx.fds_are_refused());
        assert_eq!(fds.refuse(), 1);
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        assert!(ctx.take_fd().is_none() && ctx.fds_are_refused());

        let taken = PendingFds::new(vec![std::fs::File::open("/dev/null").unwrap().into()]);
        drop(taken.take_first());
        assert_eq!(taken.refuse(), 0);
        assert!(!taken.are_refused(), "there was none to refuse");
    }

    #[test]
    fn an_older_set_outlives_a_newer_one() {
        let (mut r1, w1) = pipe().unwrap();
        let old = PendingFds::new(vec![w1.into()]);
        let seen = old.clone();
        drop(old);
        assert_eq!(seen.len(), 1);
        drop(seen);
        assert_eq!(r1.read(&mut [0]).unwrap(), 0, "closed with its last holder");
    }
}
