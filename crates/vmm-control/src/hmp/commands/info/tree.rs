//! `info qom-tree`: objects below an object.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use qmp_command::CommandResult;
use serde_json::json;

use super::super::qom::{Property, properties};
use crate::hmp::{HumanArg, HumanCommand, HumanContext};

/// How deep the tree is shown.
const MAX_DEPTH: usize = 64;

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info qom-tree")
            .arg(HumanArg::string("path").optional())
            .params("[path]")
            .help("show the objects below an object, of the machine by default")
            .allow_preconfig()
            .handler(async |context, args| {
                tree(&context, args.optional_text("path").unwrap_or("/machine")).await
            }),
    ]
}

async fn tree(context: &HumanContext, path: &str) -> CommandResult<String> {
    let ty = context.query::<_, String>("qom-get", &json!({"path": path, "property": "type"})).await;
    let ty = match ty {
        Ok(ty) => ty,
        // What is wrong is not the path.
        Err(error) if !context.has("qom-get") || !context.is_permitted("qom-get") => return Err(error),
        Err(error) if error.to_string().ends_with("is ambiguous") => {
            return Ok(format!("Warning: Path '{path}' is ambiguous.\n"));
        }
        Err(_) => return Ok(format!("Path '{path}' could not be resolved.\n")),
    };
    // Without it the tree would look as if nothing were there.
    if !context.is_permitted("qom-list") {
        properties(context, path).await?;
    }
    let name = path.split('/').rfind(|part| !part.is_empty()).unwrap_or_default();
    let mut text = String::new();
    object(context, &mut text, path.to_owned(), name.to_owned(), ty, 0).await;
    Ok(text)
}

/// An object's line, and those of the objects below, by their names.
fn object<'a>(
    context: &'a HumanContext,
    text: &'a mut String,
    path: String,
    name: String,
    ty: String,
    depth: usize,
) -> BoxFuture<'a, ()> {
    async move {
        text.push_str(&format!("{:indent$}/{name} ({ty})\n", "", indent = 2 * depth));
        if depth >= MAX_DEPTH {
            return;
        }
        // An object that has gone meanwhile has nothing below it.
        let mut below: Vec<Property> = properties(context, &path).await.unwrap_or_default();
        below.retain(|property| property.child().is_some());
        below.sort_by(|a, b| a.name.cmp(&b.name));
        for child in below {
            let ty = child.child().unwrap_or_default().to_owned();
            let path = format!("{}/{}", path.trim_end_matches('/'), child.name);
            object(context, text, path, child.name, ty, depth + 1).await;
        }
    }
    .boxed()
}
