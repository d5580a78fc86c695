//! Monitors, and the inherited fds that fill fd sets.

use serde::Deserialize;
use vmm_control::Rules;

use super::chardev::check_id;
use crate::error::{ConfigError, ErrorKind};

/// One monitor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MonitorConfig {
    /// Its id, unique among the monitors: the one given, `compat_monitorN` for the N-th `-qmp`, else made from its
    /// chardev's.
    pub id: String,
    /// Where it was given: the option, or `file:line:column`. To be put before errors about it.
    pub origin: String,
    /// The id of its chardev, which is its alone.
    pub chardev: String,
    /// What it speaks.
    pub mode: MonitorMode,
    /// Indent the replies.
    pub pretty: bool,
    /// How many clients it takes at once, 1 or more; see [`super::Config::max_clients`].
    pub max_clients: Option<usize>,
    /// Who owns the named fds; see [`super::Config::named_fds`].
    pub named_fds: Option<NamedFdsScope>,
    /// What its sessions may do.
    pub limits: MonitorLimits,
}

/// What limits a monitor's clients.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MonitorLimits {
    /// Patterns of commands that may be used. `None`: all.
    pub allow: Option<Vec<String>>,
    /// Patterns of commands that may not be used.
    pub deny: Vec<String>,
    /// Only commands that change nothing may be used.
    pub read_only: bool,
    /// Which fd sets can be reached.
    pub fdsets: FdSetsScope,
    /// Users that may connect. Without these and groups: everybody whom the chardev admits.
    pub allowed_uids: Option<Vec<u32>>,
    /// Groups whose members may connect, besides those users.
    pub allowed_gids: Option<Vec<u32>>,
    /// A TCP client is taken for one that means this monitor, whatever it sends first.
    pub lax: bool,
}

/// Which fd sets a monitor's clients can reach.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FdSetsScope {
    /// All.
    #[default]
    All,
    /// Those that the monitor's clients made.
    Own,
}

impl FdSetsScope {
    /// The names.
    pub const WORDS: &'static [&'static str] = &["all", "own"];

    /// The scope called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "all" => Some(Self::All),
            "own" => Some(Self::Own),
            _ => None,
        }
    }
}

/// What a monitor speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MonitorMode {
    /// QMP.
    Control,
    /// Lines, for people.
    Readline,
}

impl MonitorMode {
    /// The names.
    pub const WORDS: &'static [&'static str] = &["readline", "control"];

    /// The mode called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "control" => Some(Self::Control),
            "readline" => Some(Self::Readline),
            _ => None,
        }
    }
}

/// Who owns the fds that `getfd` names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamedFdsScope {
    /// The session: they are closed with it.
    Session,
    /// The monitor, as in QEMU: the next client finds them.
    Monitor,
}

impl NamedFdsScope {
    /// The names.
    pub const WORDS: &'static [&'static str] = &["session", "monitor"];

    /// The scope called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "session" => Some(Self::Session),
            "monitor" => Some(Self::Monitor),
            _ => None,
        }
    }

    /// Its name.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Monitor => "monitor",
        }
    }
}

/// A monitor as it was written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "each field is the key of the same name; its meaning is said in MonitorConfig"
)]
pub struct MonitorSpec {
    pub id: Option<String>,
    pub chardev: Option<String>,
    pub mode: Option<MonitorMode>,
    pub pretty: Option<bool>,
    pub max_clients: Option<usize>,
    pub named_fds: Option<NamedFdsScope>,
    pub allow: Option<Vec<String>>,
    pub deny: Option<Vec<String>>,
    pub read_only: Option<bool>,
    pub fdsets: Option<FdSetsScope>,
    pub allowed_uids: Option<Vec<u32>>,
    pub allowed_gids: Option<Vec<u32>>,
    pub strict: Option<bool>,
}

impl MonitorSpec {
    /// What it says of limits.
    pub(super) fn limits(&self) -> MonitorLimits {
        MonitorLimits {
            allow: self.allow.clone(),
            deny: self.deny.clone().unwrap_or_default(),
            read_only: self.read_only.unwrap_or(false),
            fdsets: self.fdsets.unwrap_or_default(),
            allowed_uids: self.allowed_uids.clone(),
            allowed_gids: self.allowed_gids.clone(),
            lax: self.strict == Some(false),
        }
    }

    /// What can be checked without knowing the chardevs.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(id) = &self.id {
            check_id(id)?;
        }
        if self.max_clients == Some(0) {
            let name = "max-clients".to_owned();
            return Err(ErrorKind::Expects { name, expected: "a number from 1" }.into());
        }
        let patterns = self.allow.iter().chain(&self.deny).flatten();
        if let Err(error) = Rules::new().deny(patterns) {
            return Err(ErrorKind::Pattern(error.to_string()).into());
        }
        if self.chardev.is_none() {
            return Err(ErrorKind::Missing("chardev").into());
        }
        Ok(())
    }
}

/// An inherited fd for a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddFdConfig {
    /// Where it was given: the option, or `file:line:column`. To be put before errors about it.
    pub origin: String,
    /// Its number in this process, 3 or more. Whether it is open is for the taker to see.
    pub fd: i32,
    /// The set, 0 or more.
    pub set: i64,
    /// A word for whoever asks what it is.
    pub opaque: Option<String>,
}

/// An inherited fd as it was written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "each field is the key of the same name; its meaning is said in AddFdConfig")]
pub struct AddFdSpec {
    pub fd: Option<i64>,
    pub set: Option<i64>,
    pub opaque: Option<String>,
}

impl AddFdSpec {
    /// What is meant.
    ///
    /// # Errors
    /// In QEMU's order: no fd, a standard stream, an fd that no process can have, no set.
    pub fn build(self, origin: &str) -> Result<AddFdConfig, ConfigError> {
        let fd = match self.fd {
            None | Some(..0) => return Err(ErrorKind::NonNegative("fd").into()),
            Some(0..=2) => return Err(ErrorKind::FdIsStdio.into()),
            Some(fd) => i32::try_from(fd).map_err(|_| ErrorKind::FdNotValid)?,
        };
        let set = self.set.filter(|set| *set >= 0).ok_or(ErrorKind::NonNegative("set"))?;
        Ok(AddFdConfig { origin: origin.to_owned(), fd, set, opaque: self.opaque })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fd(fd: Option<i64>, set: Option<i64>) -> Result<AddFdConfig, String> {
        AddFdSpec { fd, set, opaque: None }.build("here").map_err(|error| error.to_string())
    }

    #[test]
    fn add_fd_complains_in_the_order_of_qemu() {
        let fd_required = Err("fd option is required and must be non-negative".to_owned());
        let set_required = Err("set option is required and must be non-negative".to_owned());
        assert_eq!(fd(None, None), fd_required);
        assert_eq!(fd(Some(-1), Some(3)), fd_required);
        assert_eq!(fd(Some(1), None), Err("fd cannot be a standard I/O stream".to_owned()));
        assert_eq!(fd(Some(1 << 40), Some(3)), Err("fd is not valid or already in use".to_owned()));
        assert_eq!(fd(Some(7), None), set_required);
        assert_eq!(fd(Some(7), Some(-3)), set_required);
        assert_eq!(fd(Some(7), Some(3)).unwrap().set, 3);
    }

    #[test]
    fn words_come_back() {
        for word in NamedFdsScope::WORDS {
            assert_eq!(NamedFdsScope::from_word(word).unwrap().word(), *word);
        }
        for word in MonitorMode::WORDS {
            assert!(MonitorMode::from_word(word).is_some());
        }
    }
}
