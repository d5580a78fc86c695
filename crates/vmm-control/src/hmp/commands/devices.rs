//! Devices.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use qmp_protocol::Value;
use serde::Deserialize;
use serde_json::json;

use super::passes;
use super::qom::children;
use crate::hmp::{HumanArg, HumanCommand, HumanContext};
use crate::keyval::{OptionItem, Options};

/// Properties that every device has, and which say nothing of it.
pub(super) const COMMON: &[&str] = &["type", "parent_bus", "realized", "hotplugged", "hotpluggable"];

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("device_add")
            .arg(HumanArg::options("device"))
            .params("driver[,property=value][,...]")
            .help("plug a device in")
            .completes(async |context| types(&context).await.unwrap_or_default())
            .handler(async |context, args| add(&context, args.text("device")).await),
        passes(
            HumanCommand::new("device_del")
                .arg(HumanArg::string("id"))
                .params("id")
                .help("unplug a device")
                .completes(async |context| children(&context, "/machine/peripheral").await),
            "id",
            "device_del",
            "id",
        ),
    ]
}

/// How many of what is wrong with one line's options is noted in the log.
const WARNINGS: usize = 8;

async fn add(context: &HumanContext, text: &str) -> CommandResult<String> {
    let options = Options::parse(text, Some("driver"));
    if options.get("driver").is_some_and(|driver| matches!(driver, "help" | "?")) {
        return Ok(list(&types(context).await?));
    }
    if options.asks_for_help()
        && let Some(driver) = options.get("driver")
    {
        return properties(context, driver).await;
    }
    context.call("device_add", &Value::Object(options.arguments())).await?;
    // Only now, and a few: whoever may make no device writes no line of the log.
    for warning in options.iter().filter_map(OptionItem::warning).take(WARNINGS) {
        tracing::warn!("{}", warning.trim_end().replace('\n', "; "));
    }
    Ok(String::new())
}

fn list(types: &[String]) -> String {
    types.iter().fold(String::new(), |mut text, name| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "name \"{name}\"");
        text
    })
}

/// A property of a type, as `qom-list-properties` returns it.
#[derive(Deserialize)]
struct Property {
    name: String,
    #[serde(rename = "type")]
    ty: String,
    description: Option<String>,
}

/// What can be said of a device of this type.
async fn properties(context: &HumanContext, driver: &str) -> CommandResult<String> {
    let which = json!({ "typename": driver });
    let all = match context.query::<_, Vec<Property>>("qom-list-properties", &which).await {
        Ok(all) => all,
        Err(error) if !context.is_permitted("qom-list-properties") => return Err(error),
        Err(_) => return Ok(format!("Device '{driver}' not found\n")),
    };
    // Nor, as in QEMU, those that only say another one in words.
    let is_own = |property: &&Property| {
        !COMMON.contains(&property.name.as_str()) && !property.name.starts_with("legacy-")
    };
    let mut own: Vec<_> = all.iter().filter(is_own).collect();
    own.sort_by_key(|property| &property.name);
    let mut text = match own.as_slice() {
        [] => format!("There are no options for {driver}.\n"),
        _ => format!("{driver} options:\n"),
    };
    for Property { name, ty, description } in own {
        let option = format!("  {name}=<{ty}>");
        // Writing to a string cannot fail.
        let _ = match description {
            Some(description) => writeln!(text, "{option:24} - {description}"),
            None => writeln!(text, "{option}"),
        };
    }
    Ok(text)
}

/// A type of object, as `qom-list-types` returns it.
#[derive(Deserialize)]
struct TypeInfo {
    name: String,
}

/// The types of devices, sorted.
async fn types(context: &HumanContext) -> CommandResult<Vec<String>> {
    let which = json!({"implements": "device", "abstract": false});
    let types: Vec<TypeInfo> = context.query("qom-list-types", &which).await?;
    let mut names: Vec<_> = types.into_iter().map(|info| info.name).collect();
    names.sort_unstable();
    Ok(names)
}
