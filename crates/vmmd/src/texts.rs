//! Objects and devices of the command line: `TYPE,key=value...`, made as clients would make them.

use std::path::Path;

use vmm_control::chardev::inherited;
use vmm_control::keyval::{self, Options};
use vmm_control::qmp_protocol::{Object, Value};
use vmm_control::{ControlPlane, LocalError, LocalSession};

use crate::config::{Config, TextConfig};
use crate::errno;
use crate::serve::StartError;

/// When an object is made: after what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It needs nothing but other objects.
    First,
    /// A monitor: its chardev must be there.
    WithChardevs,
    /// An export: its device must be there.
    WithDevices,
}

/// An object's members, as far as they can be read: what cannot is found out when it is made.
fn given(object: &TextConfig) -> Option<Object> {
    if object.text.starts_with('{') {
        json(&object.text).ok()
    } else {
        keyval::parse(&object.text, Some("qom-type")).ok()
    }
}

/// Whether it makes a socket file whose path is relative.
pub(crate) fn has_relative_path(object: &TextConfig) -> bool {
    let Some(given) = given(object) else { return false };
    if given.get("qom-type").and_then(Value::as_str) != Some(EXPORT) {
        return false;
    }
    let socket = match given.get("socket") {
        Some(Value::Object(socket)) => socket,
        _ => &given,
    };
    let is_name = match socket.get("abstract") {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => text == "on",
        _ => false,
    };
    let path = socket.get("path").and_then(Value::as_str);
    !is_name && path.is_some_and(|path| Path::new(path).is_relative())
}

impl Stage {
    fn of(object: &TextConfig) -> Self {
        let given = given(object);
        match given.as_ref().and_then(|given| given.get("qom-type")).and_then(Value::as_str) {
            Some(EXPORT) => Self::WithDevices,
            Some(kind) if kind.starts_with("monitor-") => Self::WithChardevs,
            _ => Self::First,
        }
    }
}

/// The type of object that exports a device.
const EXPORT: &str = "x-vfio-user-server";

/// Whether one of these asks for help instead of being made: then what the human monitor says to that.
///
/// # Errors
/// The plane is closed.
pub(crate) async fn help(plane: &ControlPlane, config: &Config) -> Result<Option<String>, LocalError> {
    let objects = config.objects.iter().map(|item| ("object_add", item));
    let devices = config.devices.iter().map(|item| ("device_add", item));
    for (command, item) in objects.chain(devices) {
        if !item.text.starts_with('{') && keyval::asks_for_help(&item.text) {
            let line = serde_json::json!({ "command-line": format!("{command} {}", item.text) });
            let said: String = plane.connect().execute("human-monitor-command", &line).await?;
            return Ok(Some(said.replace("\r\n", "\n")));
        }
    }
    Ok(None)
}

/// Makes those objects whose time it is.
///
/// # Errors
/// The first that cannot be made.
pub(crate) async fn add_objects(
    plane: &ControlPlane,
    list: &[TextConfig],
    stage: Stage,
) -> Result<(), StartError> {
    for item in list.iter().filter(|item| Stage::of(item) == stage) {
        let fail = |reason: String| StartError::Made { origin: item.origin.clone(), reason };
        let mut arguments = object(plane, &item.text).map_err(fail)?;
        let session = plane.connect();
        if stage == Stage::WithDevices {
            name_inherited(&session, &mut arguments).await.map_err(fail)?;
        }
        execute(&session, "object-add", arguments).await.map_err(fail)?;
    }
    Ok(())
}

/// Gives the inherited socket that an export is to use by its number a name, and has the export use that.
async fn name_inherited(session: &LocalSession, export: &mut Object) -> Result<(), String> {
    let Some(Value::Object(socket)) = export.get_mut("socket") else { return Ok(()) };
    if socket.get("type").and_then(Value::as_str) != Some("fd") {
        return Ok(());
    }
    let number = socket.get("str").and_then(Value::as_str).and_then(|text| text.parse().ok());
    let Some(number) = number else { return Ok(()) };
    let fd = inherited::take(number)
        .map_err(|error| format!("fd {number} cannot be used: {}", errno::text(&error)))?;
    let name = format!("inherited-{number}");
    let getfd = serde_json::json!({ "fdname": name });
    session
        .execute_with_fds::<_, serde_json::Value>("getfd", &getfd, vec![fd])
        .await
        .map_err(|error| error.to_string())?;
    socket.insert("str".to_owned(), name.into());
    Ok(())
}

/// Plugs devices.
///
/// # Errors
/// The first that cannot be plugged.
pub(crate) async fn add_devices(plane: &ControlPlane, list: &[TextConfig]) -> Result<(), StartError> {
    for item in list {
        let fail = |reason: String| StartError::Made { origin: item.origin.clone(), reason };
        let arguments = if item.text.starts_with('{') {
            json(&item.text).map_err(fail)?
        } else {
            Options::parse(&item.text, Some("driver")).arguments()
        };
        execute(&plane.connect(), "device_add", arguments).await.map_err(fail)?;
    }
    Ok(())
}

/// The typed arguments of `object-add`.
fn object(plane: &ControlPlane, text: &str) -> Result<Object, String> {
    if text.starts_with('{') {
        return json(text);
    }
    let router = plane.router();
    let (ty, _) = router.signature("object-add").ok_or("objects cannot be made here")?;
    keyval::object(text, router.types(), ty).map_err(|error| error.to_string())
}

fn json(text: &str) -> Result<Object, String> {
    match Value::from_json(text.as_bytes()).map_err(|error| error.to_string())? {
        Value::Object(object) => Ok(object),
        _ => Err("an object in braces is expected".to_owned()),
    }
}

async fn execute(session: &LocalSession, command: &str, arguments: Object) -> Result<(), String> {
    let done = session.execute::<_, serde_json::Value>(command, &Value::Object(arguments)).await;
    match done {
        Ok(_) => Ok(()),
        Err(LocalError::Command(error)) => Err(error.desc.into_owned()),
        Err(other) => Err(other.to_string()),
    }
}
