//! What all monitors of one plane share.

use std::fmt;
use std::sync::Arc;
#[cfg(feature = "human")]
use std::sync::OnceLock;

use budget::Budget;
use fd_registry::Bound;
use qmp_command::{LogGate, Router};
use qmp_protocol::{Format, Version, encode_greeting};
use tokio::runtime::Handle;

use crate::budgets::{Budgets, Usage};
use crate::events::EventHub;
#[cfg(feature = "human")]
use crate::human::Shell;
use crate::session::{Lane, SessionLimits};

/// The capabilities that the greeting offers.
const CAPABILITIES: &[&str] = &["oob"];

/// What all monitors of one plane share: commands, events, greeting, limits. Nothing of it is global.
pub struct Core {
    pub(crate) router: Arc<Router>,
    pub(crate) events: EventHub,
    pub(crate) limits: SessionLimits,
    pub(crate) memory: Budget,
    pub(crate) fds: Budget,
    /// Of names that sessions of a monitor share.
    pub(crate) shared_names: Bound,
    pub(crate) lane: Lane,
    /// For lines about what sessions hold.
    pub(crate) log_gate: LogGate,
    pub(crate) runtime: Handle,
    greetings: [Vec<u8>; 2],
    #[cfg(feature = "human")]
    shell: OnceLock<Arc<dyn Shell>>,
}

impl Core {
    /// A core for these commands and events, which greets with this version. Its monitors and sessions run on the
    /// current tokio runtime. With the default [`Budgets`].
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(router: Arc<Router>, events: EventHub, version: &Version, limits: SessionLimits) -> Arc<Self> {
        Self::with_budgets(router, events, version, limits, &Budgets::default())
    }

    /// The same, whose sessions together may make it hold so much.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn with_budgets(
        router: Arc<Router>,
        events: EventHub,
        version: &Version,
        limits: SessionLimits,
        budgets: &Budgets,
    ) -> Arc<Self> {
        let greetings = [Format::Compact, Format::Pretty].map(|format| {
            let mut line = Vec::new();
            encode_greeting(&mut line, version, CAPABILITIES, format);
            line
        });
        let (lane, runtime) = (Lane::new(), Handle::current());
        let [memory, fds] = budgets.budgets();
        events.bound_local_sessions(limits.events);
        Arc::new(Self {
            router,
            events,
            limits,
            memory,
            fds,
            shared_names: Bound::new(budgets.shared_names()),
            lane,
            log_gate: LogGate::default(),
            runtime,
            greetings,
            #[cfg(feature = "human")]
            shell: OnceLock::new(),
        })
    }

    /// The events.
    pub fn events(&self) -> &EventHub {
        &self.events
    }

    /// The commands.
    pub fn router(&self) -> &Router {
        &self.router
    }

    /// The runtime that monitors and sessions run on.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// What the sessions hold now, measured against their [`Budgets`]. Without any sessions, and once the fds that they sent
    /// are closed, nothing.
    pub fn usage(&self) -> Usage {
        Usage { memory: self.memory.used(), fds: self.fds.used() }
    }

    /// The limits that [`usage`](Self::usage) is measured against.
    pub fn budgets(&self) -> Budgets {
        Budgets { memory: self.memory.limit(), fds: self.fds.limit() }
    }

    /// How many fds clients may still send within the [budget](Budgets::fds).
    pub fn fds_left(&self) -> usize {
        self.fds.limit().saturating_sub(self.fds.used())
    }

    /// Gives human monitors a shell: who executes their lines. Without one their clients are turned away. `false` when
    /// there was one already, which stays.
    #[cfg(feature = "human")]
    pub fn set_shell(&self, shell: Arc<dyn Shell>) -> bool {
        self.shell.set(shell).is_ok()
    }

    /// Who executes the lines of human monitors.
    #[cfg(feature = "human")]
    pub fn shell(&self) -> Option<&Arc<dyn Shell>> {
        self.shell.get()
    }

    pub(crate) fn greet(&self, out: &mut Vec<u8>, format: Format) {
        let [compact, pretty] = &self.greetings;
        out.extend_from_slice(match format {
            Format::Compact => compact,
            Format::Pretty => pretty,
        });
    }

    /// Asks all sessions and monitors of the plane to write what they have and end. For good; returns at once.
    pub fn close(&self) {
        self.events.close();
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("router", &self.router)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
