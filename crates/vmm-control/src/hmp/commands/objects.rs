//! Objects.

use std::fmt::Write as _;

use qmp_command::schema::{Branch, Member, TypeDef, TypeRef, Types};
use qmp_command::{CommandError, CommandResult};
use qmp_protocol::{Object, Value};

use super::passes;
use super::qom::children;
use crate::hmp::{HumanArg, HumanCommand, HumanContext};
use crate::keyval;

/// The key of the first item, when it has none.
const IMPLIED: &str = "qom-type";

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("object_add")
            .arg(HumanArg::rest("object"))
            .params("[qom-type=]type,id=str[,property=value][,...]")
            .help("make an object (JSON is understood too)")
            .allow_preconfig()
            .completes(async |context| types(&context))
            .handler(async |context, args| add(&context, args.text("object")).await),
        passes(
            HumanCommand::new("object_del")
                .arg(HumanArg::string("id"))
                .params("id")
                .help("destroy an object")
                .allow_preconfig()
                .completes(async |context| children(&context, "/objects").await),
            "id",
            "object-del",
            "id",
        ),
    ]
}

async fn add(context: &HumanContext, text: &str) -> CommandResult<String> {
    let router = context.router()?;
    let Some((ty, _)) = router.signature("object-add") else {
        // It says itself that it does not exist.
        context.call("object-add", &()).await?;
        return Ok(String::new());
    };
    let arguments = if text.starts_with('{') {
        json(text)?
    } else if keyval::asks_for_help(text) {
        return Ok(help(router.types(), ty, text));
    } else {
        keyval::object(text, router.types(), ty)?
    };
    context.call("object-add", &Value::Object(arguments)).await?;
    Ok(String::new())
}

fn json(text: &str) -> CommandResult<Object> {
    match Value::from_json(text.as_bytes())? {
        Value::Object(arguments) => Ok(arguments),
        _ => Err(CommandError::generic("Invalid parameter type for 'null', expected: object")),
    }
}

/// Which types there are, or which properties the one has that `text` names.
fn help(types: &Types, ty: &TypeRef, text: &str) -> String {
    let branches = branches(types, ty);
    let options = keyval::Options::parse(text, Some(IMPLIED));
    let named = options.get(IMPLIED);
    let Some(branch) = branches.iter().find(|branch| Some(branch.name) == named) else {
        let mut text = "List of user creatable objects:\n".to_owned();
        for branch in sorted(branches, |branch| branch.name) {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {}", branch.name);
        }
        return text;
    };
    let members: &[Member] = match &branch.ty {
        TypeRef::Named(name) => match types.get(name) {
            Some(TypeDef::Struct { members, .. }) => members,
            _ => &[],
        },
        _ => &[],
    };
    let mut text = match members {
        [] => format!("There are no options for {}.\n", branch.name),
        _ => format!("{} options:\n", branch.name),
    };
    for member in sorted(members, |member| member.name) {
        let _ = writeln!(text, "  {}=<{}>", member.name, member.ty);
    }
    text
}

/// What there is for each type of object.
fn branches<'t>(types: &'t Types, ty: &TypeRef) -> &'t [Branch] {
    match ty {
        TypeRef::Named(name) => match types.get(name) {
            Some(TypeDef::Union { branches, .. }) => branches,
            _ => &[],
        },
        _ => &[],
    }
}

fn sorted<T, K: Ord>(items: &[T], key: impl Fn(&T) -> K) -> Vec<&T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_by_key(|item| key(item));
    sorted
}

fn types(context: &HumanContext) -> Vec<String> {
    let Ok(router) = context.router() else { return Vec::new() };
    let Some((ty, _)) = router.signature("object-add") else { return Vec::new() };
    branches(router.types(), ty).iter().map(|branch| branch.name.to_owned()).collect()
}
