//! Which CPU a session's commands are about.

use crate::hmp::{HumanArg, HumanCommand};

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        HumanCommand::new("cpu")
            .arg(HumanArg::integer("index"))
            .params("index")
            .help("choose the CPU that commands are about")
            .immediate(|context, args| {
                let index = args.number("index").and_then(|index| u32::try_from(index).ok());
                match index.is_some_and(|index| context.choose_cpu(index)) {
                    true => Ok(String::new()),
                    false => Ok("invalid CPU index\n".to_owned()),
                }
            }),
    ]
}
