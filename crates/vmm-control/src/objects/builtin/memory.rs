//! `memory-backend-ram` and `memory-backend-memfd`: memory for a guest, allocated when the object is made.
//!
//! The mapping is a raw one: nothing here reads or writes it, so that whoever shares the file can do it no harm. An
//! author's VMM gets pointer and descriptor through [`MemoryBackend`].

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memmap2::Advice;
use qmp_command::{CommandError, CommandResult, Context, QapiType, apart};
use qmp_protocol::ErrorClass;
use serde::{Deserialize, Serialize};
use thread_start::Starter;

use super::memory_map::{Memfd, Memory, cannot_preallocate, map_memfd, map_ram, populate};
use crate::objects::{Creation, Object, ObjectType};

/// How memory is spread over NUMA nodes.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum HostMemPolicy {
    /// As the host does it.
    #[default]
    Default,
    /// Preferably on certain nodes.
    Preferred,
    /// On certain nodes only.
    Bind,
    /// On all of certain nodes in turn.
    Interleave,
}

/// Properties of `memory-backend-ram`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MemoryBackendProperties {
    /// Whether it is part of a core dump; true when absent.
    pub dump: Option<bool>,
    /// NUMA nodes to bind it to; none when absent, and none can be given.
    pub host_nodes: Option<Vec<u16>>,
    /// Whether equal pages may be merged; true when absent.
    pub merge: Option<bool>,
    /// How it is spread over NUMA nodes; `default` when absent, and nothing else can be given.
    pub policy: Option<HostMemPolicy>,
    /// Whether all pages are made at once; false when absent.
    pub prealloc: Option<bool>,
    /// How many threads make them, 1 or more; 1 when absent.
    pub prealloc_threads: Option<u32>,
    /// The object whose threads make them; none when absent, and none can be given.
    pub prealloc_context: Option<String>,
    /// Whether others see what is written; false when absent, but true for a memfd.
    pub share: Option<bool>,
    /// Whether swap space is reserved for it; true when absent.
    pub reserve: Option<bool>,
    /// Bytes, 1 or more.
    #[qapi(size)]
    pub size: u64,
    /// Without meaning here; QEMU names blocks by it.
    pub x_use_canonical_path_for_ramblock_id: Option<bool>,
}

/// Properties of `memory-backend-memfd`.
#[derive(Clone, Debug, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct MemoryBackendMemfdProperties {
    /// As for `memory-backend-ram`.
    pub dump: Option<bool>,
    /// As for `memory-backend-ram`.
    pub host_nodes: Option<Vec<u16>>,
    /// As for `memory-backend-ram`.
    pub merge: Option<bool>,
    /// As for `memory-backend-ram`.
    pub policy: Option<HostMemPolicy>,
    /// As for `memory-backend-ram`.
    pub prealloc: Option<bool>,
    /// As for `memory-backend-ram`.
    pub prealloc_threads: Option<u32>,
    /// As for `memory-backend-ram`.
    pub prealloc_context: Option<String>,
    /// Whether others see what is written; true when absent.
    pub share: Option<bool>,
    /// As for `memory-backend-ram`.
    pub reserve: Option<bool>,
    /// Bytes, 1 or more.
    #[qapi(size)]
    pub size: u64,
    /// As for `memory-backend-ram`.
    pub x_use_canonical_path_for_ramblock_id: Option<bool>,
    /// Whether it is made of huge pages; false when absent.
    pub hugetlb: Option<bool>,
    /// The size of a huge page in bytes; the host's default when absent or 0.
    #[qapi(size)]
    pub hugetlbsize: Option<u64>,
    /// Whether the file is sealed against growing and shrinking; true when absent.
    pub seal: Option<bool>,
}

/// The names of [`MemoryBackendProperties`]' members, in an order that lists them as QEMU does.
const COMMON: &[&str] = &[
    "merge",
    "dump",
    "prealloc",
    "prealloc-threads",
    "prealloc-context",
    "size",
    "host-nodes",
    "policy",
    "share",
    "reserve",
    "x-use-canonical-path-for-ramblock-id",
];

/// Memory of a guest, as an object.
#[derive(Debug)]
struct Backend {
    type_name: &'static str,
    memfd: Option<Memfd>,
    starter: Starter,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    properties: MemoryBackendProperties,
    memory: Option<Arc<Memory>>,
}

/// The memory of an allocated backend. It stays mapped while there is a clone.
#[derive(Clone, Debug)]
pub struct MemoryBackend(Arc<Memory>);

impl MemoryBackend {
    /// Where it is mapped, for reading and writing. Others may change what is there, or truncate it, at any time.
    pub fn as_ptr(&self) -> *mut u8 {
        self.0.map.as_mut_ptr()
    }

    /// Bytes.
    pub fn len(&self) -> usize {
        self.0.map.len()
    }

    /// Never: a backend has at least one byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The file that it is mapped from, if it is a memfd.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.0.file.as_ref().map(AsFd::as_fd)
    }
}

/// `memory-backend-ram`.
pub(crate) fn memory_backend_ram() -> ObjectType {
    ObjectType::new("memory-backend-ram", |creation, properties: MemoryBackendProperties| {
        Backend::new("memory-backend-ram", None, properties, creation).map(MemoryBackendRam)
    })
    .doc("Memory of a guest.")
    .parent("memory-backend")
    .inherits("memory-backend", COMMON)
    .links("prealloc-context", "thread-context")
}

/// `memory-backend-memfd`.
pub(crate) fn memory_backend_memfd() -> ObjectType {
    ObjectType::new("memory-backend-memfd", |creation, all: MemoryBackendMemfdProperties| {
        if all.share == Some(false) {
            return Err(CommandError::generic(
                "A memfd is always shared here; leave out 'share' or turn it on",
            ));
        }
        let memfd = Memfd {
            hugetlb: all.hugetlb.unwrap_or(false),
            hugetlbsize: all.hugetlbsize.unwrap_or(0),
            seal: all.seal.unwrap_or(true),
        };
        let properties = MemoryBackendProperties {
            dump: all.dump,
            host_nodes: all.host_nodes,
            merge: all.merge,
            policy: all.policy,
            prealloc: all.prealloc,
            prealloc_threads: all.prealloc_threads,
            prealloc_context: all.prealloc_context,
            share: all.share.or(Some(true)),
            reserve: all.reserve,
            size: all.size,
            x_use_canonical_path_for_ramblock_id: all.x_use_canonical_path_for_ramblock_id,
        };
        Backend::new("memory-backend-memfd", Some(memfd), properties, creation).map(MemoryBackendMemfd)
    })
    .doc("Memory of a guest in a file that others can map.")
    .parent("memory-backend")
    .inherits("memory-backend", COMMON)
    .links("prealloc-context", "thread-context")
}

/// A `memory-backend-ram`.
#[derive(Debug)]
pub struct MemoryBackendRam(Backend);

/// A `memory-backend-memfd`.
#[derive(Debug)]
pub struct MemoryBackendMemfd(Backend);

impl MemoryBackendRam {
    /// The memory, once it is allocated.
    pub fn memory(&self) -> Option<MemoryBackend> {
        self.0.memory()
    }
}

impl MemoryBackendMemfd {
    /// The memory, once it is allocated.
    pub fn memory(&self) -> Option<MemoryBackend> {
        self.0.memory()
    }
}

impl Object for MemoryBackendRam {
    type Properties = MemoryBackendProperties;

    const SETTABLE: &'static [&'static str] = COMMON;

    fn properties(&self) -> MemoryBackendProperties {
        self.0.lock().properties.clone()
    }

    fn set(&self, name: &'static str, new: MemoryBackendProperties) -> CommandResult<()> {
        self.0.set(name, new)
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        self.0.allocate(creation).await
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        self.0.free().await;
        Ok(())
    }
}

impl Object for MemoryBackendMemfd {
    type Properties = MemoryBackendMemfdProperties;

    const SETTABLE: &'static [&'static str] = COMMON;

    fn properties(&self) -> MemoryBackendMemfdProperties {
        let common = self.0.lock().properties.clone();
        let memfd = self.0.memfd;
        MemoryBackendMemfdProperties {
            dump: common.dump,
            host_nodes: common.host_nodes,
            merge: common.merge,
            policy: common.policy,
            prealloc: common.prealloc,
            prealloc_threads: common.prealloc_threads,
            prealloc_context: common.prealloc_context,
            share: common.share,
            reserve: common.reserve,
            size: common.size,
            x_use_canonical_path_for_ramblock_id: common.x_use_canonical_path_for_ramblock_id,
            hugetlb: memfd.map(|memfd| memfd.hugetlb),
            hugetlbsize: memfd.map(|memfd| memfd.hugetlbsize),
            seal: memfd.map(|memfd| memfd.seal),
        }
    }

    fn set(&self, name: &'static str, new: MemoryBackendMemfdProperties) -> CommandResult<()> {
        let common = MemoryBackendProperties {
            dump: new.dump,
            merge: new.merge,
            prealloc: new.prealloc,
            prealloc_threads: new.prealloc_threads,
            ..self.0.lock().properties.clone()
        };
        self.0.set(name, common)
    }

    async fn complete(&self, creation: &Creation) -> CommandResult<()> {
        self.0.allocate(creation).await
    }

    async fn delete(&self, _: &Context) -> CommandResult<()> {
        self.0.free().await;
        Ok(())
    }
}

impl Backend {
    fn new(
        type_name: &'static str,
        memfd: Option<Memfd>,
        mut properties: MemoryBackendProperties,
        creation: &Creation,
    ) -> CommandResult<Self> {
        let refuse = |name: &str, value: u64| {
            CommandError::generic(format!("property '{name}' of {type_name} doesn't take value '{value}'"))
        };
        // QEMU sets `size` before `prealloc-threads`, whatever order they came in.
        if properties.size == 0 {
            return Err(refuse("size", 0));
        }
        if properties.prealloc_threads == Some(0) {
            return Err(refuse("prealloc-threads", 0));
        }
        if let Some(id) = properties.prealloc_context.as_ref().filter(|id| !id.is_empty()) {
            let error = CommandError::generic(format!("Device '{id}' not found"));
            return Err(error.class(ErrorClass::DeviceNotFound));
        }
        check_numa(&properties)?;
        // What is in force when nobody says.
        properties.dump.get_or_insert(true);
        properties.host_nodes.get_or_insert_default();
        properties.merge.get_or_insert(true);
        properties.policy.get_or_insert_default();
        properties.prealloc.get_or_insert(false);
        properties.prealloc_threads.get_or_insert(1);
        properties.prealloc_context.get_or_insert_default();
        properties.share.get_or_insert(false);
        properties.reserve.get_or_insert(true);
        properties.x_use_canonical_path_for_ramblock_id.get_or_insert(false);
        let (starter, state) = (creation.plane.threads().clone(), State { properties, memory: None });
        Ok(Self { type_name, memfd, starter, state: Mutex::new(state) })
    }

    fn memory(&self) -> Option<MemoryBackend> {
        self.lock().memory.clone().map(MemoryBackend)
    }

    fn set(&self, name: &'static str, new: MemoryBackendProperties) -> CommandResult<()> {
        let type_name = self.type_name;
        let mut state = self.lock();
        match name {
            "prealloc-threads" if new.prealloc_threads == Some(0) => Err(CommandError::generic(format!(
                "property 'prealloc-threads' of {type_name} doesn't take value '0'"
            ))),
            "prealloc-threads" => {
                state.properties.prealloc_threads = new.prealloc_threads;
                Ok(())
            }
            "dump" => {
                if let Some(memory) = &state.memory {
                    let dump = new.dump.unwrap_or(true);
                    memory.map.advise(if dump { Advice::DoDump } else { Advice::DontDump })?;
                }
                state.properties.dump = new.dump;
                Ok(())
            }
            "merge" => {
                if let Some(memory) = &state.memory {
                    let merge = new.merge.unwrap_or(true);
                    memory.map.advise(if merge { Advice::Mergeable } else { Advice::Unmergeable })?;
                }
                state.properties.merge = new.merge;
                Ok(())
            }
            "prealloc" => {
                let threads = state.properties.prealloc_threads.unwrap_or(1);
                let memory = state.memory.clone();
                // It takes long, and others look at the properties meanwhile.
                drop(state);
                if let (Some(memory), Some(true)) = (memory, new.prealloc) {
                    populate(&memory.map, threads, &self.starter)
                        .map_err(|error| cannot_preallocate(&error))?;
                }
                self.lock().properties.prealloc = new.prealloc;
                Ok(())
            }
            "size" => {
                // The blank at the end is QEMU's.
                Err(CommandError::generic(format!("cannot change property size of {type_name} ")))
            }
            _ => Err(CommandError::generic("cannot change property value")),
        }
    }

    /// Maps the memory, on a thread that may block.
    async fn allocate(&self, creation: &Creation) -> CommandResult<()> {
        let properties = self.lock().properties.clone();
        let (memfd, id, starter) = (self.memfd, creation.id.clone(), self.starter.clone());
        let allocated = apart(&self.starter, move || match memfd {
            Some(memfd) => map_memfd(memfd, &properties, &starter),
            None => map_ram(&id, &properties, &starter),
        });
        let memory = allocated.await?;
        self.lock().memory = Some(Arc::new(memory));
        Ok(())
    }

    /// Unmaps the memory, if nobody else has it, where that holds up nobody: giving back 10 GiB takes a second. Where there is no
    /// thread for it, here.
    async fn free(&self) {
        let memory = self.lock().memory.take();
        if let Some(memory) = memory {
            let unmap = move || {
                drop(memory);
                Ok(())
            };
            let _ = apart(&self.starter, unmap).await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// QEMU's complaints of what contradicts itself; all other bindings are not offered.
fn check_numa(properties: &MemoryBackendProperties) -> CommandResult<()> {
    let nodes = properties.host_nodes.as_ref().is_some_and(|nodes| !nodes.is_empty());
    let word = match properties.policy.unwrap_or_default() {
        HostMemPolicy::Default if nodes => {
            return Err(CommandError::generic(
                "host-nodes must be empty for policy default, or you should explicitly specify a policy other than \
                 default",
            ));
        }
        HostMemPolicy::Default => return Ok(()),
        HostMemPolicy::Preferred => "preferred",
        HostMemPolicy::Bind => "bind",
        HostMemPolicy::Interleave => "interleave",
    };
    Err(CommandError::generic(if nodes {
        "Memory cannot be bound to NUMA nodes here; leave out 'policy' and 'host-nodes'".to_owned()
    } else {
        format!("host-nodes must be set for policy {word}")
    }))
}
