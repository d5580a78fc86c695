//! Chardevs.

use qmp_command::{CommandError, CommandResult};
use serde::Deserialize;

use super::{chardev_options, passes};
use crate::hmp::{HumanArg, HumanCommand, HumanContext};
use crate::keyval::Options;

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("chardev-add")
            .arg(HumanArg::string("args"))
            .params("backend,id=str[,option=value][,...]")
            .help("make a chardev")
            .completes(async |context| backends(&context).await.unwrap_or_default())
            .handler(async |context, args| add(&context, args.text("args")).await),
        passes(
            HumanCommand::new("chardev-remove")
                .arg(HumanArg::string("id"))
                .params("id")
                .help("remove a chardev")
                .completes(async |context| chardevs(&context).await.unwrap_or_default()),
            "id",
            "chardev-remove",
            "id",
        ),
    ]
}

/// A backend, as `query-chardev-backends` returns it.
#[derive(Deserialize)]
struct Backend {
    name: String,
}

async fn backends(context: &HumanContext) -> CommandResult<Vec<String>> {
    let backends: Vec<Backend> = context.query("query-chardev-backends", &()).await?;
    Ok(backends.into_iter().map(|backend| backend.name).collect())
}

/// A chardev, as `query-chardev` returns it.
#[derive(Deserialize)]
struct Chardev {
    label: String,
}

async fn chardevs(context: &HumanContext) -> CommandResult<Vec<String>> {
    let chardevs: Vec<Chardev> = context.query("query-chardev", &()).await?;
    Ok(chardevs.into_iter().map(|chardev| chardev.label).collect())
}

async fn add(context: &HumanContext, text: &str) -> CommandResult<String> {
    let options = Options::parse(text, Some("backend"));
    if let Err(complaint) = chardev_options::check(&options, |warning| context.print(warning)) {
        context.print(&complaint);
        return Err(CommandError::generic("Parsing chardev args failed"));
    }
    let backend = options.get("backend");
    if backend.is_some_and(|backend| matches!(backend, "help" | "?")) {
        let names = backends(context).await?.into_iter().map(|name| format!("  {name}\n"));
        return Ok(format!("Available chardev backend types: \n{}", names.collect::<String>()));
    }
    let id = options.id().ok_or_else(|| CommandError::generic("chardev: no id specified"))?;
    let backend =
        backend.ok_or_else(|| CommandError::generic(format!("chardev: \"{id}\" missing backend")))?;
    // Where backends cannot be listed, `chardev-add` has to say it.
    if let Ok(known) = backends(context).await
        && !known.iter().any(|known| known == backend)
    {
        return Err(CommandError::generic(format!("'{backend}' is not a valid char driver name")));
    }
    let arguments = chardev_options::arguments(id, backend, &options)?;
    match context.call("chardev-add", &arguments).await {
        Ok(()) => Ok(String::new()),
        Err(error) => Err(as_told_to_people(error, id, backend)),
    }
}

/// What QEMU says of the same mistake when it does not come over QMP.
fn as_told_to_people(error: CommandError, id: &str, backend: &str) -> CommandError {
    let text = error.to_string();
    if text == format!("Chardev with id '{id}' already exists") {
        return CommandError::generic(match backend {
            "socket" => "duplicate yank instance".to_owned(),
            _ => format!("attempt to add duplicate property '{id}' to object (type 'container')"),
        });
    }
    match text.strip_prefix(&format!("Failed to add chardev '{id}': ")) {
        Some(text) => CommandError::generic(text.to_owned()),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_told_less() {
        let told = |text, backend| as_told_to_people(CommandError::generic(text), "c", backend).to_string();
        assert_eq!(told("Failed to add chardev 'c': no", "file"), "no");
        assert_eq!(told("Failed to add chardev 'd': no", "file"), "Failed to add chardev 'd': no");
        let taken = "Chardev with id 'c' already exists";
        assert_eq!(told(taken, "socket"), "duplicate yank instance");
        assert_eq!(told(taken, "null"), "attempt to add duplicate property 'c' to object (type 'container')");
    }
}
