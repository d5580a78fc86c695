//! `info qtree`: buses and the devices on them.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use qmp_protocol::Value;
use serde_json::json;

use super::super::devices::COMMON;
use super::super::qom::properties;
use crate::hmp::{HumanCommand, HumanContext};

/// Where devices with an id are.
const PERIPHERAL: &str = "/machine/peripheral";

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info qtree")
            .help("show the devices that were plugged in, and their properties")
            .handler(async |context, _| qtree(&context).await),
    ]
}

async fn qtree(context: &HumanContext) -> CommandResult<String> {
    let mut text = "bus: main-system-bus\n  type System\n".to_owned();
    // Without an object tree there are no devices either.
    for device in properties(context, PERIPHERAL).await.unwrap_or_default() {
        let Some(ty) = device.child() else { continue };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  dev: {ty}, id \"{}\"", device.name);
        let path = format!("{PERIPHERAL}/{}", device.name);
        for property in properties(context, &path).await.unwrap_or_default() {
            let plain = property.child().is_none() && !property.ty.starts_with("link<");
            if !plain || COMMON.contains(&property.name.as_str()) {
                continue;
            }
            let which = json!({"path": path, "property": property.name});
            // What cannot be read is not shown.
            if let Ok(value) = context.query::<_, Value>("qom-get", &which).await {
                let _ = writeln!(text, "    {} = {}", property.name, shown(&value));
            }
        }
    }
    Ok(text)
}

/// A value as QEMU shows it here: numbers with their hexadecimal form, strings in quotation marks.
fn shown(value: &Value) -> String {
    match value.as_u64() {
        Some(number) => format!("{number} ({number:#x})"),
        None => serde_json::to_string(value).unwrap_or_default(),
    }
}
