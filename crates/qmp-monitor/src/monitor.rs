//! A monitor: a chardev's clients, each with a session.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use chardev::{Connection, FrontEnd, Next};
use fd_registry::NamedFds;
use qmp_command::policy::Policy;
use qmp_command::{LogGate, Peer, Session as _};
use qmp_protocol::Format;
use tokio::sync::watch;
use tokio::task::{self, JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::admission::{Holder, Why};
use crate::budgets::Resources;
use crate::config::{MonitorConfig, MonitorMode, NamedFdsScope, OnIdle};
use crate::core::Core;
#[cfg(feature = "human")]
use crate::human::HumanSession;
use crate::places::Places;
use crate::session::{End, FAREWELL, Mode, QmpSession, Served, Session};

/// What sessions have beyond their own time to end in, before the monitor stops waiting for them.
const GRACE: Duration = Duration::from_millis(200);

/// The sessions of a monitor, for whoever lists them.
type Sessions = Mutex<Vec<Weak<QmpSession>>>;

/// What a monitor, its task and its sessions share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// The sessions are to end.
    closing: AtomicBool,
    /// Clients that are still there then stay connected.
    parking: AtomicBool,
    /// Replies are indented.
    pretty: AtomicBool,
    sessions: Sessions,
    log_gate: LogGate,
}

impl Shared {
    /// Whether the sessions are to end.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    fn list(&self, state: &Arc<QmpSession>) {
        let mut sessions = self.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.push(Arc::downgrade(state));
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<QmpSession>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A monitor that serves clients until it is closed.
#[derive(Debug)]
pub struct Monitor {
    core: Arc<Core>,
    id: Arc<str>,
    shared: Arc<Shared>,
    /// Set when the front end has been given back.
    released: watch::Receiver<bool>,
    /// Told to the monitor's task. Dropped, it says the same.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Starts to serve a front end's clients, on the core's runtime.
    ///
    /// While it is full, those who come wait, and sessions that have never negotiated (or sent a line) give way to them
    /// half a second after they came; so do the newest ones of a user with more than its share of the places, to another
    /// user. A front end of one client at a time is served as QEMU does: who comes waits until that one leaves.
    pub fn start(core: Arc<Core>, config: &MonitorConfig, mut front_end: FrontEnd) -> Self {
        let allowed = config.allowed();
        if !allowed.is_anybody() {
            front_end.admit_only(allowed);
        }
        let (stop, stopped) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let id: Arc<str> = config.id.as_str().into();
        let shared = Arc::new(Shared { pretty: AtomicBool::new(config.pretty), ..Shared::default() });
        let serving = Serving {
            core: core.clone(),
            id: id.clone(),
            mode: config.mode,
            shared: shared.clone(),
            strict: config.strict,
            on_idle: config.on_idle.clone(),
            release,
            shared_fds: (config.named_fds == NamedFdsScope::Monitor)
                .then(|| Arc::new(NamedFds::bounded(core.shared_names.clone()))),
            policy: config.policy.clone(),
            sessions: JoinSet::new(),
            places: Places::new(&mut front_end),
        };
        let task = core.runtime.spawn(serving.run(front_end, stopped));
        Self { core, id, shared, released, stop, task }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether sessions that begin from now on indent their replies.
    pub fn set_pretty(&self, pretty: bool) {
        self.shared.pretty.store(pretty, Ordering::Relaxed);
    }

    /// The sessions that there are.
    pub fn sessions(&self) -> Vec<Arc<QmpSession>> {
        let mut sessions = self.shared.lock();
        sessions.retain(|session| session.strong_count() > 0);
        sessions.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends the monitor, and leaves its clients connected to the chardev: the next monitor on it greets them anew. Returns
    /// when the chardev can have that; a session whose command runs hands its client over when that has ended.
    pub async fn detach(mut self) {
        self.shared.parking.store(true, Ordering::Release);
        // The task gives the front end back before it tells the sessions, so that it does not get their clients again.
        self.stop.send_replace(true);
        // An error says that the task is gone, and the front end with it.
        let _ = self.released.wait_for(|released| *released).await;
    }

    /// Takes no more clients, and ends the sessions: each finishes the command that runs and has two seconds to write
    /// what it has. A session whose command takes longer goes on by itself and ends with it; until then it keeps its place
    /// among the chardev's clients. If the plane ends, its client goes, and the command goes on alone.
    pub async fn close(self) {
        self.shared.closing.store(true, Ordering::Release);
        self.core.events.wake_all();
        self.stop.send_replace(true);
        if let Err(error) = self.task.await
            && error.is_panic()
        {
            tracing::error!(monitor = &*self.id, "the monitor's task panicked");
        }
    }
}

/// The state of a monitor's task.
struct Serving {
    core: Arc<Core>,
    id: Arc<str>,
    mode: MonitorMode,
    shared: Arc<Shared>,
    strict: bool,
    on_idle: Option<OnIdle>,
    release: watch::Sender<bool>,
    /// The named fds of all sessions, when they are the monitor's.
    shared_fds: Option<Arc<NamedFds>>,
    policy: Policy,
    sessions: JoinSet<()>,
    places: Places,
}

impl Serving {
    async fn run(mut self, mut front_end: FrontEnd, mut stopped: watch::Receiver<bool>) {
        let (mut more, mut again) = (true, None);
        // Made once: it is looked at with whatever else happens. An error says that the monitor was dropped.
        let mut stop = std::pin::pin!(async { drop(stopped.wait_for(|stopped| *stopped).await) });
        loop {
            let waiting = self.places.waiting();
            let pause = self.places.pause();
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(ended) = self.sessions.join_next_with_id() => {
                    self.reap(ended);
                    if self.sessions.is_empty()
                        && let Some(on_idle) = &self.on_idle
                    {
                        on_idle();
                    }
                }
                next = front_end.next_beside(waiting), if more && pause.is_none() => match next {
                    Some(Next::Client(connection)) if front_end.is_full(waiting + 1) => {
                        self.keep_waiting(connection);
                    }
                    Some(Next::Client(connection)) => self.serve(connection),
                    Some(Next::Place) => {}
                    // No client will ever come again; those that are there go on.
                    None => more = false,
                },
                // Only while somebody waits.
                () = sleep_until(pause.or(again)), if pause.or(again).is_some() => {}
            }
            again = self.settle(&front_end);
        }
        // Those who have waited are the first that the next front end gets.
        self.places.take_waiting().into_iter().for_each(Connection::park);
        drop(front_end);
        self.release.send_replace(true);
        self.shared.closing.store(true, Ordering::Release);
        self.core.events.wake_all();
        self.finish().await;
    }

    fn serve(&mut self, connection: Connection) {
        let peer = connection.peer();
        let credentials = peer.credentials.map(|c| Peer { pid: c.pid, uid: c.uid, gid: c.gid });
        let holder = Holder::of(&connection);
        // Only TCP lets in whoever a browser can be made to connect.
        let strict = self.strict && peer.ip.is_some();
        let mode = match self.mode {
            MonitorMode::Control => Mode::Negotiating,
            #[cfg(feature = "human")]
            MonitorMode::Readline { .. } => Mode::InBand,
        };
        // A client that somebody handed in has none of the names that others gave.
        let shared_fds = self.shared_fds.clone().filter(|_| connection.badge().is_none());
        // Whoever handed the client in had these rights: it gets no more.
        let handed_in = connection.badge().and_then(|badge| badge.downcast_ref::<Policy>());
        let policy = handed_in.map_or_else(|| self.policy.clone(), |policy| self.policy.and(policy));
        // What it holds is for who handed the client in, if somebody did: whoever that is can have any user at the other end.
        let giver = connection.giver().map(|giver| giver.uid);
        let resources = Resources::new(&self.core, giver.or(credentials.map(|peer| peer.uid)));
        let state = QmpSession::new(self.id.clone(), credentials, mode, shared_fds, policy);
        let state = Arc::new(state.using(&resources));
        tracing::debug!(monitor = &*self.id, session = state.id(), %peer, "a client came");
        let (core, shared) = (self.core.clone(), self.shared.clone());
        match self.mode {
            MonitorMode::Control => {
                let format =
                    if self.shared.pretty.load(Ordering::Relaxed) { Format::Pretty } else { Format::Compact };
                let session = Session::new(connection, core, shared, state, resources, format);
                self.spawn(holder, session.strict(strict));
            }
            #[cfg(feature = "human")]
            MonitorMode::Readline { echo } => {
                let Some(shell) = core.shell().cloned() else {
                    tracing::error!(
                        monitor = &*self.id,
                        "nobody executes lines here: a client is turned away"
                    );
                    return;
                };
                let session = HumanSession::new(connection, core, shared, state, resources, shell, echo);
                self.spawn(holder, session.strict(strict));
            }
        }
    }

    /// The monitor is full.
    fn keep_waiting(&mut self, connection: Connection) {
        tracing::debug!(monitor = &*self.id, peer = %connection.peer(), "a client waits: the monitor is full");
        if let Some(turned_away) = self.places.wait(connection)
            && let Some(untold) = self.shared.log_gate.admit()
        {
            let peer = turned_away.peer();
            tracing::warn!(monitor = &*self.id, %peer, untold, "turned away: the monitor is full, and many wait");
        }
    }

    /// Lets those in who wait, or has others give way to them. When to do so again, if nothing happens before.
    fn settle(&mut self, front_end: &FrontEnd) -> Option<Instant> {
        while !front_end.is_full(self.places.waiting())
            && let Some(connection) = self.places.next_in()
        {
            self.serve(connection);
        }
        let settled = self.places.settle();
        for (state, why) in &settled.gave_way {
            state.give_way();
            let why = match why {
                Why::NeverBegun => "it has never begun",
                Why::AboveShare => "its user has more than a share of the places",
            };
            let (monitor, session, peer) = (&*self.id, state.id(), state.peer());
            if let Some(untold) = self.shared.log_gate.admit() {
                tracing::warn!(
                    monitor,
                    session,
                    ?peer,
                    untold,
                    "the monitor is full: a session gives way: {why}"
                );
            } else {
                tracing::debug!(monitor, session, ?peer, "a session gives way: {why}");
            }
        }
        settled.again
    }

    /// Runs a session on a task of its own.
    fn spawn(&mut self, holder: Holder, mut session: impl Served) {
        let state = session.state().clone();
        self.shared.list(&state);
        // The task holds nothing but the session, of which there may be thousands.
        let task = self.sessions.spawn(async move {
            let end = (&mut session).await;
            let shared = session.shared().clone();
            report(session.state(), &end, &shared.log_gate);
            let running = session.take_running();
            if running.is_none() && matches!(end, End::Closed) && shared.parking.load(Ordering::Acquire) {
                session.park();
            } else {
                drop(session);
            }
            if let Some(running) = running {
                tokio::spawn(running);
            }
        });
        self.places.seat(task.id(), state, holder);
    }

    fn reap(&mut self, ended: Result<(task::Id, ()), task::JoinError>) {
        match ended {
            Ok((task, ())) => self.places.free(task),
            Err(error) => {
                self.places.free(error.id());
                if error.is_panic() {
                    tracing::error!(monitor = &*self.id, "a session's task panicked");
                }
            }
        }
    }

    /// Waits for the sessions, which have been told to end. One whose command does not end is left to itself.
    async fn finish(&mut self) {
        let deadline = Instant::now() + FAREWELL + GRACE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.sessions.join_next_with_id()).await
        {
            self.reap(ended);
        }
        if self.sessions.is_empty() {
            return;
        }
        tracing::warn!(
            monitor = &*self.id,
            sessions = self.sessions.len(),
            "commands go on beyond the monitor's end"
        );
        self.sessions.detach_all();
    }
}

/// Waits until then; for ever, if that is never.
async fn sleep_until(then: Option<Instant>) {
    match then {
        Some(then) => tokio::time::sleep_until(then).await,
        None => std::future::pending().await,
    }
}

fn report(state: &QmpSession, end: &End, gate: &LogGate) {
    let (monitor, session) = (state.monitor(), state.id());
    let (commands, errors) = (state.commands_served(), state.errors());
    let untold = if end.is_forced() || matches!(end, End::Foreign) { gate.admit() } else { None };
    if let Some(untold) = untold {
        let peer = state.peer();
        tracing::warn!(monitor, session, commands, errors, ?peer, untold, reason = %end, "a session was ended");
    } else {
        tracing::debug!(monitor, session, commands, errors, reason = %end, "a session ended");
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("id", &self.id).finish_non_exhaustive()
    }
}
