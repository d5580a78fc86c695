//! `iothread`: a dedicated thread that polls for devices.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use iothread::{Builder, IoThread, IoThreads, Properties};
use qmp_command::{CommandResult, Context, QapiType, apart};
use serde::{Deserialize, Serialize};
use thread_start::Starter;

use crate::objects::{Creation, Object, ObjectType};

/// Properties of an iothread.
#[derive(Clone, Debug, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct IothreadProperties {
    /// Requests submitted at once; 0 for the engine's default, which is that when absent.
    pub aio_max_batch: Option<i64>,
    /// Worker threads kept; 0 when absent.
    pub thread_pool_min: Option<i64>,
    /// Worker threads at most; 64 when absent.
    pub thread_pool_max: Option<i64>,
    /// Longest busy polling before a wait, in nanoseconds; 0 for none, 32768 when absent.
    pub poll_max_ns: Option<i64>,
    /// Factor by which polling grows; 0, as when absent, for the default factor.
    pub poll_grow: Option<i64>,
    /// Divisor by which polling shrinks; 0, as when absent, to stop it at once.
    pub poll_shrink: Option<i64>,
    /// Numbers of the host's CPUs that the thread may run on; none, as when absent, for where the host puts it. QEMU has
    /// no such member.
    pub cpu_affinity: Option<Vec<u16>>,
}

/// The property that QEMU has not.
const CPU_AFFINITY: &str = "cpu-affinity";

/// What a thread starts with.
#[derive(Clone, Debug, Default)]
struct Initial {
    values: Properties,
    cpu_affinity: Vec<u16>,
}

impl IothreadProperties {
    /// The numbers.
    fn given(&self) -> [(&'static str, Option<i64>); 6] {
        [
            ("aio-max-batch", self.aio_max_batch),
            ("thread-pool-min", self.thread_pool_min),
            ("thread-pool-max", self.thread_pool_max),
            ("poll-max-ns", self.poll_max_ns),
            ("poll-grow", self.poll_grow),
            ("poll-shrink", self.poll_shrink),
        ]
    }

    fn of(Initial { values, cpu_affinity }: Initial) -> Self {
        let get = |name| values.get(name).ok();
        Self {
            aio_max_batch: get("aio-max-batch"),
            thread_pool_min: get("thread-pool-min"),
            thread_pool_max: get("thread-pool-max"),
            poll_max_ns: get("poll-max-ns"),
            poll_grow: get("poll-grow"),
            poll_shrink: get("poll-shrink"),
            cpu_affinity: Some(cpu_affinity),
        }
    }
}

/// What can be set while it runs: all of it.
const SETTABLE: [&str; iothread::PROPERTY_NAMES.len() + 1] = {
    let mut all = [CPU_AFFINITY; iothread::PROPERTY_NAMES.len() + 1];
    let mut index = 0;
    while index < iothread::PROPERTY_NAMES.len() {
        all[index] = iothread::PROPERTY_NAMES[index];
        index += 1;
    }
    all
};

/// An iothread as it stands in the object tree. The thread itself is in the plane's [`IoThreads`], under the same id.
#[derive(Debug)]
pub struct IoThreadObject {
    id: String,
    threads: Arc<IoThreads>,
    starter: Starter,
    initial: Mutex<Initial>,
}

impl IoThreadObject {
    fn initial(&self) -> MutexGuard<'_, Initial> {
        self.initial.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A list as short as it can be: one may come with a million times the same CPU in it, and is kept.
fn each_once(mut cpus: Vec<u16>) -> Vec<u16> {
    cpus.sort_unstable();
    cpus.dedup();
    cpus.shrink_to_fit();
    cpus
}

/// The type.
pub(crate) fn iothread(threads: &Arc<IoThreads>) -> ObjectType {
    let threads = threads.clone();
    let create = move |creation: &Creation, properties: IothreadProperties| {
        let mut initial = Initial::default();
        let given = properties.given().into_iter().filter_map(|(name, value)| Some((name, value?)));
        // QEMU sets them in its dictionary's order, which decides which mistake is told.
        for (name, value) in given.collect::<qmp_protocol::Object>().iter_qdict() {
            initial.values.set(name, value.as_i64().unwrap_or_default())?;
        }
        initial.cpu_affinity = each_once(properties.cpu_affinity.unwrap_or_default());
        Ok(IoThreadObject {
            id: creation.id.clone(),
            threads: threads.clone(),
            starter: creation.plane.threads().clone(),
            initial: Mutex::new(initial),
        })
    };
    ObjectType::new("iothread", create)
        .doc("A dedicated thread that serves devices.")
        .parent("event-loop-base")
        .inherits("event-loop-base", &["aio-max-batch", "thread-pool-min", "thread-pool-max"])
}

impl Object for IoThreadObject {
    type Properties = IothreadProperties;

    const SETTABLE: &'static [&'static str] = &SETTABLE;

    fn properties(&self) -> IothreadProperties {
        let running =
            |thread: &IoThread| Initial { values: thread.properties(), cpu_affinity: thread.cpu_affinity() };
        let now = self.threads.with(&self.id, running).unwrap_or_else(|| self.initial().clone());
        IothreadProperties::of(now)
    }

    fn set(&self, name: &'static str, new: IothreadProperties) -> CommandResult<()> {
        if name == CPU_AFFINITY {
            let cpus = each_once(new.cpu_affinity.unwrap_or_default());
            return match self.threads.with(&self.id, |thread| thread.set_cpu_affinity(&cpus)) {
                Some(set) => Ok(set?),
                None => {
                    self.initial().cpu_affinity = cpus;
                    Ok(())
                }
            };
        }
        let given = new.given().into_iter().find(|(known, _)| *known == name).and_then(|(_, value)| value);
        let Some(value) = given else { return Ok(()) };
        match self.threads.with(&self.id, |thread| thread.set(name, value)) {
            Some(set) => Ok(set?),
            None => Ok(self.initial().values.set(name, value)?),
        }
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        let Initial { values, cpu_affinity } = self.initial().clone();
        let (threads, id) = (self.threads.clone(), self.id.clone());
        let starter = creation.plane.threads().clone();
        // Starting a thread waits for it, which a runtime's worker must not.
        let start = move || {
            let builder: Builder = IoThread::builder(format!("IO {id}")).properties(values);
            Ok(threads.add(&id, builder.cpu_affinity(cpu_affinity).starter(starter))?)
        };
        apart(creation.plane.threads(), start).await
    }

    fn in_use(&self) -> bool {
        self.threads.users(&self.id).is_some_and(|users| users > 0)
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        let (threads, id) = (self.threads.clone(), self.id.clone());
        // Likewise: dropping it joins it. Without a thread for that it stays where it is.
        let stop = move || match threads.remove(&id) {
            Ok(thread) => {
                drop(thread);
                Ok(())
            }
            Err(iothread::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        };
        apart(&self.starter, stop).await
    }
}
