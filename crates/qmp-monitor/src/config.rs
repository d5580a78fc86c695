//! How a monitor serves its clients.

use std::fmt;
use std::sync::Arc;

use chardev::Allowed;
use qmp_command::policy::Policy;

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
pub(crate) type OnIdle = Arc<dyn Fn() + Send + Sync>;

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
    /// Users that may connect, by id as the kernel noted it when they did. Without this and `allowed_gids` everybody may
    /// whom the chardev admits; with one of them nobody whose ids are not known (on TCP).
    pub allowed_uids: Option<Vec<u32>>,
    /// Groups whose members may connect, besides `allowed_uids`.
    pub allowed_gids: Option<Vec<u32>>,
    /// Whether a TCP client that is none is hung up on: one that makes an error in its JSON before it has negotiated or,
    /// at a human monitor, begins with an HTTP request or a TLS handshake. A browser is made to send such by any page.
    pub strict: bool,
    pub(crate) on_idle: Option<OnIdle>,
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
            allowed_gids: None,
            strict: true,
            on_idle: None,
        }
    }

    /// A human monitor, with or without echo and editing. The core needs a [shell](crate::Core::set_shell).
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

    /// For members of these groups too; for them only, if no users are named. See [`allowed_uids`](Self::allowed_uids).
    #[must_use]
    pub fn allowed_gids(mut self, gids: Option<Vec<u32>>) -> Self {
        self.allowed_gids = gids;
        self
    }

    /// With TCP clients taken for what they say they are, as QEMU does, or not. On if this is not called.
    #[must_use]
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Who may connect.
    pub(crate) fn allowed(&self) -> Allowed {
        Allowed::new(self.allowed_uids.clone(), self.allowed_gids.clone())
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
            .field("allowed_gids", &self.allowed_gids)
            .field("strict", &self.strict)
            .finish_non_exhaustive()
    }
}
