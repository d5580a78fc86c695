//! File descriptors that came with the line.

use qmp_command::{CommandResult, Context};
use serde_json::json;

use crate::commands::{close_fd, name_fd};
use crate::hmp::{HumanArg, HumanCommand, HumanCommandBuilder};

pub(super) fn commands() -> Vec<HumanCommand> {
    let named = |name, help| {
        HumanCommand::new(name).arg(HumanArg::string("fdname")).params("name").help(help).allow_preconfig()
    };
    vec![
        finish(
            named("getfd", "take a file descriptor that came over the socket, and name it"),
            "getfd",
            name_fd,
        ),
        finish(named("closefd", "close a file descriptor by its name"), "closefd", close_fd),
    ]
}

/// Calls the QMP command, or does the same itself before the machine is initialised: then QEMU's human monitor has these
/// commands, and QMP has not.
fn finish(
    builder: HumanCommandBuilder,
    command: &'static str,
    act: fn(&Context, &str) -> CommandResult<()>,
) -> HumanCommand {
    builder.handler(move |context, args| async move {
        let name = args.text("fdname");
        if context.human().is_preconfig() {
            context.permit(command)?;
            act(context.context(), name)?;
        } else {
            context.call(command, &json!({ "fdname": name })).await?;
        }
        Ok(String::new())
    })
}
