//! `device_add` and `device_del`: devices that clients plug and unplug.
//!
//! QEMU takes a device's properties as texts, whatever JSON has them as, and so does this: `"addr": 5` and `"addr": "5"`
//! are the same. Their types decide what the texts mean.

use std::sync::Arc;

use qmp_command::arguments::Parts;
use qmp_command::schema::{TypeRef, Types};
use qmp_command::{Command, CommandError, CommandResult, Context, Feature, QapiType};
use qmp_monitor::EventSpec;
use qmp_protocol::{Number, Object, Value};
use serde::{Deserialize, Serialize};

use super::objects::{complete, is_identifier, remove};
use super::qom::{device_not_found, permit_type};
use crate::bounds;
use crate::keyval;
use crate::objects::{ClassKind, Creation, Node, ObjectType, Objects};
use crate::plane::{PlaneHandle, Shared};
use crate::reserve;

/// A device to be plugged; its type's properties stand beside these.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_device_add-arg")]
#[expect(dead_code, reason = "described; the handler takes the arguments as they come")]
struct DeviceAdd {
    /// The name of its type.
    driver: String,
    /// The bus to plug it into.
    bus: Option<String>,
    /// Its name under `/machine/peripheral`; without one it can only be found by its path.
    id: Option<String>,
}

/// The name of a device.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_device_del-arg")]
struct DeviceDel {
    /// Its id, or its path.
    id: String,
}

/// A device that is gone.
#[derive(Debug, Serialize, QapiType)]
#[qapi(name = "q_obj_DEVICE_DELETED-arg")]
struct DeviceDeleted {
    /// Its id, if it had one.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
    /// Where it stood.
    path: String,
}

pub(super) fn events() -> Vec<EventSpec> {
    vec![EventSpec::standard::<DeviceDeleted>("DEVICE_DELETED").doc("A device was unplugged.")]
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![device_add(plane), device_del(plane)]
}

fn device_add(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("device_add")
        .asks_type()
        .doc("Plugs a device.")
        .feature(Feature::Named("json-cli"))
        .feature(Feature::Named("json-cli-hotplug"))
        .raw_handler(DeviceAdd::describe, move |context: Context, arguments: Object| {
            let plane = plane.clone();
            async move { add(&plane, context, arguments).await }
        })
}

async fn add(plane: &Arc<Shared>, context: Context, mut arguments: Object) -> CommandResult<()> {
    let objects = &plane.objects;
    let id = match arguments.remove("id") {
        Some(Value::String(id)) if is_identifier(&id) => {
            bounds::name("id", &id)?;
            Some(id)
        }
        Some(Value::String(_)) => {
            return Err(CommandError::generic("Parameter 'id' expects an identifier"));
        }
        // QEMU takes no notice of any other.
        _ => None,
    };
    let driver = arguments.remove("driver").and_then(|driver| text(&driver));
    let driver = driver.ok_or_else(|| CommandError::generic("Parameter 'driver' is missing"))?;
    let ty = device_type(objects, &driver)?;
    permit_type(&context, "device_add", ty.name())?;
    if let Some(bus) = arguments.remove("bus").and_then(|bus| text(&bus)) {
        return Err(CommandError::generic(format!("Bus '{bus}' not found")));
    }
    let parent = if id.is_some() { "/machine/peripheral" } else { "/machine/peripheral-anon" };
    let parent = objects.find(parent).ok_or_else(|| device_not_found(parent))?;
    if let Some(id) = id.as_ref().filter(|id| parent.child(id).is_some()) {
        return Err(CommandError::generic(format!("Duplicate device ID '{id}'")));
    }
    bounds::number("devices", parent.child_count())?;
    let mut parts = Parts::new(properties(ty, &arguments)?);
    let make = ty.decode(&mut parts)?;
    parts.finish()?;
    let name = id.unwrap_or_else(|| free_name(&parent));
    reserve::check(plane)?;
    let creation = Creation::new(&name, parent.path_of(&name), context, PlaneHandle::of(plane));
    let object = make(&creation)?;
    let node = objects.attach_node(&parent, &name, ty.name(), object)?;
    complete(&parent, &node, &creation).await
}

fn device_type<'a>(objects: &'a Objects, driver: &str) -> CommandResult<&'a ObjectType> {
    let types = &objects.types;
    types.device_type(driver).ok_or_else(|| {
        let is_device = types.is_a(driver, "device");
        CommandError::generic(match types.kind(driver) {
            Some(ClassKind::Abstract) if is_device => {
                "Parameter 'driver' expects a non-abstract device type".to_owned()
            }
            Some(_) if is_device => "Parameter 'driver' expects a pluggable device type".to_owned(),
            _ => format!("'{driver}' is not a valid device model name"),
        })
    })
}

/// The properties as their types have them.
fn properties(ty: &ObjectType, given: &Object) -> CommandResult<Object> {
    let unknown = |name: &&str| !ty.properties().iter().any(|property| property.name == **name);
    let mut names = given.iter_qdict().map(|(name, _)| name);
    if let Some(name) = names.find(unknown) {
        return Err(CommandError::generic(format!("Property '{}.{name}' not found", ty.name())));
    }
    let texts = given.iter().filter_map(|(name, value)| Some((name, text(value)?))).collect();
    let mut types = Types::new();
    let described: TypeRef = ty.describe(&mut types);
    Ok(keyval::arguments(&texts, &types, &described)?)
}

/// A scalar as QEMU writes it into an option. Others do not become one.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(on) => Some(if *on { "on" } else { "off" }.to_owned()),
        Value::Number(Number::I64(number)) => Some(number.to_string()),
        Value::Number(Number::U64(number)) => Some(number.to_string()),
        Value::Number(Number::F64(number)) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The first `device[N]` that is free.
fn free_name(parent: &Arc<Node>) -> String {
    let mut number = 0_u64;
    loop {
        let name = format!("device[{number}]");
        if parent.child(&name).is_none() {
            return name;
        }
        number += 1;
    }
}

fn device_del(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("device_del").asks_type().doc("Unplugs a device that nobody uses.").handler(
        move |context: Context, DeviceDel { id }: DeviceDel| {
            let plane = plane.clone();
            async move { delete(&plane, &context, &id).await }
        },
    )
}

async fn delete(plane: &Shared, context: &Context, id: &str) -> CommandResult<()> {
    let objects = &plane.objects;
    let path = if id.starts_with('/') { id.to_owned() } else { format!("/machine/peripheral/{id}") };
    let node = objects.find(&path).ok_or_else(|| device_not_found(id))?;
    let parents = ["/machine/peripheral", "/machine/peripheral-anon"];
    let parent = parents.into_iter().find(|parent| node.path == format!("{parent}/{}", node.name()));
    let Some(parent) = parent else {
        return Err(CommandError::generic(format!("{id} is not a hotpluggable device")));
    };
    permit_type(context, "device_del", &node.type_name)?;
    let parent = objects.find(parent).ok_or_else(|| device_not_found(id))?;
    remove(&parent, &node, context)
        .await
        .unwrap_or_else(|| Err(CommandError::generic(format!("Device '{id}' is in use"))))?;
    let device = (parent.name() == "peripheral").then(|| node.name().to_owned());
    plane.events.emit("DEVICE_DELETED", &DeviceDeleted { device, path: node.path.clone() })?;
    Ok(())
}
