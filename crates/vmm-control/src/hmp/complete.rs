//! Tab completion.
//!
//! Command names, `info`'s sub-commands, `help`'s arguments, and the first argument of commands that say what it can be.

use std::sync::Arc;

use futures_util::FutureExt;
use qmp_command::Context;

use super::command::Completes;
use super::context::HumanContext;
use super::cursor::is_space;
use super::help::words;
use super::shell::Human;
use super::table::Table;

/// What the last word of `line` can be completed to, sorted.
pub(super) fn complete(human: &Arc<Human>, line: &str, context: &Context) -> Vec<String> {
    let Some(mut typed) = words(line) else { return Vec::new() };
    // After white space the word to complete is a new one.
    if line.is_empty() || line.bytes().last().is_some_and(is_space) {
        typed.push(String::new());
    }
    let context = || HumanContext::new(human.clone(), context.clone(), false);
    let mut found = candidates(human, human.table(), &typed, &context);
    found.sort_unstable();
    found.dedup();
    found
}

fn candidates(
    human: &Human,
    table: &Table,
    typed: &[String],
    context: &dyn Fn() -> HumanContext,
) -> Vec<String> {
    let is_there = |allowed: bool| allowed || !human.is_preconfig();
    let (name, rest) = match typed {
        [] => return Vec::new(),
        [name] => {
            let there = table.iter().filter(|command| is_there(command.allow_preconfig));
            let names = there.flat_map(|command| command.names());
            return names.filter(|known| known.starts_with(name.as_str())).map(str::to_owned).collect();
        }
        [name, rest @ ..] => (name, rest),
    };
    let Some(command) = table.find(name).filter(|command| is_there(command.allow_preconfig)) else {
        return Vec::new();
    };
    if let Some(below) = &command.sub_commands {
        return candidates(human, below, rest, context);
    }
    match (&command.completes, rest) {
        (Completes::Commands, _) => candidates(human, human.table(), rest, context),
        (Completes::Words(words), [word]) => {
            let mut words = words(context()).now_or_never().unwrap_or_default();
            words.retain(|known| known.starts_with(word.as_str()));
            words
        }
        _ => Vec::new(),
    }
}
