//! The types that there are, and how instances are made by name.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use qmp_command::arguments::{self, Parts};
use qmp_command::schema::{SchemaError, TypeRef, Types};
use qmp_command::{CommandResult, QapiType};
use qmp_protocol::Error;
use qmp_protocol::order::NameTable;

use super::check::{self, TypeError};
use super::class::{Class, ClassKind, PropertyInfo, TypeInfo, properties_of};
use super::object::{AnyObject, Creation, Object};

/// Parents are looked for no further up: no chain of types is longer.
const LONGEST_CHAIN: usize = 32;

/// Makes an object whose properties have been decoded.
pub(crate) type Make = Box<dyn FnOnce(&Creation) -> CommandResult<Arc<dyn AnyObject>> + Send>;

/// Takes an object's properties out of arguments.
pub(super) type Decode = Box<dyn Fn(&mut Parts) -> Result<Make, Error> + Send + Sync>;

/// Whether serde reads an object's properties as they are described.
pub(super) type Check = fn(&Types, &TypeRef) -> Result<(), SchemaError>;

/// A type of object that clients can create by name: with `object-add`, or, registered as a device type, with
/// `device_add`.
///
/// ```
/// use qmp_command::QapiType;
/// use serde::{Deserialize, Serialize};
/// use vmm_control::objects::{Object, ObjectType};
///
/// /// A source of randomness.
/// #[derive(Clone, Deserialize, Serialize, QapiType)]
/// struct RngProperties {
///     /// Where it comes from.
///     filename: Option<String>,
/// }
///
/// struct Rng(RngProperties);
///
/// impl Object for Rng {
///     type Properties = RngProperties;
///
///     fn properties(&self) -> RngProperties {
///         self.0.clone()
///     }
/// }
///
/// let rng = ObjectType::new("rng-random", |_creation, properties| Ok(Rng(properties))).parent("rng-backend");
/// assert_eq!(rng.name(), "rng-random");
/// ```
pub struct ObjectType {
    name: &'static str,
    doc: &'static str,
    parent: &'static str,
    inherited: Vec<(&'static str, &'static [&'static str])>,
    interfaces: &'static [&'static str],
    unstable: bool,
    properties: Vec<PropertyInfo>,
    pub(super) settable: &'static [&'static str],
    pub(super) write_only: &'static [&'static str],
    describe: fn(&mut Types) -> TypeRef,
    pub(super) check: Check,
    decode: Decode,
}

impl ObjectType {
    /// A type called `name`, of whose instances `create` makes one. It may refuse properties; what takes resources or
    /// time belongs into [`Object::complete`], which comes when the name is known to be free.
    pub fn new<T, F>(name: &'static str, create: F) -> Self
    where
        T: Object,
        F: Fn(&Creation, T::Properties) -> CommandResult<T> + Send + Sync + 'static,
    {
        let create = Arc::new(create);
        Self {
            name,
            doc: "",
            parent: "object",
            inherited: Vec::new(),
            interfaces: &[],
            unstable: false,
            properties: properties_of::<T::Properties>(),
            settable: T::SETTABLE,
            write_only: T::WRITE_ONLY,
            describe: T::Properties::describe,
            check: arguments::check_type::<T::Properties>,
            decode: Box::new(move |parts| {
                let properties: T::Properties = parts.take()?;
                let create = create.clone();
                Ok(Box::new(
                    move |creation| Ok(Arc::new(create(creation, properties)?) as Arc<dyn AnyObject>),
                ))
            }),
        }
    }

    /// A type whose properties are said and decoded in a way of its own.
    #[cfg(feature = "vfio-user")]
    pub(super) fn of_parts(
        name: &'static str,
        properties: Vec<PropertyInfo>,
        describe: fn(&mut Types) -> TypeRef,
        check: Check,
        decode: Decode,
    ) -> Self {
        Self {
            name,
            doc: "",
            parent: "object",
            inherited: Vec::new(),
            interfaces: &[],
            unstable: false,
            properties,
            settable: &[],
            write_only: &[],
            describe,
            check,
            decode,
        }
    }

    /// Says which interfaces its objects implement, for `qom-list-types`.
    #[must_use]
    pub fn implements(mut self, interfaces: &'static [&'static str]) -> Self {
        self.interfaces = interfaces;
        self
    }

    /// Says in the schema that it may change, as QEMU says of types whose names begin with `x-`.
    #[must_use]
    pub fn unstable(mut self) -> Self {
        self.unstable = true;
        self
    }

    /// What its objects are, in a sentence, for the manual.
    #[must_use]
    pub fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// The type it inherits from, for `qom-list-types`. An abstract one of that name is made if there is none.
    #[must_use]
    pub fn parent(mut self, parent: &'static str) -> Self {
        self.parent = parent;
        self
    }

    /// Says that these properties come from the parent type `class`. Only the order of lists shows it.
    #[must_use]
    pub fn inherits(mut self, class: &'static str, properties: &'static [&'static str]) -> Self {
        self.inherited.push((class, properties));
        self
    }

    /// Says that the value of `property` is the id of an object of the type `target`, for lists.
    #[must_use]
    pub fn links(mut self, property: &str, target: &str) -> Self {
        if let Some(found) = self.properties.iter_mut().find(|known| known.name == property) {
            found.ty = format!("link<{target}>");
        }
        self
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its properties.
    pub fn properties(&self) -> &[PropertyInfo] {
        &self.properties
    }

    pub(crate) fn is_unstable(&self) -> bool {
        self.unstable
    }

    /// What its objects are. Empty when nobody said.
    pub fn documentation(&self) -> &'static str {
        self.doc
    }

    pub(crate) fn describe(&self, types: &mut Types) -> TypeRef {
        (self.describe)(types)
    }

    /// Takes the properties out of arguments.
    pub(crate) fn decode(&self, parts: &mut Parts) -> Result<Make, Error> {
        (self.decode)(parts)
    }
}

impl fmt::Debug for ObjectType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectType")
            .field("name", &self.name)
            .field("parent", &self.parent)
            .finish_non_exhaustive()
    }
}

/// All types of a plane.
pub(crate) struct Registry {
    classes: Mutex<Vec<Class>>,
    /// What `object-add` makes.
    pub(crate) objects: Vec<ObjectType>,
    /// What `device_add` makes.
    pub(crate) devices: Vec<ObjectType>,
}

impl Registry {
    pub(crate) fn new(objects: Vec<ObjectType>, devices: Vec<ObjectType>) -> Result<Self, TypeError> {
        use ClassKind::{Abstract, Concrete, Interface};
        let type_property = PropertyInfo::new("type", "string");
        #[cfg_attr(not(feature = "vfio-user"), expect(unused_mut, reason = "PCI comes with a feature"))]
        let mut basic = vec![
            Class::new("object", None, Abstract).with([type_property]),
            Class::new("user-creatable", None, Interface),
            Class::new("container", Some("object"), Concrete),
            Class::new("machine", Some("object"), Abstract),
            Class::new("chardev", Some("object"), Abstract),
            Class::new("chardev-fd", Some("chardev"), Abstract),
            Class::new("chardev-socket", Some("chardev"), Concrete)
                .with(properties_of::<super::builtin::ChardevSocketProperties>()),
            Class::new("chardev-null", Some("chardev"), Concrete),
            Class::new("chardev-file", Some("chardev-fd"), Concrete),
            Class::new("chardev-pipe", Some("chardev-fd"), Concrete),
            Class::new("chardev-stdio", Some("chardev-fd"), Concrete),
            Class::new("device", Some("object"), Abstract).with(device_properties()),
        ];
        #[cfg(feature = "vfio-user")]
        basic.extend(super::pci::classes());
        let taken = basic.iter().map(|class| class.name.clone());
        check::check(objects.iter().chain(&devices), taken)?;
        let registry = Self { classes: Mutex::new(basic), objects, devices };
        for ty in &registry.objects {
            registry.add(ty, Some("user-creatable"));
        }
        for ty in &registry.devices {
            registry.add(ty, None);
        }
        Ok(registry)
    }

    /// Adds a type, which implements this interface beside its own.
    fn add(&self, ty: &ObjectType, interface: Option<&'static str>) {
        let mut classes = self.lock();
        let known = |name: &str| classes.iter().any(|class| class.name == name);
        let registered = self.objects.iter().chain(&self.devices).any(|other| other.name == ty.parent);
        if !registered && !known(ty.parent) {
            let of_parent = ty.inherited.iter().filter(|(class, _)| *class == ty.parent);
            let names: Vec<_> = of_parent.flat_map(|(_, names)| names.iter().copied()).collect();
            // In the order in which they were named there.
            let find = |name: &&str| ty.properties.iter().find(|property| property.name == *name).cloned();
            let properties: Vec<_> = names.iter().filter_map(find).collect();
            let parent = Class::new(ty.parent, Some("object"), ClassKind::Abstract).with(properties);
            classes.push(parent);
        }
        let inherited = |property: &&PropertyInfo| {
            ty.inherited.iter().any(|(_, names)| names.contains(&property.name.as_str()))
        };
        let own = ty.properties.iter().filter(|property| !inherited(property)).cloned();
        let interfaces = ty.interfaces.iter().copied().chain(interface);
        let class =
            Class::new(ty.name, Some(ty.parent), ClassKind::Concrete).implementing(interfaces).with(own);
        classes.push(class);
    }

    /// Makes a type without properties of its own, unless there is one of that name.
    pub(crate) fn ensure(&self, name: &str, parent: &str) {
        let mut classes = self.lock();
        if !classes.iter().any(|class| class.name == name) {
            classes.push(Class::new(name, Some(parent), ClassKind::Concrete));
        }
    }

    /// The same, with the properties of an object that is one.
    pub(crate) fn ensure_with<T: Object>(&self, name: &str, parent: &str, _: &T) {
        let mut classes = self.lock();
        if !classes.iter().any(|class| class.name == name) {
            let properties = properties_of::<T::Properties>();
            classes.push(Class::new(name, Some(parent), ClassKind::Concrete).with(properties));
        }
    }

    pub(crate) fn object_type(&self, name: &str) -> Option<&ObjectType> {
        self.objects.iter().find(|ty| ty.name == name)
    }

    pub(crate) fn device_type(&self, name: &str) -> Option<&ObjectType> {
        self.devices.iter().find(|ty| ty.name == name)
    }

    /// What is known of a type.
    pub(crate) fn kind(&self, name: &str) -> Option<ClassKind> {
        self.lock().iter().find(|class| class.name == name).map(|class| class.kind)
    }

    /// Whether a type is another one, or inherits from it, or implements it.
    pub(crate) fn is_a(&self, name: &str, of: &str) -> bool {
        is_a(&self.lock(), name, of)
    }

    pub(crate) fn has_property(&self, type_name: &str, property: &str) -> bool {
        chain(&self.lock(), type_name).any(|class| class.has(property))
    }

    /// The properties of a type, in the order in which QEMU would list them: those of the root type first.
    pub(crate) fn properties(&self, type_name: &str) -> Vec<PropertyInfo> {
        let classes = self.lock();
        // QEMU walks each table from the type up to the root, and the list is built from its end.
        let mut all: Vec<_> =
            chain(&classes, type_name).flat_map(|class| class.properties().into_iter().cloned()).collect();
        all.reverse();
        all
    }

    /// Types that are an `implements`, in QEMU's order; abstract ones if asked for.
    pub(crate) fn list(&self, implements: Option<&str>, with_abstract: bool) -> Vec<TypeInfo> {
        let classes = self.lock();
        let mut table = NameTable::new();
        for class in classes.iter().filter(|class| class.kind != ClassKind::Interface) {
            table.insert(class.name.as_str());
        }
        let find = |name: &str| classes.iter().find(|class| class.name == name);
        let wanted = |class: &&Class| {
            (with_abstract || class.kind == ClassKind::Concrete)
                && implements.is_none_or(|of| is_a(&classes, &class.name, of))
        };
        let info = |class: &Class| TypeInfo {
            name: class.name.clone(),
            is_abstract: (class.kind == ClassKind::Abstract).then_some(true),
            parent: class.parent.clone(),
        };
        table.iter().rev().filter_map(|name| find(name)).filter(wanted).map(info).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Class>> {
        self.classes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every device has. Their values are the tree's to say, not the device's.
fn device_properties() -> [PropertyInfo; 4] {
    [
        PropertyInfo::new("realized", "bool"),
        PropertyInfo::new("hotpluggable", "bool"),
        PropertyInfo::new("hotplugged", "bool"),
        PropertyInfo::new("parent_bus", "link<bus>"),
    ]
}

/// A type and its ancestors, itself first.
fn chain<'a>(classes: &'a [Class], name: &'a str) -> impl Iterator<Item = &'a Class> {
    let find = move |name: &str| classes.iter().find(|class| class.name == name);
    std::iter::successors(find(name), move |class| find(class.parent.as_deref()?)).take(LONGEST_CHAIN)
}

fn is_a(classes: &[Class], name: &str, of: &str) -> bool {
    chain(classes, name).any(|class| class.name == of || class.interfaces.contains(&of))
}
