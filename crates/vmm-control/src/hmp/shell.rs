//! Running a line.

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use qmp_command::layers::authorize::log_refusal;
use qmp_command::layers::permit::Permit;
use qmp_command::{CommandError, CommandResult, Context};
use qmp_monitor::human::{Answer, Shell};

use super::args::HumanArgs;
use super::command::{Effect, HumanCommand};
use super::context::HumanContext;
use super::cursor::Cursor;
use super::format::LastFormat;
use super::parse::{ParseError, command_name, parse};
use super::table::{HumanTableError, Table};
use super::{commands, complete};
use crate::plane::Shared;

/// The human commands of a plane.
pub(crate) struct Human {
    table: Table,
    plane: Arc<Shared>,
    permit: Permit,
    last_format: LastFormat,
}

impl Human {
    /// The built-in commands and these.
    pub(crate) fn new(
        plane: Arc<Shared>,
        permit: Permit,
        own: Vec<HumanCommand>,
    ) -> Result<Arc<Self>, HumanTableError> {
        let all = commands::commands().into_iter().chain(own).collect();
        Ok(Arc::new(Self { table: Table::new(all)?, plane, permit, last_format: LastFormat::default() }))
    }

    pub(super) fn table(&self) -> &Table {
        &self.table
    }

    pub(super) fn plane(&self) -> &Shared {
        &self.plane
    }

    pub(super) fn is_preconfig(&self) -> bool {
        self.plane.phase.is_preconfig()
    }

    /// Whether there is a CPU of this index.
    pub(crate) fn has_cpu(&self, index: u32) -> bool {
        self.plane.machine.vcpus().iter().any(|cpu| cpu.index == index)
    }

    /// Runs a line and gives all that it says. It never fails: complaints are text too.
    ///
    /// Cancel-safety: dropping the future drops the command where it is.
    pub(crate) async fn execute(self: &Arc<Self>, line: &str, context: Context) -> String {
        tracing::trace!(session = context.session_id(), line = line.escape_debug().to_string());
        let (command, args) = match self.read(line) {
            Ok(Some(found)) => found,
            Ok(None) => return String::new(),
            Err(complaint) => return complaint,
        };
        let permit = if command.exclusive { Some(self.permit.acquire().await) } else { None };
        let context = HumanContext::new(self.clone(), context, command.exclusive);
        let result = self.run(command, context.clone(), args).await;
        drop(permit);
        let mut output = context.take_output();
        match result {
            Ok(text) => output.push_str(&text),
            Err(error) => output.push_str(&complaint(&error)),
        }
        output
    }

    /// Finds a line's command and reads its arguments; the error is what the user sees.
    fn read(&self, line: &str) -> Result<Option<(&HumanCommand, HumanArgs)>, String> {
        let mut cursor = Cursor::new(line);
        let mut table = &self.table;
        let command = loop {
            let Some(name) = command_name(&mut cursor) else { return Ok(None) };
            let so_far = &line[..cursor.position()];
            let command = table.find(name).ok_or_else(|| format!("unknown command: '{so_far}'\n"))?;
            if !command.allow_preconfig && self.is_preconfig() {
                return Err(format!(
                    "Command '{so_far}' not available until machine initialization has completed.\n"
                ));
            }
            cursor.skip_spaces();
            match &command.sub_commands {
                Some(below) if !cursor.is_at_end() => table = below,
                _ => break command,
            }
        };
        let typed =
            line[..cursor.position()].trim_end_matches(|c: char| c.is_ascii() && super::is_space(c as u8));
        let args = parse(command.name, &command.args, &self.last_format, &mut cursor);
        args.map(|args| Some((command, args))).map_err(|error| {
            // A line that ends in a lone dash makes QEMU print the end of a string, and lose the end of its line.
            let end = match error {
                ParseError::Silent | ParseError::UnsupportedOption(_, None) => "",
                _ => "\n",
            };
            format!("{error}{end}Try \"help {typed}\" for more information\n")
        })
    }

    async fn run(
        &self,
        command: &HumanCommand,
        context: HumanContext,
        args: HumanArgs,
    ) -> CommandResult<String> {
        authorize(command, context.context())?;
        // What a handler left half done is its own, behind its own locks.
        let call = AssertUnwindSafe(async { (command.handler)(context, args).await });
        call.catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(command = command.name, "a human command panicked");
            Err(CommandError::generic(format!("The command {} failed unexpectedly", command.name)))
        })
    }
}

/// Whether the line's sender may use a human command as such. What a command does by calling QMP commands is decided
/// when it calls them; this is for what it does itself (`o`, an author's own).
///
/// Rules know it as `human-monitor-command:NAME`, with the first of its names.
fn authorize(command: &HumanCommand, context: &Context) -> CommandResult<()> {
    let read_only = match command.effect {
        Effect::Calls => return Ok(()),
        Effect::Reads => true,
        Effect::Acts => false,
    };
    let checked = context.policy().check_human(command.first_name(), read_only);
    checked.inspect_err(|refusal| log_refusal(context, refusal))
}

impl fmt::Debug for Human {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Human").field("table", &self.table).finish_non_exhaustive()
    }
}

/// An error as a human monitor shows it, with the hint that QEMU gives to people only.
fn complaint(error: &CommandError) -> String {
    let text = error.to_string();
    let hint = match text.ends_with(" expects an identifier") {
        true => "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter.\n",
        false => "",
    };
    format!("Error: {text}\n{hint}")
}

/// Text as QEMU's monitors write it: every line feed after a carriage return, whether there is one already or not.
pub(crate) fn crlf(text: &str) -> String {
    text.replace('\n', "\r\n")
}

/// The human commands of a plane, as human monitors use them. All sessions share it. Cheap to clone.
#[derive(Clone)]
pub struct HumanShell(Arc<Human>);

impl HumanShell {
    pub(crate) fn new(human: Arc<Human>) -> Self {
        Self(human)
    }
}

impl Shell for HumanShell {
    fn banner(&self) -> String {
        let version = &self.0.plane.version;
        format!(
            "QEMU {}.{}.{} monitor - type 'help' for more information",
            version.major, version.minor, version.micro
        )
    }

    fn execute(&self, line: String, context: Context) -> Answer {
        let human = self.0.clone();
        Box::pin(async move { human.execute(&line, context).await })
    }

    fn complete(&self, line: &str, context: &Context) -> Vec<String> {
        complete::complete(&self.0, line, context)
    }
}

impl fmt::Debug for HumanShell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanShell").finish_non_exhaustive()
    }
}
