//! The monitors of a plane: those that the program made, and those that clients made as objects.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use chardev::{Chardev, OpenError};
use futures_util::FutureExt as _;
use qmp_command::layers::permit::Permit;
use qmp_command::policy::Policy;
use qmp_monitor::{Core, Monitor, MonitorConfig, QmpSession};

use crate::chardevs::{ChardevError, Chardevs};
use crate::objects::builtin::MonitorQmp;
use crate::objects::{Objects, WeakObjects};

/// Why a monitor cannot be added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MonitorError {
    /// Its id is empty, or has a `/`: it is a name in the object tree.
    #[error("a monitor's id must not be empty, nor contain a '/': {0:?}")]
    IllegalId(String),
    /// There is a monitor of that id.
    #[error("a monitor '{0}' exists already")]
    Duplicate(String),
    /// The chardev's id is another chardev's, or chardevs are closed.
    #[error(transparent)]
    Registry(#[from] ChardevError),
    /// The chardev cannot serve it.
    #[error(transparent)]
    Chardev(#[from] OpenError),
    /// The plane has been closed.
    #[error("the control plane is closed")]
    Closed,
}

/// The monitors of a plane. All methods are short, and hold a lock for moments only.
#[derive(Default)]
pub(crate) struct Monitors {
    /// Weak: the core's commands hold this.
    core: OnceLock<Weak<Core>>,
    /// Weak: the types of monitors hold this.
    objects: OnceLock<WeakObjects>,
    /// What exclusive commands of the plane have one at a time.
    permit: OnceLock<Permit>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// The program's own monitors that do not stand in the object tree (yet).
    hidden: Vec<(String, Arc<MonitorQmp>)>,
    /// From now on they do.
    shown: bool,
    closed: bool,
}

struct Entry {
    monitor: Monitor,
    chardev: String,
    human: bool,
    max_clients: usize,
    mark: Mark,
}

/// Tells a monitor from all others, those of the same id too.
pub(crate) type Mark = Arc<()>;

/// A monitor and its sessions, for lists.
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) chardev: String,
    pub(crate) human: bool,
    pub(crate) max_clients: usize,
    pub(crate) sessions: Vec<Arc<QmpSession>>,
}

impl Monitors {
    /// To be called once, when the plane is built.
    pub(crate) fn connect(&self, core: &Arc<Core>, objects: &Objects, permit: Permit) {
        self.permit.get_or_init(|| permit);
        self.core.get_or_init(|| Arc::downgrade(core));
        self.objects.get_or_init(|| objects.downgrade());
    }

    /// What all monitors share. `None` once the plane has gone.
    pub(crate) fn core(&self) -> Option<Arc<Core>> {
        self.core.get().and_then(Weak::upgrade)
    }

    /// How many fds clients may still send within their budget.
    pub(crate) fn fds_left(&self) -> usize {
        self.core().map_or(0, |core| core.fds_left())
    }

    /// Starts a monitor on a chardev, which adds its maker's limits.
    pub(crate) fn start(
        &self,
        mut config: MonitorConfig,
        chardev: &Arc<Chardev>,
        max_clients: usize,
        mark: Mark,
    ) -> Result<(), MonitorError> {
        let core = self.core().ok_or(MonitorError::Closed)?;
        if let Some(policy) = chardev.badge().and_then(|badge| badge.downcast_ref::<Policy>()) {
            config.policy = config.policy.and(policy);
        }
        let mut state = self.lock();
        if state.closed {
            return Err(MonitorError::Closed);
        }
        if state.entries.iter().any(|entry| entry.monitor.id() == config.id) {
            return Err(MonitorError::Duplicate(config.id));
        }
        let front_end = chardev.front_end(max_clients)?;
        let human = config.is_human();
        let monitor = Monitor::start(core, &config, front_end);
        state.entries.push(Entry { monitor, chardev: chardev.id().to_owned(), human, max_clients, mark });
        Ok(())
    }

    /// Whether a monitor could be started under this id.
    pub(crate) fn is_free(&self, id: &str) -> Result<(), MonitorError> {
        if id.is_empty() || id.contains('/') {
            return Err(MonitorError::IllegalId(id.to_owned()));
        }
        match self.lock().entries.iter().any(|entry| entry.monitor.id() == id) {
            true => Err(MonitorError::Duplicate(id.to_owned())),
            false => Ok(()),
        }
    }

    /// Starts one of the program's own monitors. It stands in the object tree once [`show`](Self::show) was called.
    pub(crate) fn start_own(
        self: &Arc<Self>,
        config: MonitorConfig,
        chardevs: &Arc<Chardevs>,
        chardev: &Arc<Chardev>,
        max_clients: usize,
    ) -> Result<(), MonitorError> {
        self.is_free(&config.id)?;
        chardevs.ensure(chardev)?;
        let max_clients = max_clients.max(1);
        self.start(config.clone(), chardev, max_clients, Mark::default())?;
        if config.is_human() {
            return Ok(());
        }
        let object = MonitorQmp::running(self.clone(), chardevs.clone(), &config, chardev.id(), max_clients);
        let mut state = self.lock();
        state.hidden.push((config.id, Arc::new(object)));
        if state.shown {
            drop(state);
            self.show();
        }
        Ok(())
    }

    /// Has the program's own monitors stand in the object tree from now on, as in QEMU 11.1: whoever makes a monitor
    /// object speaks that dialect. Who does not sees 7.2's tree, which has none.
    pub(crate) fn show(&self) {
        let hidden = {
            let mut state = self.lock();
            state.shown = true;
            std::mem::take(&mut state.hidden)
        };
        let Some(objects) = self.objects.get().and_then(WeakObjects::upgrade) else { return };
        for (id, object) in hidden {
            let attached =
                objects.objects().and_then(|parent| objects.attach_node(&parent, &id, "monitor-qmp", object));
            if let Err(error) = attached {
                tracing::warn!(monitor = id, "the monitor does not stand in the object tree: {error}");
            }
        }
    }

    /// Takes a monitor off the list, for its end.
    pub(crate) fn take(&self, id: &str) -> Option<Monitor> {
        let mut state = self.lock();
        state.hidden.retain(|(hidden, _)| hidden != id);
        let place = state.entries.iter().position(|entry| entry.monitor.id() == id);
        place.map(|place| state.entries.remove(place).monitor)
    }

    /// Takes all, and lets none be added.
    pub(crate) fn take_all(&self) -> Vec<Monitor> {
        let mut state = self.lock();
        state.closed = true;
        state.hidden.clear();
        state.entries.drain(..).map(|entry| entry.monitor).collect()
    }

    pub(crate) fn set_pretty(&self, id: &str, pretty: bool) {
        if let Some(entry) = self.lock().entries.iter().find(|entry| entry.monitor.id() == id) {
            entry.monitor.set_pretty(pretty);
        }
    }

    /// Removes a monitor object and its chardev when its last client has left, if they are still the same by then and
    /// nobody has come meanwhile.
    pub(crate) fn delete_soon(
        self: &Arc<Self>,
        chardevs: &Arc<Chardevs>,
        mark: &Mark,
        chardev: &Weak<Chardev>,
    ) {
        let (monitors, chardevs, mark, chardev) =
            (self.clone(), chardevs.clone(), mark.clone(), chardev.clone());
        self.soon(async move {
            if monitors.delete_if_idle(&mark).await
                && let Some(chardev) = chardev.upgrade()
            {
                chardevs.remove_this(&chardev);
            }
        });
    }

    /// Does something on the plane's runtime as a command would: not while another one changes objects. It has its place
    /// among those commands when this returns. Nothing is done once the plane has gone. Called from any thread; does
    /// not block.
    pub(crate) fn soon(&self, work: impl Future<Output = ()> + Send + 'static) {
        let Some(core) = self.core() else { return };
        let Some(permit) = self.permit.get().cloned() else { return };
        let mut turn = Box::pin(async move { permit.acquire().await });
        // The first look is what takes the place in the queue.
        let held = turn.as_mut().now_or_never();
        core.runtime().spawn(async move {
            let _permit = match held {
                Some(held) => held,
                None => turn.await,
            };
            work.await;
        });
    }

    async fn delete_if_idle(&self, mark: &Mark) -> bool {
        let idle = |entry: &&Entry| Arc::ptr_eq(&entry.mark, mark) && entry.monitor.sessions().is_empty();
        let id = self.lock().entries.iter().find(idle).map(|entry| entry.monitor.id().to_owned());
        let Some(objects) = self.objects.get().and_then(WeakObjects::upgrade) else { return false };
        let Some(id) = id else { return false };
        let Some(node) = objects.user_created_one(&id) else { return false };
        if !node.begin_removal() {
            return false;
        }
        if let Some(monitor) = self.take(&id) {
            monitor.detach().await;
        }
        objects.objects().is_ok_and(|parent| parent.detach(&node))
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.lock().entries.len()
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        let listed = |entry: &Entry| Listed {
            id: entry.monitor.id().to_owned(),
            chardev: entry.chardev.clone(),
            human: entry.human,
            max_clients: entry.max_clients,
            sessions: entry.monitor.sessions(),
        };
        self.lock().entries.iter().map(listed).collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
