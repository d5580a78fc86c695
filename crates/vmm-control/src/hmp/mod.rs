//! The human monitor: commands for people, one line each, with text for an answer.
//!
//! A [`HumanCommand`] is a name, the arguments it takes, words for `help`, and a handler. Most of the built-in ones are
//! thin: they call the QMP command of the same meaning through the plane's router, with their user's own context, so that
//! permits, policy, preconfig and complaints are the same ones, and format what it returns. A line's way:
//!
//! ```text
//! line -> name -> sub-command of `info`? -> allowed now? -> arguments -> permit? -> handler -> text
//! ```
//!
//! * `cursor`, `parse`, `expression`, `format` read a line, with QEMU's rules and complaints;
//! * `table` finds commands, `help` and `complete` describe them;
//! * `shell` runs a line; `context` is what a handler gets;
//! * `commands` are the built-in ones.
//!
//! Lines come from `human-monitor-command`, whose session is thrown away after the call, and from human monitors, whose
//! sessions keep the CPU that `cpu` chose.
//!
//! Text has `\n` inside; `crlf` makes it what QEMU's monitors write. Nothing a user types panics, and no argument has a
//! limit of its own (QEMU cuts strings at 1,023 bytes).

mod arg;
mod args;
mod command;
mod commands;
mod complete;
mod context;
mod cursor;
mod expression;
mod format;
mod help;
mod parse;
mod shell;
mod table;

pub use arg::HumanArg;
pub use args::HumanArgs;
pub use command::{HumanCommand, HumanCommandBuilder};
pub use context::HumanContext;
pub use format::{Radix, ValueFormat};
pub use qmp_monitor::Shell;
pub use shell::HumanShell;
pub use table::HumanTableError;

pub(crate) use context::HumanSession;
use cursor::is_space;
pub(crate) use shell::{Human, crlf};
