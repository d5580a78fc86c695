//! What the router and its layers know of a command, apart from its types.

/// What else may run while a command runs. All commands of one plane share one permit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// No other exclusive command of the plane runs meanwhile, on any monitor. The default: it is what every
    /// handler written for QEMU's single main loop assumes.
    #[default]
    Exclusive,
    /// Changes nothing, so it runs beside anything.
    ReadOnly,
    /// Changes only what keeps itself consistent (a concurrent registry, the session's own state).
    Concurrent,
}

/// A QAPI special feature of a command, shown by introspection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// Still works, and will go away.
    Deprecated,
    /// May change or go away without notice.
    Unstable,
    /// A feature of the command's own, by name.
    Named(&'static str),
}

impl Feature {
    /// The name as introspection shows it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Deprecated => "deprecated",
            Self::Unstable => "unstable",
            Self::Named(name) => name,
        }
    }
}

/// What is known of a command before it runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Metadata {
    /// The name clients use.
    pub name: &'static str,
    /// What it does, in a sentence or two; the manual and `help` show it.
    pub doc: &'static str,
    /// What the manual lists it under. Empty for none.
    pub group: &'static str,
    /// May be executed out-of-band. Such a handler must finish quickly and without waiting for another command.
    pub allow_oob: bool,
    /// May be used before the machine is initialised.
    pub allow_preconfig: bool,
    /// Takes a file descriptor that came by SCM_RIGHTS. Only such a command can see the session's pending ones.
    pub takes_fd: bool,
    /// Its handler asks the session's policy about a type too ([`Policy::check_type`](crate::policy::Policy::check_type)), so
    /// that rules with a type are for it.
    pub asks_type: bool,
    /// What may run beside it.
    pub concurrency: Concurrency,
    /// Its handler may be dropped at any await without leaving anything half done, so that a timeout may apply. Never
    /// one that blocks.
    pub cancel_safe: bool,
    /// Features shown by introspection.
    pub features: Vec<Feature>,
}

impl Metadata {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            doc: "",
            group: "",
            allow_oob: false,
            allow_preconfig: false,
            takes_fd: false,
            asks_type: false,
            concurrency: Concurrency::default(),
            cancel_safe: false,
            features: Vec::new(),
        }
    }
}
