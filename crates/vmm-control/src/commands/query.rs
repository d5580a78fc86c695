//! Commands that only look: versions, names, the list of commands; and which events a session gets.

use std::sync::Arc;

use qmp_command::{Command, CommandError, Context, Feature, QapiType};
use qmp_monitor::QmpSession;
use serde::{Deserialize, Serialize};

use crate::plane::Shared;

/// Three numbers of a version.
#[derive(Clone, Debug, Serialize, QapiType)]
struct VersionTriple {
    /// Counts fixes.
    micro: u32,
    /// Counts releases.
    minor: u32,
    /// Counts generations.
    major: u32,
}

/// What answers, and which QEMU it answers like.
#[derive(Clone, Debug, Serialize, QapiType)]
struct VersionInfo {
    /// The version of QEMU whose protocol is spoken.
    qemu: VersionTriple,
    /// The product that speaks it.
    package: String,
}

/// The guest's name.
#[derive(Debug, Serialize, QapiType)]
struct NameInfo {
    /// Absent when the guest has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

/// A command that exists.
#[derive(Clone, Debug, Serialize, QapiType)]
struct CommandInfo {
    /// Its name.
    name: String,
}

/// Events that QEMU does not have, to be turned on or off for the session that asks.
#[derive(Debug, Deserialize, QapiType)]
#[qapi(name = "XEventsArguments")]
struct EventsArguments {
    /// Names of events to get from now on.
    enable: Option<Vec<String>>,
    /// Names of events not to get any more.
    disable: Option<Vec<String>>,
}

pub(super) fn commands(plane: &Arc<Shared>) -> Vec<Command> {
    vec![query_version(plane), query_commands(plane), query_name(plane), x_events(plane)]
}

fn query_version(plane: &Arc<Shared>) -> Command {
    let version = &plane.version;
    let info = VersionInfo {
        qemu: VersionTriple { micro: version.micro, minor: version.minor, major: version.major },
        package: version.package.clone(),
    };
    Command::new("query-version")
        .doc("Says which version of QEMU this monitor speaks like, and what product it is.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| std::future::ready(Ok(info.clone())))
}

fn query_commands(plane: &Arc<Shared>) -> Command {
    let plane = plane.clone();
    Command::new("query-commands").doc("Lists all commands.").allow_preconfig().read_only().handler(
        move |_: Context, (): ()| {
            // The list exists once the router does, and requests come only after that.
            let names = plane.command_names.get().into_iter().flat_map(|names| names.iter());
            let list: Vec<_> = names.map(|name| CommandInfo { name: (*name).to_owned() }).collect();
            std::future::ready(Ok(list))
        },
    )
}

fn query_name(plane: &Arc<Shared>) -> Command {
    let machine = plane.machine.clone();
    Command::new("query-name")
        .doc("Says the guest's name, if it has one.")
        .allow_preconfig()
        .read_only()
        .handler(move |_: Context, (): ()| std::future::ready(Ok(NameInfo { name: machine.name() })))
}

fn x_events(plane: &Arc<Shared>) -> Command {
    let hub = plane.hub.clone();
    Command::new("x-events")
        .doc("Turns events that QEMU does not have on or off for this session; they are off at first.")
        .feature(Feature::Unstable)
        .allow_preconfig()
        .concurrent()
        .handler(move |context: Context, arguments: EventsArguments| {
            let check = |name: &String| match hub.spec(name) {
                Some(spec) if spec.is_extension() => Ok(()),
                Some(_) => Err(CommandError::generic(format!("Event '{name}' is always on"))),
                None => Err(CommandError::generic(format!("Event '{name}' not found"))),
            };
            let (on, off) = (arguments.enable.unwrap_or_default(), arguments.disable.unwrap_or_default());
            let checked = on.iter().chain(&off).try_for_each(check);
            async move {
                checked?;
                if let Some(session) = context.session::<QmpSession>() {
                    on.iter().for_each(|name| session.enable_event(name, true));
                    off.iter().for_each(|name| session.enable_event(name, false));
                }
                Ok(())
            }
        })
}
