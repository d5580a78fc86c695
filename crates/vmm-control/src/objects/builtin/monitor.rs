//! `monitor-qmp` and `monitor-hmp`: monitors that come and go at run time, as QEMU 11.1 has them.
//!
//! Whoever makes one gives it at most their own rights: its policy is what its properties say *and* its maker's *and*
//! that of whoever made its chardev.

use std::sync::{Arc, Mutex, PoisonError};

use chardev::{Chardev, OpenError};
use qmp_command::policy::{Policy, Rules};
use qmp_command::{CommandError, CommandResult, Context, QapiType};
use qmp_monitor::{MonitorConfig, NamedFdsScope};
use serde::{Deserialize, Serialize};

use crate::bounds;
use crate::chardevs::Chardevs;
use crate::commands::permit_type;
use crate::monitors::{Mark, MonitorError, Monitors};
use crate::objects::{Creation, Object, ObjectType};

/// Clients of a monitor object when nobody says.
const MAX_CLIENTS: u32 = 64;

/// What happens when the last client has left.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "MonitorCloseAction")]
#[non_exhaustive]
pub enum CloseAction {
    /// The monitor waits for the next one.
    #[default]
    None,
    /// Monitor and chardev go.
    Delete,
}

/// Whose the names are that `getfd` gives.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XNamedFdsScope")]
#[non_exhaustive]
pub enum NamedFds {
    /// The session's.
    #[default]
    Session,
    /// The monitor's, as in QEMU.
    Monitor,
}

/// Which fd sets a monitor's sessions can reach.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XFdSetsScope")]
#[non_exhaustive]
pub enum FdSetsScope {
    /// All.
    #[default]
    All,
    /// Those that they made.
    Own,
}

/// Properties of `monitor-qmp`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MonitorQmpProperties {
    /// The chardev whose clients it serves.
    pub chardev: String,
    /// Whether replies are indented; false when absent.
    pub pretty: Option<bool>,
    /// What happens when the last client has left; `none` when absent.
    pub close_action: Option<CloseAction>,
    /// Clients at once, 1 or more; 64 when absent.
    pub max_clients: Option<u32>,
    /// Whose the names are that `getfd` gives; `session` when absent.
    pub named_fds: Option<NamedFds>,
    /// User ids that may connect; all when absent.
    pub allowed_uids: Option<Vec<u32>>,
    /// Ids of groups whose members may connect, too, or only, if no user ids are given.
    pub allowed_gids: Option<Vec<u32>>,
    /// Whether an error in its JSON before it has negotiated ends a TCP client's session; true when absent.
    pub strict: Option<bool>,
    /// Commands that its sessions may use (`query-*`, `object-add:iothread`); all when absent.
    pub allow: Option<Vec<String>>,
    /// Commands that they may not use, allowed or not; none when absent.
    pub deny: Option<Vec<String>>,
    /// Whether they may only use commands that change nothing; false when absent.
    pub read_only: Option<bool>,
    /// Which fd sets they can reach; `all` when absent.
    pub fdsets: Option<FdSetsScope>,
}

/// Properties of `monitor-hmp`.
#[cfg(feature = "hmp")]
#[derive(Clone, Debug, Default, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MonitorHmpProperties {
    /// The chardev whose clients it serves.
    pub chardev: String,
    /// Whether lines are echoed and can be edited; true when absent.
    pub readline: Option<bool>,
    /// Clients at once, 1 or more; 64 when absent.
    pub max_clients: Option<u32>,
    /// User ids that may connect; all when absent.
    pub allowed_uids: Option<Vec<u32>>,
    /// Ids of groups whose members may connect, too, or only, if no user ids are given.
    pub allowed_gids: Option<Vec<u32>>,
    /// Whether an HTTP request or a TLS handshake ends a TCP client's session; true when absent.
    pub strict: Option<bool>,
    /// Commands that its sessions may use, as for `monitor-qmp`; `human-monitor-command:o` names a command that only
    /// this monitor has.
    pub allow: Option<Vec<String>>,
    /// Commands that they may not use, allowed or not; none when absent.
    pub deny: Option<Vec<String>>,
    /// Whether they may only use commands that change nothing; false when absent.
    pub read_only: Option<bool>,
    /// Which fd sets they can reach; `all` when absent.
    pub fdsets: Option<FdSetsScope>,
}

/// What limits a monitor, whatever it speaks.
struct Limits<'a> {
    max_clients: Option<u32>,
    allowed_uids: Option<&'a Vec<u32>>,
    allowed_gids: Option<&'a Vec<u32>>,
    strict: Option<bool>,
    allow: Option<&'a Vec<String>>,
    deny: Option<&'a Vec<String>>,
    read_only: Option<bool>,
    fdsets: Option<FdSetsScope>,
}

impl Limits<'_> {
    fn policy(&self) -> CommandResult<Policy> {
        let mut rules = Rules::new()
            .read_only(self.read_only.unwrap_or(false))
            .own_fd_sets(self.fdsets == Some(FdSetsScope::Own));
        if let Some(allow) = self.allow {
            rules = rules.allow(allow)?;
        }
        if let Some(deny) = self.deny {
            rules = rules.deny(deny)?;
        }
        Ok(Policy::from(rules))
    }

    fn max_clients(&self) -> CommandResult<usize> {
        match usize::try_from(self.max_clients.unwrap_or(MAX_CLIENTS)) {
            Ok(0) | Err(_) => Err(CommandError::generic("Parameter 'max-clients' expects a number from 1")),
            Ok(count) => Ok(count),
        }
    }
}

impl MonitorQmpProperties {
    fn limits(&self) -> Limits<'_> {
        Limits {
            max_clients: self.max_clients,
            allowed_uids: self.allowed_uids.as_ref(),
            allowed_gids: self.allowed_gids.as_ref(),
            strict: self.strict,
            allow: self.allow.as_ref(),
            deny: self.deny.as_ref(),
            read_only: self.read_only,
            fdsets: self.fdsets,
        }
    }
}

#[cfg(feature = "hmp")]
impl MonitorHmpProperties {
    fn limits(&self) -> Limits<'_> {
        Limits {
            max_clients: self.max_clients,
            allowed_uids: self.allowed_uids.as_ref(),
            allowed_gids: self.allowed_gids.as_ref(),
            strict: self.strict,
            allow: self.allow.as_ref(),
            deny: self.deny.as_ref(),
            read_only: self.read_only,
            fdsets: self.fdsets,
        }
    }
}

/// What both kinds of monitor are made with.
struct Parts {
    id: String,
    monitors: Arc<Monitors>,
    chardevs: Arc<Chardevs>,
    /// What its properties say; its maker's comes on top when it starts.
    policy: Policy,
    max_clients: usize,
    allowed_uids: Option<Vec<u32>>,
    allowed_gids: Option<Vec<u32>>,
    strict: bool,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Parts {
    /// For a monitor that will be made.
    fn new(
        id: &str,
        monitors: &Arc<Monitors>,
        chardevs: &Arc<Chardevs>,
        limits: &Limits<'_>,
    ) -> CommandResult<Self> {
        bounds::monitors(monitors.count())?;
        bounds::list("allowed-uids", limits.allowed_uids)?;
        bounds::list("allowed-gids", limits.allowed_gids)?;
        // Before this one stands there itself.
        monitors.show();
        Ok(Self {
            id: id.to_owned(),
            monitors: monitors.clone(),
            chardevs: chardevs.clone(),
            policy: limits.policy()?,
            max_clients: limits.max_clients()?,
            allowed_uids: limits.allowed_uids.cloned(),
            allowed_gids: limits.allowed_gids.cloned(),
            strict: limits.strict.unwrap_or(true),
        })
    }

    /// Starts the monitor, with at most its maker's rights.
    fn start(
        &self,
        context: &Context,
        chardev: &Arc<Chardev>,
        config: MonitorConfig,
        mark: Mark,
    ) -> CommandResult<()> {
        let policy = self.policy.clone().and(context.policy());
        let config = config
            .policy(policy)
            .allowed_uids(self.allowed_uids.clone())
            .allowed_gids(self.allowed_gids.clone())
            .strict(self.strict);
        match self.monitors.start(config, chardev, self.max_clients, mark) {
            Err(MonitorError::Chardev(OpenError::InUse { .. })) => {
                Err(CommandError::generic(format!("chardev '{}' is already in use", chardev.id())))
            }
            started => Ok(started?),
        }
    }

    fn chardev(&self, id: &str) -> CommandResult<Arc<Chardev>> {
        let not_found = || CommandError::generic(format!("chardev \"{id}\" not found"));
        self.chardevs.get(id).ok_or_else(not_found)
    }
}

/// A QMP monitor.
#[derive(Debug)]
pub struct MonitorQmp {
    parts: Parts,
    properties: Mutex<MonitorQmpProperties>,
}

/// A human monitor.
#[cfg(feature = "hmp")]
#[derive(Debug)]
pub struct MonitorHmp {
    parts: Parts,
    properties: MonitorHmpProperties,
}

/// `monitor-qmp`.
pub(crate) fn monitor_qmp(monitors: &Arc<Monitors>, chardevs: &Arc<Chardevs>) -> ObjectType {
    let (monitors, chardevs) = (monitors.clone(), chardevs.clone());
    let create = move |creation: &Creation, properties: MonitorQmpProperties| {
        let parts = Parts::new(&creation.id, &monitors, &chardevs, &properties.limits())?;
        Ok(MonitorQmp::new(parts, properties))
    };
    ObjectType::new("monitor-qmp", create).doc("A QMP monitor on a chardev.").parent("monitor")
}

/// `monitor-hmp`.
#[cfg(feature = "hmp")]
pub(crate) fn monitor_hmp(monitors: &Arc<Monitors>, chardevs: &Arc<Chardevs>) -> ObjectType {
    let (monitors, chardevs) = (monitors.clone(), chardevs.clone());
    let create = move |creation: &Creation, mut properties: MonitorHmpProperties| {
        let parts = Parts::new(&creation.id, &monitors, &chardevs, &properties.limits())?;
        properties.readline.get_or_insert(true);
        properties.max_clients.get_or_insert(MAX_CLIENTS);
        properties.read_only.get_or_insert(false);
        properties.fdsets.get_or_insert_default();
        properties.strict.get_or_insert(true);
        Ok(MonitorHmp { parts, properties })
    };
    ObjectType::new("monitor-hmp", create).doc("A monitor for people on a chardev.").parent("monitor")
}

impl MonitorQmp {
    fn new(parts: Parts, mut properties: MonitorQmpProperties) -> Self {
        properties.pretty.get_or_insert(false);
        properties.close_action.get_or_insert_default();
        properties.max_clients.get_or_insert(MAX_CLIENTS);
        properties.named_fds.get_or_insert_default();
        properties.read_only.get_or_insert(false);
        properties.fdsets.get_or_insert_default();
        properties.strict.get_or_insert(true);
        Self { parts, properties: Mutex::new(properties) }
    }

    /// A monitor that runs already: the program's own.
    pub(crate) fn running(
        monitors: Arc<Monitors>,
        chardevs: Arc<Chardevs>,
        config: &MonitorConfig,
        chardev: &str,
        max_clients: usize,
    ) -> Self {
        // What a policy of the program's own making allows cannot be said in these words: that is null then.
        let all = config.policy.is_unrestricted();
        let properties = MonitorQmpProperties {
            chardev: chardev.to_owned(),
            close_action: Some(CloseAction::None),
            read_only: all.then_some(false),
            fdsets: all.then_some(FdSetsScope::All),
            pretty: Some(config.pretty),
            max_clients: u32::try_from(max_clients).ok(),
            named_fds: Some(match config.named_fds {
                NamedFdsScope::Monitor => NamedFds::Monitor,
                NamedFdsScope::Session => NamedFds::Session,
            }),
            allowed_uids: config.allowed_uids.clone(),
            allowed_gids: config.allowed_gids.clone(),
            strict: Some(config.strict),
            ..MonitorQmpProperties::default()
        };
        let parts = Parts {
            id: config.id.clone(),
            monitors,
            chardevs,
            policy: config.policy.clone(),
            max_clients,
            allowed_uids: config.allowed_uids.clone(),
            allowed_gids: config.allowed_gids.clone(),
            strict: config.strict,
        };
        Self { parts, properties: Mutex::new(properties) }
    }
}

impl Object for MonitorQmp {
    type Properties = MonitorQmpProperties;

    // Nothing that limits it: who may set properties must not lift limits.
    const SETTABLE: &'static [&'static str] = &["pretty"];

    fn properties(&self) -> MonitorQmpProperties {
        self.properties.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, _: &'static str, new: MonitorQmpProperties) -> CommandResult<()> {
        self.parts.monitors.set_pretty(&self.parts.id, new.pretty.unwrap_or(false));
        self.properties.lock().unwrap_or_else(PoisonError::into_inner).pretty = new.pretty;
        Ok(())
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        let properties = self.properties();
        let scope = match properties.named_fds.unwrap_or_default() {
            NamedFds::Session => NamedFdsScope::Session,
            NamedFds::Monitor => NamedFdsScope::Monitor,
        };
        let mut config =
            MonitorConfig::new(&self.parts.id).pretty(properties.pretty.unwrap_or(false)).named_fds(scope);
        let chardev = self.parts.chardev(&properties.chardev)?;
        let mark = Mark::default();
        if properties.close_action == Some(CloseAction::Delete) {
            // What will be done in its maker's name must be theirs to do.
            permit_type(&creation.context, "object-del", "monitor-qmp")?;
            permit_type(&creation.context, "chardev-remove", chardev.kind())?;
            let (monitors, chardevs) = (self.parts.monitors.clone(), self.parts.chardevs.clone());
            let (mark, chardev) = (mark.clone(), Arc::downgrade(&chardev));
            config = config.on_idle(move || monitors.delete_soon(&chardevs, &mark, &chardev));
        }
        self.parts.start(&creation.context, &chardev, config, mark)
    }

    async fn delete(&self, context: &Context) -> CommandResult<()> {
        if context.monitor() == self.parts.id {
            return Err(CommandError::generic("Cannot delete the current QMP monitor"));
        }
        if let Some(monitor) = self.parts.monitors.take(&self.parts.id) {
            monitor.detach().await;
        }
        Ok(())
    }
}

#[cfg(feature = "hmp")]
impl Object for MonitorHmp {
    type Properties = MonitorHmpProperties;

    fn properties(&self) -> MonitorHmpProperties {
        self.properties.clone()
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        let properties = &self.properties;
        let config = MonitorConfig::new(&self.parts.id).readline(properties.readline.unwrap_or(true));
        let chardev = self.parts.chardev(&properties.chardev)?;
        self.parts.start(&creation.context, &chardev, config, Mark::default())
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        Err(CommandError::generic("Deleting HMP monitors is not supported"))
    }
}
