//! What a session may do: rules that its monitor was given, and those of whoever made that monitor.
//!
//! A [`Policy`] is a list of [`Rules`], all of which must allow a command. Policies are only ever
//! [joined](Policy::and), so whatever a session creates has at most that session's rights.
//!
//! Rules are asked twice. Before the arguments are looked at, [`Policy::check_command`] is (the stack's authorize layer
//! does it, for every command). A command that makes or changes something of a named type asks
//! [`Policy::check_type`] once it knows the type.
//!
//! ```
//! use qmp_command::policy::{Policy, Rules};
//! let policy = Policy::from(Rules::new().allow(["query-*", "object-add:iothread"])?);
//! assert!(policy.check_type("object-add", "iothread").is_ok());
//! assert!(policy.check_type("object-add", "memory-backend-ram").is_err());
//! # Ok::<(), qmp_command::policy::PatternError>(())
//! ```

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::CommandError;
use crate::metadata::{Concurrency, Metadata};

/// The longest pattern, in bytes.
const PATTERN_MAX: usize = 256;

/// Patterns of a list at most: each is looked at for every command.
const PATTERNS_MAX: usize = 256;

/// Rules that one policy can have joined. One more, and it allows nothing but to negotiate.
const RULES_MAX: usize = 16;

/// Without it there is no session: no policy refuses it.
const NEGOTIATION: &str = "qmp_capabilities";

/// Commands that need not be allowed, and can be denied: what the first one executes is checked for itself; the second
/// changes only which events its own session gets.
const HARMLESS: [&str; 2] = ["human-monitor-command", "x-events"];

/// Rules that are none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// A pattern that is none.
    #[error("'{0}' is no pattern: names of commands with '*' and '?', and a type behind a ':' if need be")]
    Malformed(String),
    /// Too many of them.
    #[error("there are more than {PATTERNS_MAX} patterns")]
    TooMany,
}

/// `COMMAND` or `COMMAND:TYPE`, with `*` for any characters and `?` for one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    command: String,
    ty: Option<String>,
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, PatternError> {
        let (command, ty) = match text.split_once(':') {
            Some((command, ty)) => (command, Some(ty)),
            None => (text, None),
        };
        let good = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic());
        if text.len() > PATTERN_MAX || !good(command) || !ty.is_none_or(good) {
            return Err(PatternError::Malformed(text.chars().take(PATTERN_MAX).collect()));
        }
        Ok(Self { command: command.to_owned(), ty: ty.map(str::to_owned) })
    }

    fn covers(&self, command: &str, ty: Option<&str>) -> bool {
        glob(&self.command, command)
            && match (&self.ty, ty) {
                (None, _) => true,
                (Some(pattern), Some(ty)) => glob(pattern, ty),
                (Some(_), None) => false,
            }
    }
}

/// One monitor's rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    allow: Option<Vec<Pattern>>,
    deny: Vec<Pattern>,
    read_only: bool,
    /// A number of its own, if fd sets are to be the monitor's own.
    fd_sets: Option<u64>,
}

impl Rules {
    /// Rules that allow everything.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Allows only what one of these patterns covers. `object-add:iothread` allows `object-add` for that type only.
    ///
    /// # Errors
    /// The first that is no pattern.
    pub fn allow<S: AsRef<str>>(
        mut self,
        patterns: impl IntoIterator<Item = S>,
    ) -> Result<Self, PatternError> {
        extend(self.allow.get_or_insert_default(), patterns)?;
        Ok(self)
    }

    /// Refuses what one of these patterns covers, allowed or not.
    ///
    /// # Errors
    /// The first that is no pattern.
    pub fn deny<S: AsRef<str>>(
        mut self,
        patterns: impl IntoIterator<Item = S>,
    ) -> Result<Self, PatternError> {
        extend(&mut self.deny, patterns)?;
        Ok(self)
    }

    /// Allows only commands that change nothing.
    #[must_use]
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Fd sets that others made are out of reach, and unseen.
    #[must_use]
    pub fn own_fd_sets(mut self, own: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        self.fd_sets = own.then(|| NEXT.fetch_add(1, Ordering::Relaxed));
        self
    }

    /// Whether they allow everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.allow.is_none() && self.deny.is_empty() && !self.read_only && self.fd_sets.is_none()
    }

    fn allow_command(&self, command: &Metadata) -> bool {
        // Where nobody will ask about a type, a rule with one would allow too much, or deny nothing.
        let typed = command.asks_type;
        let denied = self.deny.iter().any(|p| glob(&p.command, command.name) && (p.ty.is_none() || !typed));
        if HARMLESS.contains(&command.name) {
            return !denied;
        }
        if self.read_only && command.concurrency != Concurrency::ReadOnly {
            return false;
        }
        // A pattern with a type lets the command in, which then asks about the type.
        let lets_in = |p: &Pattern| glob(&p.command, command.name) && (p.ty.is_none() || typed);
        let allowed = |patterns: &Vec<Pattern>| patterns.iter().any(lets_in);
        self.allow.as_ref().is_none_or(allowed) && !denied
    }

    fn allow_type(&self, command: &str, ty: &str) -> bool {
        let covers = |pattern: &Pattern| pattern.covers(command, Some(ty));
        self.allow.as_ref().is_none_or(|patterns| patterns.iter().any(covers))
            && !self.deny.iter().any(covers)
    }
}

fn extend<S: AsRef<str>>(
    list: &mut Vec<Pattern>,
    patterns: impl IntoIterator<Item = S>,
) -> Result<(), PatternError> {
    for pattern in patterns {
        if list.len() == PATTERNS_MAX {
            return Err(PatternError::TooMany);
        }
        list.push(Pattern::parse(pattern.as_ref())?);
    }
    Ok(())
}

/// What a session may do. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Policy(Vec<Arc<Rules>>);

impl Policy {
    /// Everything is allowed.
    pub const UNRESTRICTED: Self = Self(Vec::new());

    /// Whether everything is allowed.
    #[must_use]
    pub fn is_unrestricted(&self) -> bool {
        self.0.is_empty()
    }

    /// What both allow.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut all = self.0.clone();
        for rules in &other.0 {
            if !all.iter().any(|known| Arc::ptr_eq(known, rules)) {
                all.push(rules.clone());
            }
        }
        if all.len() > RULES_MAX {
            // A monitor made by a monitor made by ...: it ends somewhere.
            let nothing = Rules { allow: Some(Vec::new()), read_only: true, ..Rules::default() };
            all = vec![Arc::new(nothing)];
        }
        Self(all)
    }

    /// May the command be used at all? `qmp_capabilities` always may. `x-events` and `human-monitor-command` may unless they
    /// are denied; what the latter executes is checked for itself.
    ///
    /// # Errors
    /// What the client sees.
    pub fn check_command(&self, command: &Metadata) -> Result<(), CommandError> {
        if self.0.is_empty() || command.name == NEGOTIATION {
            return Ok(());
        }
        self.check(command.name, |rules| rules.allow_command(command))
    }

    /// The same for what is no QMP command: one of the human monitor's own, by the name under which rules know it
    /// (`human-monitor-command:o`).
    ///
    /// # Errors
    /// What the client sees.
    pub fn check_human(&self, command: &str, read_only: bool) -> Result<(), CommandError> {
        let allow = |rules: &Rules| {
            (read_only || !rules.read_only) && rules.allow_type("human-monitor-command", command)
        };
        self.check(command, allow)
    }

    /// May the command be used for this type?
    ///
    /// # Errors
    /// What the client sees.
    pub fn check_type(&self, command: &str, ty: &str) -> Result<(), CommandError> {
        if self.0.iter().all(|rules| rules.allow_type(command, ty)) {
            return Ok(());
        }
        Err(CommandError::generic(format!(
            "The command '{command}' is not allowed for '{ty}' on this monitor"
        )))
    }

    /// What fd sets made by such a session are marked with, and what those it can reach must be marked with: it sees a
    /// set whose marks include all of these.
    pub fn fd_set_marks(&self) -> impl Iterator<Item = u64> {
        self.0.iter().filter_map(|rules| rules.fd_sets)
    }

    fn check(&self, name: &str, allow: impl Fn(&Rules) -> bool) -> Result<(), CommandError> {
        if self.0.iter().all(|rules| allow(rules)) {
            return Ok(());
        }
        Err(CommandError::generic(format!("The command '{name}' is not allowed on this monitor")))
    }
}

impl From<Rules> for Policy {
    fn from(rules: Rules) -> Self {
        if rules.is_empty() { Self::UNRESTRICTED } else { Self(vec![Arc::new(rules)]) }
    }
}

/// As the rules say, in a few words, for logs.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.len() {
            0 => f.write_str("unrestricted"),
            count => write!(f, "{count} set(s) of rules"),
        }
    }
}

/// `*` stands for any characters, `?` for one. Time is bounded by the product of the lengths.
fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => {
                p += 1;
                t += 1;
            }
            // What the last star stands for grows by one.
            _ => match &mut star {
                Some((at, from)) => {
                    *from += 1;
                    (p, t) = (*at + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &'static str, read_only: bool) -> Metadata {
        let mut metadata = Metadata::new(name);
        if read_only {
            metadata.concurrency = Concurrency::ReadOnly;
        }
        metadata
    }

    fn may(policy: &Policy, name: &'static str) -> bool {
        let mut metadata = command(name, name.starts_with("query-"));
        metadata.asks_type = name.contains("-add") || name.contains("-monitor-");
        policy.check_command(&metadata).is_ok()
    }

    #[test]
    fn globs() {
        for (pattern, text) in
            [("*", ""), ("a*", "a"), ("*a*b", "xaxxb"), ("?", "x"), ("a**", "ab"), ("qom-?et", "qom-set")]
        {
            assert!(glob(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("", "a"), ("a", ""), ("?", ""), ("*a", "ab"), ("a?", "a"), ("*ab*ab", "ab")]
        {
            assert!(!glob(pattern, text), "{pattern} {text}");
        }
        // What would take exponential time by backtracking.
        assert!(!glob(&"*a".repeat(100), &"a".repeat(99)));
    }

    #[test]
    fn allow_is_a_closed_list_and_deny_wins() {
        let policy =
            Policy::from(Rules::new().allow(["query-*", "stop"]).unwrap().deny(["query-name"]).unwrap());
        assert!(may(&policy, "query-status") && may(&policy, "stop") && may(&policy, "qmp_capabilities"));
        assert!(!may(&policy, "query-name") && !may(&policy, "cont"));
        let error = policy.check_command(&command("cont", false)).unwrap_err();
        assert_eq!(error.to_string(), "The command 'cont' is not allowed on this monitor");
    }

    #[test]
    fn types_are_asked_for_behind_the_command() {
        let policy = Policy::from(Rules::new().allow(["object-add:iothread", "chardev-*"]).unwrap());
        assert!(may(&policy, "object-add") && !may(&policy, "object-del"));
        assert!(policy.check_type("object-add", "iothread").is_ok());
        assert!(policy.check_type("chardev-add", "null").is_ok());
        assert_eq!(
            policy.check_type("object-add", "monitor-qmp").unwrap_err().to_string(),
            "The command 'object-add' is not allowed for 'monitor-qmp' on this monitor"
        );
        let policy = Policy::from(Rules::new().deny(["chardev-add:file"]).unwrap());
        assert!(may(&policy, "chardev-add") && policy.check_type("chardev-add", "null").is_ok());
        assert!(policy.check_type("chardev-add", "file").is_err());
    }

    #[test]
    fn a_type_where_nobody_asks_for_one_allows_nothing_and_denies_all() {
        let policy = Policy::from(Rules::new().allow(["*:null", "quit:x"]).unwrap());
        assert!(!may(&policy, "stop") && !may(&policy, "quit") && may(&policy, "chardev-add"));
        let policy = Policy::from(Rules::new().deny(["quit:*", "human-monitor-command:o"]).unwrap());
        assert!(!may(&policy, "quit") && may(&policy, "stop") && may(&policy, "human-monitor-command"));
    }

    #[test]
    fn rules_have_bounds() {
        assert_eq!(Rules::new().deny(["x"; 257]).unwrap_err(), PatternError::TooMany);
        let one = || Policy::from(Rules::new().deny(["x"]).unwrap());
        let many = (0..RULES_MAX).fold(one(), |all, _| all.and(&one()));
        assert!(!may(&many, "stop") && !may(&many, "query-name") && may(&many, "qmp_capabilities"));
    }

    #[test]
    fn read_only_goes_by_what_commands_say_of_themselves() {
        let policy = Policy::from(Rules::new().read_only(true));
        assert!(may(&policy, "query-name") && !may(&policy, "stop") && !may(&policy, "getfd"));
        assert!(policy.check_human("print", true).is_ok() && policy.check_human("o", false).is_err());
    }

    #[test]
    fn joining_only_narrows() {
        let (a, b) =
            (Rules::new().allow(["stop", "cont"]).unwrap(), Rules::new().allow(["cont", "quit"]).unwrap());
        let (a, b) = (Policy::from(a), Policy::from(b));
        let both = a.and(&b);
        assert!(may(&both, "human-monitor-command") && may(&both, "x-events"));
        assert!(!may(&Policy::from(Rules::new().deny(["human-*"]).unwrap()), "human-monitor-command"));
        assert!(may(&Policy::from(Rules::new().deny(["*"]).unwrap()), "qmp_capabilities"));
        assert!(may(&both, "cont") && !may(&both, "stop") && !may(&both, "quit"));
        assert_eq!(both.and(&a).0.len(), 2, "the same rules are kept once");
        assert!(Policy::UNRESTRICTED.and(&Policy::from(Rules::new())).is_unrestricted());
    }

    #[test]
    fn human_commands_have_names_too() {
        let policy = Policy::from(Rules::new().allow(["human-monitor-command:print"]).unwrap());
        assert!(policy.check_human("print", true).is_ok() && policy.check_human("o", false).is_err());
        assert!(
            Policy::from(Rules::new().deny(["human-monitor-command"]).unwrap())
                .check_human("o", false)
                .is_err()
        );
    }

    #[test]
    fn what_is_no_pattern() {
        for bad in ["", ":", "a:", ":b", "a b", "a\n", "ä", &"x".repeat(257)] {
            assert!(Rules::new().allow([bad]).is_err(), "{bad:?}");
        }
    }
}
