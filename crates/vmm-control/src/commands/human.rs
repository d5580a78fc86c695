//! `human-monitor-command`: a line of the human monitor, for a QMP client.

use std::sync::Arc;

use qmp_command::{Command, CommandError, CommandResult, Context, Feature, PendingFds, QapiType};
use qmp_monitor::QmpSession;
use serde::Deserialize;

use crate::hmp::{Human, HumanSession, crlf};

/// Arguments of `human-monitor-command`.
#[derive(Debug, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[qapi(name = "q_obj_human-monitor-command-arg")]
struct Line {
    /// The line.
    command_line: String,
    /// The CPU that the line's command is about.
    cpu_index: Option<i64>,
}

/// It is concurrent: what the line does takes the permit if it needs it.
pub(crate) fn human_monitor_command(human: &Arc<Human>) -> Command {
    let human = human.clone();
    Command::new("human-monitor-command")
        .asks_type()
        .doc("Executes a line of the human monitor and returns what it says. Complaints are text too.")
        .concurrent()
        .feature(Feature::Named("savevm-monitor-nodes"))
        .handler(move |context: Context, line: Line| {
            let human = human.clone();
            async move {
                let context = throw_away_session(&context);
                if let Some(index) = line.cpu_index {
                    choose_cpu(&human, &context, index)?;
                }
                Ok(crlf(&human.execute(&line.command_line, context).await))
            }
        })
        .group("Human monitor")
}

/// A session for one line, made of the caller's: the context that the line's commands run in.
///
/// Nothing is kept after it: not the chosen CPU, not a named fd. It is the caller's own all the same (monitor, peer,
/// and whatever limits what the caller may do), but sees neither the caller's named fds nor the pending ones.
fn throw_away_session(caller: &Context) -> Context {
    match caller.session::<QmpSession>() {
        Some(session) => Context::new(session.throw_away()),
        // A session that is none of a monitor's has nothing that the line must not see but its fds.
        None => caller.clone().with_fds(PendingFds::default()).with_oob(false),
    }
}

/// QEMU looks at the low 32 bits only.
fn choose_cpu(human: &Human, context: &Context, index: i64) -> CommandResult<()> {
    #[expect(clippy::cast_possible_truncation, reason = "as QEMU does")]
    let index = u32::try_from(index as i32).ok();
    match index.filter(|&index| human.has_cpu(index)) {
        Some(index) => {
            HumanSession::of(context).choose_cpu(index);
            Ok(())
        }
        None => Err(CommandError::generic("Parameter 'cpu-index' expects a CPU number")),
    }
}
