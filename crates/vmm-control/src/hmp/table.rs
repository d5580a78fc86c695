//! The commands there are, by name.

use super::command::HumanCommand;

/// Why a set of human commands does not make a table.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum HumanTableError {
    /// Two commands of one name.
    #[error("the human command {0:?} is registered twice")]
    Duplicate(String),
    /// A name that no line can have.
    #[error("{0:?} is no name for a human command: names have no white space and no '/', and are not empty")]
    IllegalName(String),
}

/// Commands, in the order of their names, each of which at least one has.
#[derive(Debug)]
pub(super) struct Table(Vec<HumanCommand>);

/// What the name of a sub-command of `info` is registered with.
const INFO: &str = "info ";

impl Table {
    /// The table of `commands`, with those for `info` in a table of their own behind `info`, which must be there if they
    /// are.
    pub(super) fn new(commands: Vec<HumanCommand>) -> Result<Self, HumanTableError> {
        let (mut info, mut plain) = (Vec::new(), Vec::new());
        for mut command in commands {
            match command.name.strip_prefix(INFO) {
                Some(name) => {
                    command.name = name;
                    info.push(command);
                }
                None => plain.push(command),
            }
        }
        let mut info = Some(Self::flat(info)?);
        let plain = plain.into_iter().map(|command| match command.name == INFO.trim_end() {
            true => match info.take() {
                Some(table) => command.with_sub_commands(table),
                None => command,
            },
            false => command,
        });
        Self::flat(plain.collect())
    }

    fn flat(mut commands: Vec<HumanCommand>) -> Result<Self, HumanTableError> {
        commands.sort_by_key(|command| command.name);
        let mut names: Vec<_> = commands.iter().flat_map(HumanCommand::names).collect();
        let illegal = |name: &&&str| {
            name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '/')
        };
        if let Some(name) = names.iter().find(illegal) {
            return Err(HumanTableError::IllegalName((*name).to_owned()));
        }
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(HumanTableError::Duplicate(pair[0].to_owned())),
            None => Ok(Self(commands)),
        }
    }

    /// The command one of whose names is `name`.
    pub(super) fn find(&self, name: &str) -> Option<&HumanCommand> {
        self.0.iter().find(|command| command.names().any(|known| known == name))
    }

    /// The commands in the order of `help`.
    pub(super) fn iter(&self) -> std::slice::Iter<'_, HumanCommand> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(names: &[&'static str]) -> Result<Table, HumanTableError> {
        let command = |name: &&'static str| HumanCommand::new(name).immediate(|_, _| Ok(String::new()));
        Table::new(names.iter().map(command).collect())
    }

    #[test]
    fn commands_are_found_by_each_of_their_names() {
        let table = table(&["stop|s", "info", "info status", "cont|c", "info name"]).unwrap();
        let names: Vec<_> = table.iter().map(HumanCommand::name).collect();
        assert_eq!(names, ["cont|c", "info", "stop|s"]);
        assert_eq!(table.find("s").unwrap().name, "stop|s");
        assert!(table.find("stop|s").is_none());
        assert!(table.find("status").is_none());
        let info = table.find("info").unwrap().sub_commands.as_ref().unwrap();
        assert_eq!(info.iter().map(HumanCommand::name).collect::<Vec<_>>(), ["name", "status"]);
    }

    #[test]
    fn names_are_unique_and_can_be_typed() {
        let error = |names| table(names).unwrap_err();
        assert_eq!(error(&["stop|s", "system|s"]), HumanTableError::Duplicate("s".into()));
        assert_eq!(error(&["info", "info a", "info b|a"]), HumanTableError::Duplicate("a".into()));
        assert_eq!(error(&["a|"]), HumanTableError::IllegalName(String::new()));
        assert_eq!(error(&["a b"]), HumanTableError::IllegalName("a b".into()));
        assert_eq!(error(&["a/b"]), HumanTableError::IllegalName("a/b".into()));
        assert!(table(&["info", "info status", "status"]).is_ok(), "they are of different tables");
    }
}
