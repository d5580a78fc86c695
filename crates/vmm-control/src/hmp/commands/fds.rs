//! File descriptors that came with the line.

use super::passes;
use crate::hmp::{HumanArg, HumanCommand};

pub(super) fn commands() -> Vec<HumanCommand> {
    let named = |name, help| {
        HumanCommand::new(name).arg(HumanArg::string("fdname")).params("name").help(help).allow_preconfig()
    };
    vec![
        passes(
            named("getfd", "take a file descriptor that came over the socket, and name it"),
            "fdname",
            "getfd",
            "fdname",
        ),
        passes(named("closefd", "close a file descriptor by its name"), "fdname", "closefd", "fdname"),
    ]
}
