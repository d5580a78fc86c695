//! One place in the tree.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmp_protocol::order::NameTable;

use super::object::AnyObject;

/// An object in its place: its type's name, its children, who uses it.
pub(crate) struct Node {
    pub(crate) path: String,
    pub(crate) type_name: String,
    pub(crate) object: Arc<dyn AnyObject>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    order: NameTable<Arc<str>>,
    children: HashMap<Arc<str>, Arc<Node>>,
    users: usize,
    /// It is being removed: nobody can begin to use it.
    leaving: bool,
}

impl Node {
    pub(crate) fn new(path: String, type_name: String, object: Arc<dyn AnyObject>) -> Arc<Self> {
        Arc::new(Self { path, type_name, object, state: Mutex::default() })
    }

    /// The last component of its path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The path that a child of this name has.
    pub(crate) fn path_of(&self, name: &str) -> String {
        if self.path == "/" { format!("/{name}") } else { format!("{}/{name}", self.path) }
    }

    pub(crate) fn child(&self, name: &str) -> Option<Arc<Node>> {
        self.lock().children.get(name).cloned()
    }

    /// All children, in the order of QEMU's hash table.
    pub(crate) fn children(&self) -> Vec<Arc<Node>> {
        let state = self.lock();
        state.order.iter().filter_map(|name| state.children.get(name).cloned()).collect()
    }

    pub(crate) fn child_count(&self) -> usize {
        self.lock().children.len()
    }

    /// Puts a child here. `false` when its name is taken, or this is being removed.
    pub(crate) fn attach(&self, child: Arc<Node>) -> bool {
        let name: Arc<str> = child.name().into();
        let mut state = self.lock();
        if state.leaving || state.children.contains_key(&name) {
            return false;
        }
        state.order.insert(name.clone());
        state.children.insert(name, child);
        true
    }

    /// Takes a child out, if it is this one that has the name.
    pub(crate) fn detach(&self, child: &Arc<Node>) -> bool {
        let mut state = self.lock();
        let here = state.children.get(child.name()).is_some_and(|found| Arc::ptr_eq(found, child));
        if here {
            state.order.remove(child.name());
            state.children.remove(child.name());
        }
        here
    }

    /// Whether this one is a child of this.
    pub(crate) fn holds(&self, child: &Arc<Node>) -> bool {
        self.lock().children.get(child.name()).is_some_and(|found| Arc::ptr_eq(found, child))
    }

    /// Takes all children out, and lets none in any more.
    pub(crate) fn drain(&self) -> Vec<Arc<Node>> {
        let mut state = self.lock();
        state.leaving = true;
        state.order = NameTable::new();
        state.children.drain().map(|(_, child)| child).collect()
    }

    /// Begins to use it, unless it is being removed.
    pub(crate) fn begin_use(&self) -> bool {
        let mut state = self.lock();
        if !state.leaving {
            state.users += 1;
        }
        !state.leaving
    }

    pub(crate) fn end_use(&self) {
        self.lock().users -= 1;
    }

    /// Nobody can begin to use it from now on. `false` when somebody does, or it is being removed already.
    pub(crate) fn begin_removal(&self) -> bool {
        let mut state = self.lock();
        let free = state.users == 0 && !state.leaving;
        state.leaving |= free;
        free
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.lock().leaving
    }

    /// It stays after all.
    pub(crate) fn cancel_removal(&self) {
        self.lock().leaving = false;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("path", &self.path)
            .field("type", &self.type_name)
            .finish_non_exhaustive()
    }
}
