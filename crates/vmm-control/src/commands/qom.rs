//! `qom-*`: looking at the object tree, and setting properties in it.

use std::sync::Arc;

use qmp_command::arguments::Parts;
use qmp_command::layers::authorize::log_refusal;
use qmp_command::schema::{TypeRef, Types};
use qmp_command::{Command, CommandError, CommandResult, Context, QapiType, apart};
use qmp_protocol::{ErrorClass, Object, Value};
use serde::{Deserialize, Serialize};

use crate::objects::{Node, Objects, PropertyInfo, Resolved, TypeInfo};
use crate::plane::Shared;

/// The path of an object.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qom-list-arg")]
struct List {
    /// Absolute, or the end of one that fits one object only.
    path: String,
}

/// A property of an object.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qom-get-arg")]
struct Get {
    /// As for `qom-list`.
    path: String,
    /// The property's name.
    property: String,
}

/// A property and its new value.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qom-set-arg")]
#[expect(dead_code, reason = "described; the handler takes the arguments part by part")]
struct Set {
    /// As for `qom-list`.
    path: String,
    /// The property's name.
    property: String,
    /// What it is to be.
    value: AnyValue,
}

/// Which types to list.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qom-list-types-arg")]
struct ListTypes {
    /// Only those that are this type, inherit from it or implement it; all when absent.
    implements: Option<String>,
    /// Abstract ones too; false when absent.
    #[serde(rename = "abstract")]
    with_abstract: Option<bool>,
}

/// The name of a type.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "q_obj_qom-list-properties-arg")]
struct ListProperties {
    /// The type.
    typename: String,
}

/// QAPI's `any`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(transparent)]
struct AnyValue(Value);

impl QapiType for AnyValue {
    fn describe(_: &mut Types) -> TypeRef {
        TypeRef::Any
    }
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![qom_list(plane), qom_get(plane), qom_set(plane), qom_list_types(plane), qom_list_properties(plane)]
}

/// QEMU's error for an object that is not there.
pub(crate) fn device_not_found(path: &str) -> CommandError {
    CommandError::generic(format!("Device '{path}' not found")).class(ErrorClass::DeviceNotFound)
}

fn qom_list(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("qom-list")
        .doc("Lists the properties and children of an object.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, List { path }: List| std::future::ready(list(&objects, &path)))
}

fn list(objects: &Objects, path: &str) -> CommandResult<Vec<PropertyInfo>> {
    let node = match objects.resolve(path) {
        Resolved::Found(node) => node,
        Resolved::NotFound => return Err(device_not_found(path)),
        Resolved::Ambiguous => return Err(CommandError::generic(format!("Path '{path}' is ambiguous"))),
    };
    // As the list is built from its end: the type's properties, then the children, last one first.
    let mut all = objects.types.properties(&node.type_name);
    all.iter_mut().for_each(|property| property.description = None);
    let child = |child: &Arc<Node>| PropertyInfo::new(child.name(), format!("child<{}>", child.type_name));
    all.extend(node.children().iter().rev().map(child));
    Ok(all)
}

fn qom_get(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("qom-get").doc("Reads a property of an object.").allow_preconfig().read_only().handler(
        move |_: Context, Get { path, property }: Get| {
            std::future::ready(get(&objects, &path, &property).map(AnyValue))
        },
    )
}

fn get(objects: &Objects, path: &str, property: &str) -> CommandResult<Value> {
    let node = objects.find(path).ok_or_else(|| device_not_found(path))?;
    if property == "type" {
        return Ok(node.type_name.as_str().into());
    }
    if let Some(child) = node.child(property) {
        return Ok(child.path.as_str().into());
    }
    if !objects.types.has_property(&node.type_name, property) {
        return Err(no_property(&node, property));
    }
    if !node.object.is_readable(property) {
        return Err(CommandError::generic(format!(
            "Property '{}.{property}' is not readable",
            node.type_name
        )));
    }
    if objects.types.is_a(&node.type_name, "device")
        && let Some(value) = device_property(&node, property)
    {
        return Ok(value);
    }
    node.object.get(property)
}

/// What every device has, whatever it is.
fn device_property(node: &Node, property: &str) -> Option<Value> {
    let plugged = node.path.starts_with("/machine/peripheral");
    match property {
        "realized" => Some(true.into()),
        "hotpluggable" | "hotplugged" => Some(plugged.into()),
        "parent_bus" => Some("".into()),
        _ => None,
    }
}

fn no_property(node: &Node, property: &str) -> CommandError {
    CommandError::generic(format!("Property '{}.{property}' not found", node.type_name))
}

fn qom_set(plane: &Arc<Shared>) -> Command {
    let (objects, starter) = (plane.objects.clone(), plane.starter.clone());
    // Raw: a value of any type is handed on as it came.
    Command::new("qom-set").doc("Changes a property of an object.").allow_preconfig().asks_type().raw_handler(
        Set::describe,
        move |context: Context, arguments: Object| {
            let (objects, starter) = (objects.clone(), starter.clone());
            async move {
                let mut parts = Parts::new(arguments);
                let Get { path, property } = parts.take()?;
                let value = parts.take_any(&["value"])?;
                parts.finish()?;
                // What it sets in motion may block.
                apart(&starter, move || set(&objects, &context, &path, &property, value)).await
            }
        },
    )
}

fn set(objects: &Objects, context: &Context, path: &str, property: &str, value: Value) -> CommandResult<()> {
    let node = objects.find(path).ok_or_else(|| device_not_found(path))?;
    permit_type(context, "qom-set", &node.type_name)?;
    let known = property == "type" || objects.types.has_property(&node.type_name, property);
    if !known && node.child(property).is_none() {
        return Err(no_property(&node, property));
    }
    if !node.object.is_settable(property) {
        return Err(CommandError::generic(format!(
            "Property '{}.{property}' is not writable",
            node.type_name
        )));
    }
    node.object.set(property, value)
}

/// Asks the session's policy about a type, and logs a refusal.
pub(crate) fn permit_type(context: &Context, command: &str, type_name: &str) -> CommandResult<()> {
    context.policy().check_type(command, type_name).inspect_err(|refusal| log_refusal(context, refusal))
}

fn qom_list_types(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("qom-list-types")
        .doc("Lists the types of objects that there are.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, ListTypes { implements, with_abstract }: ListTypes| {
            let list: Vec<TypeInfo> =
                objects.types.list(implements.as_deref(), with_abstract.unwrap_or(false));
            std::future::ready(Ok(list))
        })
}

fn qom_list_properties(plane: &Arc<Shared>) -> Command {
    let objects = plane.objects.clone();
    Command::new("qom-list-properties")
        .doc("Lists the properties that objects of a type have.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, ListProperties { typename }: ListProperties| {
            std::future::ready(list_properties(&objects, &typename))
        })
}

fn list_properties(objects: &Objects, typename: &str) -> CommandResult<Vec<PropertyInfo>> {
    use crate::objects::ClassKind;
    match objects.types.kind(typename) {
        None => {
            let error = CommandError::generic(format!("Class '{typename}' not found"));
            Err(error.class(ErrorClass::DeviceNotFound))
        }
        Some(ClassKind::Interface) => Err(CommandError::generic("Parameter 'typename' expects a QOM type")),
        Some(ClassKind::Concrete | ClassKind::Abstract) => Ok(objects.types.properties(typename)),
    }
}
