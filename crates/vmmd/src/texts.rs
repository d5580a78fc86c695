//! Objects and devices of the command line: `TYPE,key=value...`, made as clients would make them.

use vmm_control::keyval::{self, Options};
use vmm_control::qmp_protocol::{Object, Value};
use vmm_control::{ControlPlane, LocalError};

use crate::config::{Config, TextConfig};
use crate::serve::StartError;

/// Whether it is a monitor, whose chardev must be there first.
pub(crate) fn needs_chardevs(object: &TextConfig) -> bool {
    // What cannot be read is found out when it is made.
    let given = if object.text.starts_with('{') {
        json(&object.text).ok()
    } else {
        keyval::parse(&object.text, Some("qom-type")).ok()
    };
    let kind = given.as_ref().and_then(|given| given.get("qom-type")).and_then(Value::as_str);
    kind.is_some_and(|kind| kind.starts_with("monitor-"))
}

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

/// Makes objects.
///
/// # Errors
/// The first that cannot be made.
pub(crate) async fn add_objects(plane: &ControlPlane, list: Vec<&TextConfig>) -> Result<(), StartError> {
    for item in list {
        let fail = |reason: String| StartError::Made { origin: item.origin.clone(), reason };
        let arguments = object(plane, &item.text).map_err(fail)?;
        execute(plane, "object-add", arguments).await.map_err(fail)?;
    }
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
        execute(plane, "device_add", arguments).await.map_err(fail)?;
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

async fn execute(plane: &ControlPlane, command: &str, arguments: Object) -> Result<(), String> {
    let done = plane.connect().execute::<_, serde_json::Value>(command, &Value::Object(arguments)).await;
    match done {
        Ok(_) => Ok(()),
        Err(LocalError::Command(error)) => Err(error.desc.into_owned()),
        Err(other) => Err(other.to_string()),
    }
}
