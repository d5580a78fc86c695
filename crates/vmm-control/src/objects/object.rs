//! What an object is to the tree: typed to its author, untyped to the commands.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use qmp_command::{CommandError, CommandResult, Context, QapiType, arguments};
use qmp_protocol::{Value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::plane::PlaneHandle;

/// Something that stands in the object tree.
///
/// Its properties are a struct: `object-add` decodes one, `qom-get` reads a member of the one that
/// [`properties`](Self::properties) returns, `qom-set` changes a member if it is [`SETTABLE`](Self::SETTABLE).
///
/// The methods are called from any thread. Those that change something are called one at a time, and none of them
/// while a lock of the tree is held.
pub trait Object: Send + Sync + Sized + 'static {
    /// The properties. Members that are `None` are read as null, so give the defaults that are in force.
    type Properties: Serialize + DeserializeOwned + QapiType + Send + 'static;

    /// Names of the properties that `qom-set` may change.
    const SETTABLE: &'static [&'static str] = &[];

    /// Names of the properties that are given when the object is made, and that `qom-get` does not show.
    const WRITE_ONLY: &'static [&'static str] = &[];

    /// The properties as they are now.
    fn properties(&self) -> Self::Properties;

    /// Whether the property `name`, which is one of [`SETTABLE`](Self::SETTABLE), can be changed now, whatever it is
    /// changed to: asked before the new value is looked at.
    ///
    /// # Errors
    /// Why it cannot.
    fn may_set(&self, name: &'static str) -> CommandResult<()> {
        let _ = name;
        Ok(())
    }

    /// Changes the property `name`, which is one of [`SETTABLE`](Self::SETTABLE); `new` has its new value and all others
    /// as they were read just before. It runs on a thread that may block.
    ///
    /// # Errors
    /// Whatever is wrong with the value.
    fn set(&self, name: &'static str, new: Self::Properties) -> CommandResult<()> {
        let _ = new;
        Err(CommandError::generic(format!("Property '{name}' cannot be changed")))
    }

    /// Does what it is for, once it stands in the tree: starts a thread, takes a resource. When this fails the object
    /// is removed and dropped.
    ///
    /// # Errors
    /// Whatever keeps it from working; the client sees it.
    fn complete(&self, creation: &Creation) -> impl Future<Output = CommandResult<()>> + Send {
        let _ = creation;
        std::future::ready(Ok(()))
    }

    /// Whether it is in use by something that does not hold a [`Used`](super::Used) of it. Then it is not removed.
    fn in_use(&self) -> bool {
        false
    }

    /// Stops what [`complete`](Self::complete) started, before it is removed from the tree and dropped. Not called when
    /// the whole plane goes: then it is only dropped.
    ///
    /// # Errors
    /// Refuses the removal; the client sees it.
    fn delete(&self, context: &Context) -> impl Future<Output = CommandResult<()>> + Send {
        let _ = context;
        std::future::ready(Ok(()))
    }
}

/// An object that is being made.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Creation {
    /// Its id; for a device without one, the name it gets.
    pub id: String,
    /// Where it will stand.
    pub path: String,
    /// Who makes it. Whatever it makes in turn must have at most [`Context::policy`]'s rights.
    pub context: Context,
    /// The plane it will stand in: events, iothreads, other objects. The object may keep this; it goes with the plane.
    pub plane: PlaneHandle,
}

impl Creation {
    pub(crate) fn new(id: &str, path: String, context: Context, plane: PlaneHandle) -> Self {
        Self { id: id.to_owned(), path, context, plane }
    }
}

/// An object that has nothing but a type: a container, or what an author only wants to be seen.
#[derive(Clone, Copy, Debug)]
pub struct Plain;

/// The properties of [`Plain`]: none.
#[derive(Debug, Serialize, serde::Deserialize, QapiType)]
#[qapi(name = "XPlainProperties")]
pub struct NoProperties {}

impl Object for Plain {
    type Properties = NoProperties;

    fn properties(&self) -> NoProperties {
        NoProperties {}
    }
}

type Done<'a> = Pin<Box<dyn Future<Output = CommandResult<()>> + Send + 'a>>;

/// An [`Object`] whose type is forgotten.
pub(crate) trait AnyObject: Send + Sync + 'static {
    /// The value of a declared property.
    fn get(&self, name: &str) -> CommandResult<Value>;
    fn is_readable(&self, name: &str) -> bool;
    fn is_settable(&self, name: &str) -> bool;
    fn set(&self, name: &str, value: Value) -> CommandResult<()>;
    fn complete<'a>(&'a self, creation: &'a Creation) -> Done<'a>;
    fn in_use(&self) -> bool;
    fn delete<'a>(&'a self, context: &'a Context) -> Done<'a>;
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// The PCI device that it is.
    #[cfg(feature = "vfio-user")]
    fn pci(&self) -> Option<&Arc<super::pci::Slot>> {
        None
    }
}

impl<T: Object> AnyObject for T {
    fn get(&self, name: &str) -> CommandResult<Value> {
        match to_value(&self.properties())? {
            Value::Object(mut all) => Ok(all.remove(name).unwrap_or(Value::Null)),
            _ => Err(CommandError::generic(format!("Property '{name}' cannot be read"))),
        }
    }

    fn is_readable(&self, name: &str) -> bool {
        !T::WRITE_ONLY.contains(&name)
    }

    fn is_settable(&self, name: &str) -> bool {
        T::SETTABLE.contains(&name)
    }

    fn set(&self, name: &str, value: Value) -> CommandResult<()> {
        let Some(name) = T::SETTABLE.iter().find(|settable| **settable == name) else {
            return Err(CommandError::generic(format!("Property '{name}' is not writable")));
        };
        self.may_set(name)?;
        let Value::Object(mut all) = to_value(&self.properties())? else {
            return Err(CommandError::generic(format!("Property '{name}' cannot be read")));
        };
        // What is absent now must not be null to the decoder.
        let absent: Vec<_> = all.iter().filter(|(_, v)| v.is_null()).map(|(n, _)| n.to_owned()).collect();
        for name in absent {
            all.remove(&name);
        }
        all.insert((*name).to_owned(), value);
        Object::set(self, name, arguments::decode(Some(all))?)
    }

    fn complete<'a>(&'a self, creation: &'a Creation) -> Done<'a> {
        Box::pin(Object::complete(self, creation))
    }

    fn in_use(&self) -> bool {
        Object::in_use(self)
    }

    fn delete<'a>(&'a self, context: &'a Context) -> Done<'a> {
        Box::pin(Object::delete(self, context))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
