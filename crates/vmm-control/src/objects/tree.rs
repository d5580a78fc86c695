//! The tree of one plane.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Weak};

use super::node::Node;
use super::object::{AnyObject, Object, Plain};
use super::path::{Resolved, resolve};
use super::registry::Registry;

/// Why something cannot be put into the tree.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// There is no such parent.
    #[error("Device '{0}' not found")]
    NoParent(String),
    /// The parent has a child of that name.
    #[error("attempt to add duplicate property '{name}' to object (type '{parent}')")]
    Duplicate {
        /// The name.
        name: String,
        /// The parent's type.
        parent: String,
    },
    /// The plane has been closed.
    #[error("the control plane is closed")]
    Closed,
}

/// The object tree of a plane. A clone is a handle to the same tree.
#[derive(Clone)]
pub struct Objects {
    root: Arc<Node>,
    pub(crate) types: Arc<Registry>,
}

impl Objects {
    pub(crate) fn new(types: Registry, machine_type: &str) -> Self {
        let objects = Self { root: container("/".to_owned()), types: Arc::new(types) };
        let machine_type = format!("{machine_type}-machine");
        objects.types.ensure(&machine_type, "machine");
        // The order of creation is QEMU's, as it shows in the order of the list.
        objects.root.attach(container("/chardevs".to_owned()));
        let machine = Node::new("/machine".to_owned(), machine_type, Arc::new(Plain));
        for name in ["unattached", "peripheral", "peripheral-anon"] {
            machine.attach(container(machine.path_of(name)));
        }
        objects.root.attach(machine);
        objects
    }

    /// Shows `object` as `name` under the object at `parent`, as a thing of type `type_name` (a `device` if the type is
    /// not known yet). For parts of a machine that its author makes, such as `/machine/unattached/device[0]`.
    ///
    /// # Errors
    /// No such parent, or the name is taken there, or the plane is closed.
    pub fn attach(
        &self,
        parent: &str,
        name: &str,
        type_name: &str,
        object: impl Object,
    ) -> Result<(), AttachError> {
        self.types.ensure_with(type_name, "device", &object);
        let parent = self.find(parent).ok_or_else(|| AttachError::NoParent(parent.to_owned()))?;
        self.attach_node(&parent, name, type_name, Arc::new(object)).map(drop)
    }

    /// Takes out what was [attached](Self::attach) there. `false` when there is nothing.
    pub fn detach(&self, path: &str) -> bool {
        let Some((parent, _)) = path.rsplit_once('/') else { return false };
        let parent = self.find(if parent.is_empty() { "/" } else { parent });
        match (parent, self.find(path)) {
            (Some(parent), Some(node)) => parent.detach(&node),
            _ => false,
        }
    }

    /// The object at this path, whole or partial, if it is a `T`, for as long as the returned guard lives: until then
    /// it cannot be removed. `None` also while it is being removed.
    pub fn acquire<T: Object>(&self, path: &str) -> Option<Used<T>> {
        let node = self.find(path)?;
        let object = node.object.clone().into_any().downcast::<T>().ok()?;
        node.begin_use().then(|| Used { node, object })
    }

    /// Looks at the object at this path, if it is a `T`. It may be removed meanwhile.
    pub fn peek<T: Object>(&self, path: &str) -> Option<Arc<T>> {
        self.find(path)?.object.clone().into_any().downcast::<T>().ok()
    }

    /// Whether something stands at this path.
    pub fn contains(&self, path: &str) -> bool {
        self.find(path).is_some()
    }

    /// The names of the children of the object at this path, in QEMU's order. Empty when there is nothing.
    pub fn children(&self, path: &str) -> Vec<String> {
        let nodes = self.find(path).map(|node| node.children()).unwrap_or_default();
        nodes.iter().map(|node| node.name().to_owned()).collect()
    }

    /// The object's type, by its path.
    pub fn type_of(&self, path: &str) -> Option<String> {
        self.find(path).map(|node| node.type_name.clone())
    }

    pub(crate) fn downgrade(&self) -> WeakObjects {
        WeakObjects { root: Arc::downgrade(&self.root), types: Arc::downgrade(&self.types) }
    }

    pub(crate) fn resolve(&self, path: &str) -> Resolved {
        resolve(&self.root, path)
    }

    pub(crate) fn find(&self, path: &str) -> Option<Arc<Node>> {
        self.resolve(path).found()
    }

    /// `/objects`, which QEMU makes with the first object.
    ///
    /// # Errors
    /// In a tree that has been cleared there is none, and none is made.
    pub(crate) fn objects(&self) -> Result<Arc<Node>, AttachError> {
        if let Some(node) = self.root.child("objects") {
            return Ok(node);
        }
        // Whoever is first makes it.
        let new = container("/objects".to_owned());
        if self.root.attach(new.clone()) {
            return Ok(new);
        }
        self.root.child("objects").ok_or(AttachError::Closed)
    }

    /// The user-created objects, in QEMU's order, without making `/objects`.
    pub(crate) fn user_created(&self) -> Vec<Arc<Node>> {
        self.root.child("objects").map(|node| node.children()).unwrap_or_default()
    }

    pub(crate) fn user_created_count(&self) -> usize {
        self.root.child("objects").map_or(0, |node| node.child_count())
    }

    /// The user-created object of this id.
    pub(crate) fn user_created_one(&self, id: &str) -> Option<Arc<Node>> {
        self.root.child("objects")?.child(id)
    }

    pub(crate) fn attach_node(
        &self,
        parent: &Arc<Node>,
        name: &str,
        type_name: &str,
        object: Arc<dyn AnyObject>,
    ) -> Result<Arc<Node>, AttachError> {
        let node = Node::new(parent.path_of(name), type_name.to_owned(), object);
        if parent.attach(node.clone()) {
            return Ok(node);
        }
        if self.root.is_leaving() {
            return Err(AttachError::Closed);
        }
        Err(AttachError::Duplicate { name: name.to_owned(), parent: parent.type_name.clone() })
    }

    /// Takes out everything that users and authors put here: it is dropped with what comes back. Objects hold the plane's parts,
    /// and those hold the tree.
    pub(crate) fn take_all(&self) -> Taken {
        Taken(self.root.drain())
    }
}

/// What was in a tree.
pub(crate) struct Taken(Vec<Arc<Node>>);

impl Taken {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.iter().for_each(clear);
    }
}

fn clear(node: &Arc<Node>) {
    for child in node.drain() {
        clear(&child);
    }
}

fn container(path: String) -> Arc<Node> {
    Node::new(path, "container".to_owned(), Arc::new(Plain))
}

/// The tree, for what its own types and objects hold: else it would hold itself.
#[derive(Clone, Debug)]
pub(crate) struct WeakObjects {
    root: Weak<Node>,
    types: Weak<Registry>,
}

impl WeakObjects {
    /// The tree, while its plane is there.
    pub(crate) fn upgrade(&self) -> Option<Objects> {
        Some(Objects { root: self.root.upgrade()?, types: self.types.upgrade()? })
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("root", &self.root).finish_non_exhaustive()
    }
}

/// An object that somebody uses: while this lives, it is not removed.
pub struct Used<T> {
    node: Arc<Node>,
    object: Arc<T>,
}

impl<T> Used<T> {
    /// Where it stands.
    pub fn path(&self) -> &str {
        &self.node.path
    }
}

impl<T> Deref for Used<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> Drop for Used<T> {
    fn drop(&mut self) {
        self.node.end_use();
    }
}

impl<T: Any> fmt::Debug for Used<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Used").field(&self.node).finish()
    }
}
