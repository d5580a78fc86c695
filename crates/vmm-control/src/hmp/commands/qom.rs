//! Properties of objects.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use qmp_protocol::{Format, Value, encode_value};
use serde::Deserialize;
use serde_json::json;

use super::qom_text;
use crate::hmp::{HumanArg, HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("qom-list")
            .arg(HumanArg::string("path").optional())
            .params("path")
            .help("list an object's properties")
            .allow_preconfig()
            .handler(async |context, args| list(&context, args.optional_text("path")).await),
        HumanCommand::new("qom-get")
            .arg(HumanArg::string("path"))
            .arg(HumanArg::string("property"))
            .params("path property")
            .help("show a property of an object")
            .allow_preconfig()
            .handler(async |context, args| get(&context, args.text("path"), args.text("property")).await),
        HumanCommand::new("qom-set")
            .arg(HumanArg::flag('j', "json"))
            .arg(HumanArg::string("path"))
            .arg(HumanArg::string("property"))
            .arg(HumanArg::rest("value"))
            .params("[-j] path property value")
            .help("set a property of an object (-j: the value is JSON)")
            .allow_preconfig()
            .handler(async |context, args| {
                let (path, property, text) = (args.text("path"), args.text("property"), args.text("value"));
                match args.is_on("json") {
                    true => {
                        let value = Value::from_json(text.as_bytes())?;
                        qom_text::assign(&context, path, property, value).await?;
                    }
                    false => qom_text::set(&context, path, property, text).await?,
                }
                Ok(String::new())
            }),
    ]
}

/// A property, as `qom-list` returns it.
#[derive(Debug, Deserialize)]
pub(super) struct Property {
    /// Its name.
    pub(super) name: String,
    /// Its type: `child<T>` for an object below.
    #[serde(rename = "type")]
    pub(super) ty: String,
}

impl Property {
    /// The type of the object below, if the property is one.
    pub(super) fn child(&self) -> Option<&str> {
        self.ty.strip_prefix("child<").and_then(|ty| ty.strip_suffix('>'))
    }
}

/// The properties of the object at `path`.
pub(super) async fn properties(context: &HumanContext, path: &str) -> CommandResult<Vec<Property>> {
    context.query("qom-list", &json!({"path": path})).await
}

/// The names of the objects below the one at `path`, for completion; none when there is no such object.
pub(super) async fn children(context: &HumanContext, path: &str) -> Vec<String> {
    let properties = properties(context, path).await.unwrap_or_default();
    properties.into_iter().filter(|property| property.child().is_some()).map(|child| child.name).collect()
}

async fn list(context: &HumanContext, path: Option<&str>) -> CommandResult<String> {
    let Some(path) = path else { return Ok("/\n".to_owned()) };
    let mut text = String::new();
    for Property { name, ty } in properties(context, path).await? {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name} ({ty})");
    }
    Ok(text)
}

async fn get(context: &HumanContext, path: &str, property: &str) -> CommandResult<String> {
    let value: Value = context.query("qom-get", &json!({"path": path, "property": property})).await?;
    let mut text = Vec::new();
    encode_value(&mut text, &value, Format::Pretty);
    text.push(b'\n');
    // Its lines end as QMP's do.
    Ok(String::from_utf8(text)?.replace("\r\n", "\n"))
}
