//! What a machine is and does, as its loop has last said.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::hardware::{IoPorts, Kvm, Target, Vcpu};
use crate::run_state::RunState;

/// What a plane may know of a machine without asking its loop. Each has the meaning of [`Machine`](crate::Machine)'s method of the
/// same name, and its default.
#[derive(Clone)]
#[non_exhaustive]
pub struct MachineFacts {
    /// The state that the machine is in.
    pub run_state: RunState,
    /// The guest's name.
    pub name: Option<String>,
    /// What the machine is called, for the type of `/machine`. Looked at when the plane is built, and not again.
    pub machine_type: &'static str,
    /// The guest's UUID. All zeros when it has none.
    pub uuid: [u8; 16],
    /// The architecture that the guest sees.
    pub target: Target,
    /// Whether KVM is there and used.
    pub kvm: Kvm,
    /// The virtual CPUs, in the order of their indices.
    pub vcpus: Vec<Vcpu>,
    /// What a person who asks for the state should know besides.
    pub status_note: Option<String>,
    /// The I/O ports, which are accessed on the plane's threads and not in the loop.
    pub io_ports: Option<Arc<dyn IoPorts>>,
}

impl MachineFacts {
    /// A machine in this state, of which there is nothing else to say.
    pub fn new(run_state: RunState) -> Self {
        Self {
            run_state,
            name: None,
            machine_type: "none",
            uuid: [0; 16],
            target: Target::default(),
            kvm: Kvm::default(),
            vcpus: Vec::new(),
            status_note: None,
            io_ports: None,
        }
    }

    /// The same machine with this name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

impl fmt::Debug for MachineFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineFacts")
            .field("run_state", &self.run_state)
            .field("name", &self.name)
            .field("vcpus", &self.vcpus)
            .finish_non_exhaustive()
    }
}

/// Facts that one side replaces and the other reads. Readers and writers hold a lock for as long as it takes to copy a
/// pointer; facts are made and dropped outside.
pub(super) struct Published {
    now: RwLock<Arc<MachineFacts>>,
    /// One writer at a time, from copy to replacement.
    writer: Mutex<()>,
}

impl Published {
    pub(super) fn new(facts: MachineFacts) -> Self {
        Self { now: RwLock::new(Arc::new(facts)), writer: Mutex::new(()) }
    }

    pub(super) fn get(&self) -> Arc<MachineFacts> {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut MachineFacts)) {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut facts = MachineFacts::clone(&self.get());
        change(&mut facts);
        let facts = Arc::new(facts);
        let before = std::mem::replace(&mut *self.now.write().unwrap_or_else(PoisonError::into_inner), facts);
        drop(before);
    }
}
