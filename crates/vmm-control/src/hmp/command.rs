//! Declaring a human command.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use qmp_command::CommandResult;

use super::arg::HumanArg;
use super::args::HumanArgs;
use super::context::HumanContext;
use super::table::Table;

pub(super) type Handler =
    Arc<dyn Fn(HumanContext, HumanArgs) -> BoxFuture<'static, CommandResult<String>> + Send + Sync>;

pub(super) type Completer = Arc<dyn Fn(HumanContext) -> BoxFuture<'static, Vec<String>> + Send + Sync>;

/// A command of the human monitor, to be registered with
/// [`Builder::human_command`](crate::Builder::human_command).
///
/// ```
/// use vmm_control::hmp::{HumanArg, HumanCommand};
///
/// let ring = HumanCommand::new("ring|r")
///     .arg(HumanArg::flag('l', "loud"))
///     .arg(HumanArg::integer("times"))
///     .params("[-l] times")
///     .help("ring the bell (-l: so that everybody hears it)")
///     .handler(async |_context, args| {
///         let how = if args.is_on("loud") { "LOUDLY" } else { "softly" };
///         Ok(format!("rung {how}, {} times\n", args.number("times").unwrap_or(0)))
///     });
/// ```
pub struct HumanCommand {
    pub(super) name: &'static str,
    pub(super) params: &'static str,
    pub(super) help: &'static str,
    pub(super) args: Vec<HumanArg>,
    pub(super) allow_preconfig: bool,
    pub(super) exclusive: bool,
    pub(super) effect: Effect,
    pub(super) completes: Completes,
    pub(super) handler: Handler,
    /// What may follow the name instead of arguments.
    pub(super) sub_commands: Option<Table>,
}

/// What a command does by itself, as far as policies ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing but what the QMP commands do that it calls, which are asked about themselves.
    Calls,
    /// It reads.
    Reads,
    /// It may change something.
    Acts,
}

/// What the first argument can be completed to.
#[derive(Clone)]
pub(super) enum Completes {
    Nothing,
    /// Names of commands.
    Commands,
    Words(Completer),
}

impl HumanCommand {
    /// Starts the declaration of a command. `name` may have further names behind `|`; one that begins with `info ` is a
    /// sub-command of `info`.
    ///
    /// The command is concurrent, refused in preconfig, takes no arguments and counts as one that changes something, until
    /// told otherwise.
    ///
    /// A [policy](qmp_command::policy) knows it as `human-monitor-command:NAME`, by the first of its names.
    #[allow(clippy::new_ret_no_self, reason = "a command exists when it has its handler")]
    pub fn new(name: &'static str) -> HumanCommandBuilder {
        HumanCommandBuilder {
            name,
            params: "",
            help: "",
            args: Vec::new(),
            allow_preconfig: false,
            exclusive: false,
            effect: Effect::Acts,
            completes: Completes::Nothing,
        }
    }

    /// Its names, separated by `|`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name under which policies know it.
    pub(super) fn first_name(&self) -> &'static str {
        self.name.split_once('|').map_or(self.name, |(first, _)| first)
    }

    /// Each of its names.
    pub(super) fn names(&self) -> std::str::Split<'static, char> {
        self.name.split('|')
    }

    /// The same command, which does nothing but to call QMP commands or to compute.
    pub(super) fn only_calls(mut self) -> Self {
        self.effect = Effect::Calls;
        self
    }

    /// The same command, with sub-commands.
    pub(super) fn with_sub_commands(mut self, table: Table) -> Self {
        self.sub_commands = Some(table);
        self
    }
}

impl fmt::Debug for HumanCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanCommand")
            .field("name", &self.name)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// A human command that does not have its handler yet. See [`HumanCommand::new`].
#[must_use = "a declaration becomes a command with `handler` or `immediate`"]
pub struct HumanCommandBuilder {
    name: &'static str,
    params: &'static str,
    help: &'static str,
    args: Vec<HumanArg>,
    allow_preconfig: bool,
    exclusive: bool,
    effect: Effect,
    completes: Completes,
}

impl HumanCommandBuilder {
    /// Adds an argument behind those added before.
    pub fn arg(mut self, arg: HumanArg) -> Self {
        self.args.push(arg);
        self
    }

    /// The arguments as `help` shows them: `[-l] times`.
    pub fn params(mut self, params: &'static str) -> Self {
        self.params = params;
        self
    }

    /// What the command does, in a line, for `help`.
    pub fn help(mut self, help: &'static str) -> Self {
        self.help = help;
        self
    }

    /// May be used before the machine is initialised.
    pub fn allow_preconfig(mut self) -> Self {
        self.allow_preconfig = true;
        self
    }

    /// No exclusive command of the plane, of QMP or of this kind, runs meanwhile. Such a handler cannot call an exclusive
    /// QMP command: it would wait for itself, so it gets an error.
    pub fn exclusive(mut self) -> Self {
        self.exclusive = true;
        self
    }

    /// Changes nothing by itself, so that monitors whose policy is to read only may use it. (QMP commands that it calls are
    /// asked about themselves.)
    pub fn read_only(mut self) -> Self {
        self.effect = Effect::Reads;
        self
    }

    /// Does nothing but what the QMP commands do that it calls: whoever may use those may use it.
    pub fn calls_only(mut self) -> Self {
        self.effect = Effect::Calls;
        self
    }

    /// What the first argument can be completed to. It is asked while the user types, so its future must be ready the first
    /// time it is polled; what is not completes nothing.
    pub fn completes<F, Fut>(mut self, words: F) -> Self
    where
        F: Fn(HumanContext) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Vec<String>> + Send + 'static,
    {
        self.completes = Completes::Words(Arc::new(move |context| Box::pin(words(context))));
        self
    }

    /// The first argument is a command's name.
    pub(super) fn completes_commands(mut self) -> Self {
        self.completes = Completes::Commands;
        self
    }

    /// The command, with an async handler. What it returns is its output, lines ended by `\n`; an error becomes
    /// `Error: ` and its text.
    ///
    /// It is polled on the task of the session that sent the line: it must not block its thread. It is never dropped
    /// before it ends because its user went away.
    pub fn handler<F, Fut>(self, handler: F) -> HumanCommand
    where
        F: Fn(HumanContext, HumanArgs) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = CommandResult<String>> + Send + 'static,
    {
        self.finish(Arc::new(move |context, args| Box::pin(handler(context, args))))
    }

    /// The command, with a handler that is done when it returns. It must not block either.
    pub fn immediate<F>(self, handler: F) -> HumanCommand
    where
        F: Fn(HumanContext, HumanArgs) -> CommandResult<String> + Send + Sync + 'static,
    {
        let handler = Arc::new(handler);
        self.handler(move |context, args| {
            let handler = handler.clone();
            async move { handler(context, args) }
        })
    }

    fn finish(self, handler: Handler) -> HumanCommand {
        HumanCommand {
            name: self.name,
            params: self.params,
            help: self.help,
            args: self.args,
            allow_preconfig: self.allow_preconfig,
            exclusive: self.exclusive,
            effect: self.effect,
            completes: self.completes,
            handler,
            sub_commands: None,
        }
    }
}

impl fmt::Debug for HumanCommandBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HumanCommandBuilder").field("name", &self.name).finish_non_exhaustive()
    }
}
