//! The process: version, name, state, chardevs, iothreads, monitors.

use std::fmt::Write as _;

use qmp_command::CommandResult;
use qmp_protocol::Value;
use serde::Deserialize;

use crate::hmp::{HumanCommand, HumanContext};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("info version")
            .help("show which version of QEMU's monitor this is")
            .allow_preconfig()
            .handler(async |context, _| version(&context).await),
        HumanCommand::new("info name")
            .help("show the guest's name")
            .allow_preconfig()
            .handler(async |context, _| name(&context).await),
        HumanCommand::new("info uuid")
            .help("show the guest's UUID")
            .allow_preconfig()
            .handler(async |context, _| uuid(&context).await),
        HumanCommand::new("info status")
            .help("show whether the guest runs")
            .allow_preconfig()
            .handler(async |context, _| status(&context).await),
        HumanCommand::new("info chardev")
            .help("show the chardevs")
            .allow_preconfig()
            .handler(async |context, _| chardevs(&context).await),
        HumanCommand::new("info iothreads")
            .help("show the iothreads and how they poll")
            .allow_preconfig()
            .handler(async |context, _| iothreads(&context).await),
        HumanCommand::new("info monitors")
            .help("show the monitors' sessions")
            .allow_preconfig()
            .handler(async |context, _| monitors(&context).await),
    ]
}

/// What `query-version` returns.
#[derive(Deserialize)]
struct Version {
    qemu: Triple,
    package: String,
}

#[derive(Deserialize)]
struct Triple {
    major: i64,
    minor: i64,
    micro: i64,
}

async fn version(context: &HumanContext) -> CommandResult<String> {
    let Version { qemu, package } = context.query("query-version", &()).await?;
    Ok(format!("{}.{}.{}{package}\n", qemu.major, qemu.minor, qemu.micro))
}

/// What `query-name` returns.
#[derive(Deserialize)]
struct Name {
    name: Option<String>,
}

async fn name(context: &HumanContext) -> CommandResult<String> {
    let Name { name } = context.query("query-name", &()).await?;
    Ok(name.map(|name| format!("{name}\n")).unwrap_or_default())
}

/// What `query-uuid` returns.
#[derive(Deserialize)]
struct Uuid {
    #[serde(rename = "UUID")]
    uuid: String,
}

async fn uuid(context: &HumanContext) -> CommandResult<String> {
    let Uuid { uuid } = context.query("query-uuid", &()).await?;
    Ok(format!("{uuid}\n"))
}

/// What `query-status` returns.
#[derive(Deserialize)]
struct Status {
    status: String,
    running: bool,
    #[serde(default)]
    singlestep: bool,
}

async fn status(context: &HumanContext) -> CommandResult<String> {
    let Status { status, running, singlestep } = context.query("query-status", &()).await?;
    let step = if singlestep { " (single step mode)" } else { "" };
    let mut text = match (running, status.as_str()) {
        (true, _) => format!("VM status: running{step}\n"),
        (false, "paused") => format!("VM status: paused{step}\n"),
        (false, other) => format!("VM status: paused{step} ({other})\n"),
    };
    if let Some(note) = context.human().plane().machine.status_note() {
        text.push_str(&note);
        text.push('\n');
    }
    Ok(text)
}

/// A chardev, as `query-chardev` returns it.
#[derive(Deserialize)]
struct Chardev {
    label: String,
    filename: String,
}

async fn chardevs(context: &HumanContext) -> CommandResult<String> {
    let list: Vec<Chardev> = context.query("query-chardev", &()).await?;
    Ok(list.iter().map(|c| format!("{}: filename={}\n", c.label, c.filename)).collect())
}

/// An iothread, as `query-iothreads` returns it.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct IoThread {
    id: String,
    thread_id: i64,
    poll_max_ns: i64,
    poll_grow: i64,
    poll_shrink: i64,
    aio_max_batch: i64,
}

/// QEMU's lines for each, then ours: what `x-query-iothread-stats` says of it, for who may ask that.
async fn iothreads(context: &HumanContext) -> CommandResult<String> {
    let list: Vec<IoThread> = context.query("query-iothreads", &()).await?;
    let stats: Vec<Value> = context.query("x-query-iothread-stats", &()).await.unwrap_or_default();
    let mut text = String::new();
    for thread in &list {
        text.push_str(&iothread(thread));
        let own = stats.iter().filter_map(Value::as_object);
        let own = own.filter(|stats| stats.get("id").and_then(Value::as_str) == Some(&thread.id));
        for (key, value) in
            own.flat_map(|stats| stats.iter().filter(|(key, _)| !["id", "thread-id"].contains(key)))
        {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {key}={}", serde_json::to_string(value).unwrap_or_default());
        }
    }
    Ok(text)
}

fn iothread(thread: &IoThread) -> String {
    format!(
        "{}:\n  thread_id={}\n  poll-max-ns={}\n  poll-grow={}\n  poll-shrink={}\n  aio-max-batch={}\n",
        thread.id,
        thread.thread_id,
        thread.poll_max_ns,
        thread.poll_grow,
        thread.poll_shrink,
        thread.aio_max_batch
    )
}

/// Ours: one line per monitor or session, its id or label first, then whatever else there is to know.
async fn monitors(context: &HumanContext) -> CommandResult<String> {
    let list: Vec<Value> = context.query("x-query-monitors", &()).await?;
    let mut text = String::new();
    for monitor in &list {
        entry(&mut text, monitor, 0);
    }
    Ok(text)
}

/// An object of `x-query-monitors`: what is no object or list of such on its line, the rest below it, indented.
fn entry(text: &mut String, value: &Value, indent: usize) {
    let Some(object) = value.as_object() else { return };
    let id = ["id", "monitor", "session"].into_iter().find(|key| object.contains_key(key));
    let shown = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string(other).unwrap_or_default(),
    };
    let head = id.and_then(|key| object.get(key)).map(shown).unwrap_or_default();
    // Writing to a string cannot fail.
    let _ = write!(text, "{:indent$}{head}:", "");
    let is_nested =
        |value: &Value| value.as_array().is_some_and(|list| list.iter().any(|v| v.as_object().is_some()));
    for (key, value) in object.iter().filter(|(key, value)| Some(*key) != id && !is_nested(value)) {
        let _ = write!(text, " {key}={}", shown(value));
    }
    text.push('\n');
    for (_, value) in object.iter().filter(|(_, value)| is_nested(value)) {
        for value in value.as_array().into_iter().flatten() {
            entry(text, value, indent + 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_and_their_sessions() {
        let json = r#"{"id": "m", "mode": "control", "sessions": [{"session": 7, "capabilities": ["oob"]}]}"#;
        let mut text = String::new();
        entry(&mut text, &Value::from_json(json.as_bytes()).unwrap(), 0);
        assert_eq!(text, "m: mode=control\n  7: capabilities=[\"oob\"]\n");
    }
}
