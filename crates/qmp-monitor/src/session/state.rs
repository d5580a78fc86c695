//! What handlers and other tasks may know of a session.

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::Waker;

use budget::Account;
use fd_registry::NamedFds;
use qmp_command::policy::Policy;
use qmp_command::{LogGate, Peer, Session};

use crate::budgets::Resources;

/// How far the negotiation of capabilities has come. It only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Only `qmp_capabilities` is understood.
    Negotiating = 0,
    /// Commands are executed in order.
    InBand = 1,
    /// Likewise, and `exec-oob` overtakes.
    OutOfBand = 2,
}

/// One client's session, as handlers see it through [`Context::session`](qmp_command::Context::session).
#[derive(Debug)]
pub struct QmpSession {
    id: u64,
    monitor: Arc<str>,
    peer: Option<Peer>,
    mode: AtomicU8,
    /// It has negotiated or, at a human monitor, sent a line.
    begun: AtomicBool,
    /// It is to end, for another client.
    gives_way: AtomicBool,
    /// What wakes its task, if it has a client.
    wake: Option<Waker>,
    /// Set when they are first asked for, unless they are its monitor's.
    named_fds: OnceLock<Arc<NamedFds>>,
    policy: Policy,
    enabled_events: Mutex<BTreeSet<String>>,
    commands: AtomicU64,
    errors: AtomicU64,
    queued: AtomicUsize,
    outbox: AtomicUsize,
    /// Set at the first refusal.
    refusals: OnceLock<Arc<LogGate>>,
    /// Where its memory and its fds are counted, if it has a client.
    accounts: Option<[Account; 2]>,
    attached: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl QmpSession {
    pub(crate) fn new(
        monitor: Arc<str>,
        peer: Option<Peer>,
        mode: Mode,
        shared_fds: Option<Arc<NamedFds>>,
        policy: Policy,
    ) -> Self {
        // The one thing that all planes of a process share: session numbers, so that a log is unambiguous.
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            monitor,
            peer,
            mode: AtomicU8::new(mode as u8),
            begun: AtomicBool::new(false),
            gives_way: AtomicBool::new(false),
            wake: None,
            named_fds: shared_fds.map_or_else(OnceLock::new, OnceLock::from),
            policy,
            enabled_events: Mutex::default(),
            commands: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            queued: AtomicUsize::new(0),
            outbox: AtomicUsize::new(0),
            refusals: OnceLock::new(),
            accounts: None,
            attached: OnceLock::new(),
        }
    }

    /// For a session that uses these.
    pub(crate) fn using(self, resources: &Resources) -> Self {
        Self { wake: Some(resources.wake.waker()), accounts: Some(resources.accounts()), ..self }
    }

    /// A session of the same client for a call inside a call: same monitor, same credentials, in-band, with named fds of
    /// its own, of which there are none yet.
    #[must_use]
    pub fn throw_away(&self) -> Arc<Self> {
        let state = Self::new(self.monitor.clone(), self.peer, Mode::InBand, None, self.policy.clone());
        Arc::new(Self { refusals: OnceLock::from(self.log_gate().clone()), ..state })
    }

    /// What another layer keeps with the session: one value, made when it is first asked for. `None` when it was asked
    /// for as another type before.
    pub fn attached<T: Any + Default + Send + Sync>(&self) -> Option<Arc<T>> {
        self.attached.get_or_init(|| Arc::new(T::default())).clone().downcast().ok()
    }

    /// How far negotiation has come.
    pub fn mode(&self) -> Mode {
        match self.mode.load(Ordering::Acquire) {
            0 => Mode::Negotiating,
            1 => Mode::InBand,
            _ => Mode::OutOfBand,
        }
    }

    /// Ends negotiation. `false` when it was over already; nothing has changed then.
    pub fn negotiate(&self, out_of_band: bool) -> bool {
        let mode = if out_of_band { Mode::OutOfBand } else { Mode::InBand };
        self.begin();
        self.mode
            .compare_exchange(Mode::Negotiating as u8, mode as u8, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// The client has shown that it is one.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    /// The session finishes what runs and ends.
    pub(crate) fn give_way(&self) {
        self.gives_way.store(true, Ordering::Release);
        self.wake.iter().for_each(Waker::wake_by_ref);
    }

    pub(crate) fn gives_way(&self) -> bool {
        self.gives_way.load(Ordering::Acquire)
    }

    /// The names that `getfd` gave to fds: the session's own, or its monitor's.
    pub fn named_fds(&self) -> &NamedFds {
        self.named_fds.get_or_init(Arc::default)
    }

    fn log_gate(&self) -> &Arc<LogGate> {
        self.refusals.get_or_init(Arc::default)
    }

    /// Turns events that QEMU does not have on or off for this session.
    pub fn enable_event(&self, name: &str, on: bool) {
        let mut enabled = self.enabled_events.lock().unwrap_or_else(PoisonError::into_inner);
        if on {
            enabled.insert(name.to_owned());
        } else {
            enabled.remove(name);
        }
    }

    pub(crate) fn wants_extension(&self, name: &str) -> bool {
        self.enabled_events.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(crate) fn wants_any_extension(&self) -> bool {
        !self.enabled_events.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    pub(crate) fn count(&self, ok: bool) {
        self.commands.fetch_add(1, Ordering::Relaxed);
        if !ok {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes what waits, at the end of a turn.
    pub(crate) fn gauge(&self, queued: usize, outbox: usize) {
        self.queued.store(queued, Ordering::Relaxed);
        self.outbox.store(outbox, Ordering::Relaxed);
    }

    /// Requests that had been read and not been answered when the session last paused, the running one included.
    pub fn queued(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Bytes that the client had not taken then.
    pub fn outbox(&self) -> usize {
        self.outbox.load(Ordering::Relaxed)
    }

    /// Bytes of memory that are counted for it: see [`Budgets`](crate::Budgets).
    pub fn held_bytes(&self) -> usize {
        self.accounts.as_ref().map_or(0, |[memory, _]| memory.held())
    }

    /// Fds that its client sent and that are not closed, wherever they are by now.
    pub fn held_fds(&self) -> usize {
        self.accounts.as_ref().map_or(0, |[_, fds]| fds.held())
    }

    /// Requests answered so far, refused ones included.
    pub fn commands_served(&self) -> u64 {
        self.commands.load(Ordering::Relaxed)
    }

    /// How many of them were answered with an error.
    pub fn errors(&self) -> u64 {
        self.errors.load(Ordering::Relaxed)
    }
}

impl Session for QmpSession {
    fn id(&self) -> u64 {
        self.id
    }

    fn monitor(&self) -> &str {
        &self.monitor
    }

    fn peer(&self) -> Option<Peer> {
        self.peer
    }

    fn policy(&self) -> &Policy {
        &self.policy
    }

    fn refusals(&self) -> Option<&LogGate> {
        Some(self.log_gate())
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negotiation_happens_once() {
        let session = QmpSession::new("m".into(), None, Mode::Negotiating, None, Policy::UNRESTRICTED);
        assert!(session.negotiate(true));
        assert!(!session.negotiate(false));
        assert_eq!(session.mode(), Mode::OutOfBand);
    }

    #[test]
    fn what_is_attached_stays_with_its_session() {
        let session = QmpSession::new("m".into(), None, Mode::InBand, None, Policy::UNRESTRICTED);
        session.attached::<AtomicU8>().unwrap().store(7, Ordering::Relaxed);
        assert_eq!(session.attached::<AtomicU8>().unwrap().load(Ordering::Relaxed), 7);
        assert!(session.attached::<String>().is_none());
        let other = session.throw_away();
        assert_eq!((other.monitor(), other.mode()), ("m", Mode::InBand));
        assert_ne!(other.id(), session.id());
        assert_eq!(other.attached::<AtomicU8>().unwrap().load(Ordering::Relaxed), 0);
    }
}
