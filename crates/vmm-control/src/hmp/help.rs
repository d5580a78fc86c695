//! `help`, generated from the tables.

use super::command::HumanCommand;
use super::cursor::{Cursor, NoString};
use super::table::Table;

/// How many words a request may have.
const MAX_WORDS: usize = 16;

/// Describes the command that `request` names, or all of them; with a command that has sub-commands, these. `preconfig`:
/// only those that can be used before the machine is initialised exist.
pub(super) fn help(table: &Table, request: &str, preconfig: bool) -> String {
    let Some(words) = words(request) else { return String::new() };
    let mut table = table;
    for (depth, word) in words.iter().enumerate() {
        match table.find(word).filter(|command| is_there(command, preconfig)) {
            None => return format!("unknown command: '{}'\n", words[..=depth].join(" ")),
            Some(HumanCommand { sub_commands: Some(below), .. }) => table = below,
            Some(command) => return entry(&words[..depth], command),
        }
    }
    table
        .iter()
        .filter(|command| is_there(command, preconfig))
        .map(|command| entry(&words, command))
        .collect()
}

fn is_there(command: &HumanCommand, preconfig: bool) -> bool {
    command.allow_preconfig || !preconfig
}

/// One command's line: what stands before its name, the name, its parameters, what it does.
fn entry(before: &[String], command: &HumanCommand) -> String {
    let before: String = before.iter().map(|word| format!("{word} ")).collect();
    format!("{before}{} {} -- {}\n", command.name, command.params, command.help)
}

/// The words of a request; `None` when there are too many or a quotation mark is missing, to which QEMU says nothing.
pub(super) fn words(request: &str) -> Option<Vec<String>> {
    let mut cursor = Cursor::new(request);
    let mut words = Vec::new();
    loop {
        match cursor.string() {
            Ok(word) if words.len() < MAX_WORDS => words.push(word),
            Err(NoString::End) => return Some(words),
            Ok(_) | Err(_) => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(request: &str, preconfig: bool) -> String {
        let plain = |name| HumanCommand::new(name).help("does something");
        let commands = [
            plain("stop|s").help("stop emulation"),
            plain("print|p").params("/fmt expr"),
            plain("info").allow_preconfig(),
            plain("info status").allow_preconfig(),
            plain("info cpus"),
        ];
        let table = Table::new(commands.map(|command| command.immediate(|_, _| Ok(String::new()))).into());
        help(&table.unwrap(), request, preconfig)
    }

    #[test]
    fn one_command_or_all_of_them() {
        for request in ["stop", "s", "\"stop\"", "stop more", " stop"] {
            assert_eq!(shown(request, false), "stop|s  -- stop emulation\n", "{request}");
        }
        assert_eq!(shown("info status", false), "info status  -- does something\n");
        assert_eq!(
            shown("", false),
            "info  -- does something\nprint|p /fmt expr -- does something\nstop|s  -- stop emulation\n"
        );
        assert_eq!(shown("info", false), "info cpus  -- does something\ninfo status  -- does something\n");
    }

    #[test]
    fn what_does_not_exist() {
        assert_eq!(shown("nope", false), "unknown command: 'nope'\n");
        assert_eq!(shown("stop|s", false), "unknown command: 'stop|s'\n");
        assert_eq!(shown("info  nope x", false), "unknown command: 'info nope'\n");
        assert_eq!(shown("\"stop", false), "");
        assert_eq!(shown(&"nope ".repeat(16), false), "unknown command: 'nope'\n");
        assert_eq!(shown(&"nope ".repeat(17), false), "");
    }

    #[test]
    fn in_preconfig_only_what_can_be_used() {
        assert_eq!(shown("", true), "info  -- does something\n");
        assert_eq!(shown("info", true), "info status  -- does something\n");
        assert_eq!(shown("stop", true), "unknown command: 'stop'\n");
    }
}
