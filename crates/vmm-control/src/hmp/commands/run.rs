//! The run state.

use super::calls;
use crate::hmp::HumanCommand;

pub(super) fn commands() -> Vec<HumanCommand> {
    vec![
        calls(HumanCommand::new("stop|s").help("stop emulation"), "stop"),
        calls(HumanCommand::new("cont|c").help("let the guest run (on)"), "cont"),
        calls(
            HumanCommand::new("quit|q").help("end the process, without asking the guest").allow_preconfig(),
            "quit",
        ),
        calls(
            HumanCommand::new("exit_preconfig").help("initialise the machine").allow_preconfig(),
            "x-exit-preconfig",
        ),
        calls(HumanCommand::new("system_reset").help("reset the machine"), "system_reset"),
        calls(HumanCommand::new("system_powerdown").help("press the power button"), "system_powerdown"),
        calls(HumanCommand::new("system_wakeup").help("wake a suspended guest"), "system_wakeup"),
    ]
}
