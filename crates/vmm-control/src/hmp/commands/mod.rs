//! The built-in commands. Names, arguments and output are QEMU's; the words of `help` are ours.

mod chardev_options;
mod chardevs;
mod cpus;
mod devices;
mod fds;
mod help;
mod info;
mod objects;
mod ports;
mod qom;
mod qom_text;
mod run;

use super::command::{HumanCommand, HumanCommandBuilder};

/// All of them.
pub(super) fn commands() -> Vec<HumanCommand> {
    let groups = [
        help::commands(),
        info::commands(),
        run::commands(),
        fds::commands(),
        objects::commands(),
        devices::commands(),
        chardevs::commands(),
        qom::commands(),
        cpus::commands(),
    ];
    let calling = groups.into_iter().flatten().map(HumanCommand::only_calls);
    // These reach the machine itself.
    calling.chain(ports::commands()).collect()
}

/// A command that only calls a QMP command without arguments, and says nothing.
fn calls(builder: HumanCommandBuilder, command: &'static str) -> HumanCommand {
    builder.handler(async move |context, _| {
        context.call(command, &()).await?;
        Ok(String::new())
    })
}

/// A command that only passes its argument `from` to a QMP command, as `to`, and says nothing.
fn passes(
    builder: HumanCommandBuilder,
    from: &'static str,
    command: &'static str,
    to: &'static str,
) -> HumanCommand {
    builder.handler(async move |context, args| {
        context.call(command, &serde_json::json!({ to: args.text(from) })).await?;
        Ok(String::new())
    })
}
