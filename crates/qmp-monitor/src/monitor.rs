//! A monitor: a chardev's clients, each with a session.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chardev::{Connection, FrontEnd};
use fd_registry::NamedFds;
use qmp_command::policy::Policy;
use qmp_command::{Peer, Session as _};
use qmp_protocol::Format;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use crate::core::Core;
#[cfg(feature = "human")]
use crate::human::HumanSession;
use crate::session::{End, FAREWELL, Mode, QmpSession, Session};

/// What sessions have beyond their own time to end in, before the monitor stops waiting for them.
const GRACE: Duration = Duration::from_millis(200);

/// Whose the names are that `getfd` gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NamedFdsScope {
    /// The session's: its fds are closed when it ends.
    #[default]
    Session,
    /// The monitor's, as in QEMU: they outlive their client, and its next client can use them.
    Monitor,
}

/// Called when the last of a monitor's clients has left. On the monitor's task: it must not block.
type OnIdle = Arc<dyn Fn() + Send + Sync>;

/// What a monitor speaks. A feature of this crate adds to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MonitorMode {
    /// QMP.
    #[default]
    Control,
    /// Lines, for people: see [`human`](crate::human).
    #[cfg(feature = "human")]
    Readline {
        /// Whether the client's keys are echoed and edit the line, as always in QEMU 7.2. If not, lines are taken as they
        /// come.
        echo: bool,
    },
}

/// How a monitor serves its clients.
#[derive(Clone)]
#[non_exhaustive]
pub struct MonitorConfig {
    /// Its id.
    pub id: String,
    /// What it speaks.
    pub mode: MonitorMode,
    /// Whether replies are indented. Nothing to a human monitor.
    pub pretty: bool,
    /// Whose named fds are.
    pub named_fds: NamedFdsScope,
    /// What its sessions may do.
    pub policy: Policy,
    /// Who may connect, by user id as the kernel says it; everybody when `None`. With a list, a client whose user id is
    /// not known (on TCP) is refused too.
    pub allowed_uids: Option<Vec<u32>>,
    on_idle: Option<OnIdle>,
}

impl MonitorConfig {
    /// A QMP monitor with compact replies and named fds by session.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            mode: MonitorMode::Control,
            pretty: false,
            named_fds: NamedFdsScope::default(),
            policy: Policy::UNRESTRICTED,
            allowed_uids: None,
            on_idle: None,
        }
    }

    /// A human monitor, with or without echo and editing. The core needs a [shell](Core::set_shell).
    #[cfg(feature = "human")]
    #[must_use]
    pub fn readline(mut self, echo: bool) -> Self {
        self.mode = MonitorMode::Readline { echo };
        self
    }

    /// Whether it is a human monitor.
    #[must_use]
    pub fn is_human(&self) -> bool {
        !matches!(self.mode, MonitorMode::Control)
    }

    /// With indented replies.
    #[must_use]
    pub fn pretty(mut self, pretty: bool) -> Self {
        self.pretty = pretty;
        self
    }

    /// With named fds in this scope.
    #[must_use]
    pub fn named_fds(mut self, scope: NamedFdsScope) -> Self {
        self.named_fds = scope;
        self
    }

    /// For these users only. A refused peer gets nothing, not even the greeting.
    #[must_use]
    pub fn allowed_uids(mut self, uids: Option<Vec<u32>>) -> Self {
        self.allowed_uids = uids;
        self
    }

    /// With somebody to be told whenever the last client has left. Not called when the monitor is closed.
    #[must_use]
    pub fn on_idle(mut self, call: impl Fn() + Send + Sync + 'static) -> Self {
        self.on_idle = Some(Arc::new(call));
        self
    }

    /// Whose sessions may do only what this allows.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }
}

impl fmt::Debug for MonitorConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitorConfig")
            .field("id", &self.id)
            .field("mode", &self.mode)
            .field("pretty", &self.pretty)
            .field("named_fds", &self.named_fds)
            .field("policy", &self.policy)
            .field("allowed_uids", &self.allowed_uids)
            .finish_non_exhaustive()
    }
}

/// The sessions of a monitor, for whoever lists them.
type Sessions = Arc<Mutex<Vec<Weak<QmpSession>>>>;

/// A monitor that serves clients until it is closed.
#[derive(Debug)]
pub struct Monitor {
    core: Arc<Core>,
    id: Arc<str>,
    /// Told to the sessions.
    closing: Arc<AtomicBool>,
    /// Clients that are still there stay connected.
    parking: Arc<AtomicBool>,
    pretty: Arc<AtomicBool>,
    sessions: Sessions,
    /// Set when the front end has been given back.
    released: watch::Receiver<bool>,
    /// Told to the monitor's task. Dropped, it says the same.
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Monitor {
    /// Starts to serve a front end's clients, on the core's runtime.
    pub fn start(core: Arc<Core>, config: &MonitorConfig, front_end: FrontEnd) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (release, released) = watch::channel(false);
        let (id, closing): (Arc<str>, _) = (config.id.as_str().into(), Arc::default());
        let (parking, sessions): (Arc<AtomicBool>, Sessions) = Default::default();
        let pretty = Arc::new(AtomicBool::new(config.pretty));
        let serving = Serving {
            core: core.clone(),
            id: id.clone(),
            mode: config.mode,
            pretty: pretty.clone(),
            allowed_uids: config.allowed_uids.clone(),
            on_idle: config.on_idle.clone(),
            parking: parking.clone(),
            listed: sessions.clone(),
            release,
            shared_fds: (config.named_fds == NamedFdsScope::Monitor).then(Arc::default),
            policy: config.policy.clone(),
            closing: Arc::clone(&closing),
            sessions: JoinSet::new(),
        };
        let task = core.runtime.spawn(serving.run(front_end, stopped));
        Self { core, id, closing, parking, pretty, sessions, released, stop, task }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether sessions that begin from now on indent their replies.
    pub fn set_pretty(&self, pretty: bool) {
        self.pretty.store(pretty, Ordering::Relaxed);
    }

    /// The sessions that there are.
    pub fn sessions(&self) -> Vec<Arc<QmpSession>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|session| session.strong_count() > 0);
        sessions.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends the monitor, and leaves its clients connected to the chardev: the next monitor on it greets them anew. Returns
    /// when the chardev can have that; a session whose command runs hands its client over when that has ended.
    pub async fn detach(mut self) {
        self.parking.store(true, Ordering::Release);
        // The task gives the front end back before it tells the sessions, so that it does not get their clients again.
        self.stop.send_replace(true);
        // An error says that the task is gone, and the front end with it.
        let _ = self.released.wait_for(|released| *released).await;
    }

    /// Takes no more clients, and ends the sessions: each finishes the command that runs and has two seconds to write
    /// what it has. A session whose command takes longer goes on by itself and ends with it; until then it keeps its place
    /// among the chardev's clients.
    pub async fn close(self) {
        self.closing.store(true, Ordering::Release);
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
    pretty: Arc<AtomicBool>,
    allowed_uids: Option<Vec<u32>>,
    on_idle: Option<OnIdle>,
    parking: Arc<AtomicBool>,
    listed: Sessions,
    release: watch::Sender<bool>,
    /// The named fds of all sessions, when they are the monitor's.
    shared_fds: Option<Arc<NamedFds>>,
    policy: Policy,
    closing: Arc<AtomicBool>,
    sessions: JoinSet<()>,
}

impl Serving {
    async fn run(mut self, mut front_end: FrontEnd, mut stopped: watch::Receiver<bool>) {
        let mut more = true;
        loop {
            tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => break,
                Some(ended) = self.sessions.join_next() => {
                    self.reap(ended);
                    if self.sessions.is_empty()
                        && let Some(on_idle) = &self.on_idle
                    {
                        on_idle();
                    }
                }
                next = front_end.next(), if more => match next {
                    Some(connection) => self.serve(connection),
                    // No client will ever come again; those that are there go on.
                    None => more = false,
                },
            }
        }
        drop(front_end);
        self.release.send_replace(true);
        self.closing.store(true, Ordering::Release);
        self.core.events.wake_all();
        self.finish().await;
    }

    fn serve(&mut self, connection: Connection) {
        let peer = connection.peer();
        let credentials = peer.credentials.map(|c| Peer { pid: c.pid, uid: c.uid, gid: c.gid });
        if let Some(allowed) = &self.allowed_uids
            && !credentials.is_some_and(|peer| allowed.contains(&peer.uid))
        {
            tracing::warn!(monitor = &*self.id, peer = %peer.description, "refused: not an allowed user");
            return;
        }
        let mode = match self.mode {
            MonitorMode::Control => Mode::Negotiating,
            #[cfg(feature = "human")]
            MonitorMode::Readline { .. } => Mode::InBand,
        };
        // A client that somebody handed in has none of the names that others gave.
        let shared = self.shared_fds.clone().filter(|_| connection.badge().is_none());
        let named_fds = shared.unwrap_or_default();
        // Whoever handed the client in had these rights: it gets no more.
        let handed_in = connection.badge().and_then(|badge| badge.downcast_ref::<Policy>());
        let policy = handed_in.map_or_else(|| self.policy.clone(), |policy| self.policy.and(policy));
        let state = QmpSession::new(self.id.clone(), credentials, mode, named_fds, policy);
        tracing::debug!(monitor = &*self.id, session = state.id(), peer = %peer.description, "a client came");
        let (core, closing) = (self.core.clone(), self.closing.clone());
        match self.mode {
            MonitorMode::Control => {
                let format =
                    if self.pretty.load(Ordering::Relaxed) { Format::Pretty } else { Format::Compact };
                let session = Session::new(connection, core, state.clone(), format, closing);
                self.spawn(state, session, Session::park);
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
                let session = HumanSession::new(connection, core, state.clone(), shell, echo, closing);
                self.spawn(state, session, HumanSession::park);
            }
        }
    }

    /// Runs a session on a task of its own; `park` is for one that the monitor's end leaves connected.
    fn spawn<S>(&mut self, state: Arc<QmpSession>, mut session: S, park: fn(S))
    where
        S: Future<Output = End> + Unpin + Send + 'static,
    {
        self.list(&state);
        let (monitor, parking) = (self.id.clone(), self.parking.clone());
        self.sessions.spawn(async move {
            let end = (&mut session).await;
            report(&monitor, &state, &end);
            if matches!(end, End::Closed) && parking.load(Ordering::Acquire) {
                park(session);
            }
        });
    }

    fn list(&self, state: &Arc<QmpSession>) {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        listed.retain(|session| session.strong_count() > 0);
        listed.push(Arc::downgrade(state));
    }

    fn reap(&self, ended: Result<(), tokio::task::JoinError>) {
        if let Err(error) = ended
            && error.is_panic()
        {
            tracing::error!(monitor = &*self.id, "a session's task panicked");
        }
    }

    /// Waits for the sessions, which have been told to end. One whose command does not end is left to itself.
    async fn finish(&mut self) {
        let deadline = Instant::now() + FAREWELL + GRACE;
        while let Ok(Some(ended)) = tokio::time::timeout_at(deadline, self.sessions.join_next()).await {
            self.reap(ended);
        }
        if !self.sessions.is_empty() {
            tracing::warn!(
                monitor = &*self.id,
                sessions = self.sessions.len(),
                "commands go on beyond the monitor's end"
            );
            self.sessions.detach_all();
        }
    }
}

fn report(monitor: &str, state: &QmpSession, end: &End) {
    let (session, commands, errors) = (state.id(), state.commands_served(), state.errors());
    if end.is_forced() {
        tracing::warn!(monitor, session, commands, errors, peer = ?state.peer(), reason = %end, "a session was ended");
    } else {
        tracing::debug!(monitor, session, commands, errors, reason = %end, "a session ended");
    }
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("id", &self.id).finish_non_exhaustive()
    }
}
