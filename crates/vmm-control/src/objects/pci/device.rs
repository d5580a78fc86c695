//! The object that holds a PCI device.

use std::any::Any;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use qmp_command::arguments::Parts;
use qmp_command::{CommandError, CommandResult, Context, QapiType};
use qmp_protocol::{Value, to_value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use vfio_user_server::PciDevice;

use super::properties::{self, Given, LEGACY_ADDR, NAMES, Shown};
use super::slot::Slot;
use super::{CONVENTIONAL, PCI_DEVICE};
use crate::objects::object::AnyObject;
use crate::objects::registry::{Decode, Make};
use crate::objects::{Creation, ObjectType};

/// A type of PCI device called `name`, for [`Builder::device_type`](crate::Builder::device_type).
///
/// `create` makes a device of what it is told: its own properties (`()` for none). It returns them as they are in
/// force, for `qom-get`, beside the device. They cannot be changed once the device is there.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use vmm_control::objects::pci::{PciDevice, pci_device_type};
/// use vmm_control::{CommandResult, Creation, ObjectType, QapiType};
///
/// /// Properties of a thermometer.
/// #[derive(Clone, Deserialize, Serialize, QapiType)]
/// struct ThermometerProperties {
///     /// Degrees at first; 20 when absent.
///     degrees: Option<i32>,
/// }
///
/// fn thermometer<D: PciDevice>(make: fn(i32) -> D) -> ObjectType {
///     pci_device_type("x-thermometer", move |_: &Creation, mut properties: ThermometerProperties| {
///         let degrees = *properties.degrees.get_or_insert(20);
///         Ok((properties, make(degrees)))
///     })
/// }
/// ```
///
/// `crates/vmm-control/examples/own_pci_device.rs` is a whole one.
pub fn pci_device_type<P, D, F>(name: &'static str, create: F) -> ObjectType
where
    P: DeserializeOwned + Serialize + QapiType + Send + Sync + 'static,
    D: PciDevice,
    F: Fn(&Creation, P) -> CommandResult<(P, D)> + Send + Sync + 'static,
{
    let create = Arc::new(create);
    let decode: Decode = Box::new(move |parts: &mut Parts| {
        let own: P = parts.take()?;
        let common: Given = parts.take()?;
        let create = create.clone();
        let make: Make = Box::new(move |creation| {
            let common = common.settle(name)?;
            let (own, device) = create(creation, own)?;
            let slot = Arc::new(Slot::new(&creation.id, Box::new(device)));
            Ok(Arc::new(PciObject { type_name: name, own, common, slot }))
        });
        Ok(make)
    });
    let mut all = properties::described::<P>();
    all.extend(properties::common());
    ObjectType::of_parts(name, all, properties::describe::<P>, properties::check::<P>, decode)
        .parent(PCI_DEVICE)
        .inherits(PCI_DEVICE, NAMES)
        .implements(&[CONVENTIONAL])
}

/// A PCI device, as it stands in the tree.
struct PciObject<P> {
    type_name: &'static str,
    own: P,
    common: Shown,
    slot: Arc<Slot>,
}

type Done<'a> = Pin<Box<dyn Future<Output = CommandResult<()>> + Send + 'a>>;

impl<P: Serialize + Send + Sync + 'static> AnyObject for PciObject<P> {
    fn get(&self, name: &str) -> CommandResult<Value> {
        let all = match name == LEGACY_ADDR || NAMES.contains(&name) {
            true => to_value(&self.common)?,
            false => to_value(&self.own)?,
        };
        match all {
            Value::Object(mut all) => Ok(all.remove(name).unwrap_or(Value::Null)),
            _ => Err(CommandError::generic(format!("Property '{name}' cannot be read"))),
        }
    }

    fn is_readable(&self, _: &str) -> bool {
        true
    }

    fn is_settable(&self, name: &str) -> bool {
        // Those of every device are the tree's to say.
        name != LEGACY_ADDR && self.get(name).is_ok_and(|value| !value.is_null())
    }

    fn set(&self, name: &str, _: Value) -> CommandResult<()> {
        Err(CommandError::generic(format!(
            "Attempt to set property '{name}' on device '{}' (type '{}') after it was realized",
            self.slot.id(),
            self.type_name
        )))
    }

    fn complete<'a>(&'a self, _: &'a Creation) -> Done<'a> {
        Box::pin(ready(Ok(())))
    }

    fn in_use(&self) -> bool {
        false
    }

    fn delete<'a>(&'a self, _: &'a Context) -> Done<'a> {
        let refused = || {
            CommandError::generic(format!(
                "vfu: x-vfio-user-server for {} must be deleted before unplugging",
                self.slot.id()
            ))
        };
        Box::pin(ready(self.slot.retire().ok_or_else(refused)))
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn pci(&self) -> Option<&Arc<Slot>> {
        Some(&self.slot)
    }
}
