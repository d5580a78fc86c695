//! `help` and `info`, which describe the others.

use crate::hmp::help::help;
use crate::hmp::{HumanArg, HumanCommand};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("help|?")
            .arg(HumanArg::rest("name").optional())
            .params("[command]")
            .help("describe a command, or all of them")
            .allow_preconfig()
            .completes_commands()
            .immediate(|context, args| {
                let human = context.human();
                Ok(help(human.table(), args.text("name"), human.is_preconfig()))
            }),
        HumanCommand::new("info")
            .params("[what]")
            .help("show something of the machine or the process")
            .allow_preconfig()
            .immediate(|context, _| {
                let human = context.human();
                Ok(help(human.table(), "info", human.is_preconfig()))
            }),
    ]
}
