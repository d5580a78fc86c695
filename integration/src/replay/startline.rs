//! Start lines: from a group's template to the words of a command line.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::corpus::Release;

/// The server arguments of every group, by its name.
pub type Groups = BTreeMap<String, Arguments>;

/// The server arguments of one group.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Arguments {
    /// The same whatever recording is compared.
    Same(String),
    /// By recording (`72`, `111`), `*` for the others.
    ByRelease(BTreeMap<String, String>),
}

impl Arguments {
    /// The arguments to use when comparing with `release`.
    pub fn for_release(&self, release: Release) -> Option<&str> {
        match self {
            Self::Same(text) => Some(text),
            Self::ByRelease(texts) => {
                texts.get(release.name()).or_else(|| texts.get("*")).map(String::as_str)
            }
        }
    }
}

/// Splits a command line into words as a POSIX shell does, quotes and backslashes included, expanding nothing.
///
/// # Errors
/// When a quote is not closed or the last character is a lone backslash.
pub fn words(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => quoted(&mut chars, c, word.get_or_insert_default())?,
            '"' => quoted(&mut chars, c, word.get_or_insert_default())?,
            '\\' => word.get_or_insert_default().push(chars.next().ok_or("a lone backslash at the end")?),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

fn quoted(
    chars: &mut std::iter::Peekable<std::str::Chars<'_>>,
    quote: char,
    word: &mut String,
) -> Result<(), String> {
    loop {
        match chars.next() {
            None => return Err(format!("a {quote} is not closed")),
            Some(c) if c == quote => return Ok(()),
            Some('\\') if quote == '"' => match chars.peek() {
                Some(&next @ ('"' | '\\')) => {
                    chars.next();
                    word.push(next);
                }
                _ => word.push('\\'),
            },
            Some(c) => word.push(c),
        }
    }
}

/// Appends `,options` to what describes a monitor's socket: the argument of each `-qmp`, `-qmp-pretty` and
/// `-chardev socket`.
pub fn add_monitor_options(words: &mut [String], options: &str) {
    for at in 1..words.len() {
        let option = words[at - 1].trim_start_matches('-');
        let dashed = words[at - 1].starts_with('-');
        let wanted = match option {
            "qmp" | "qmp-pretty" => true,
            "chardev" => words[at].starts_with("socket"),
            _ => false,
        };
        if dashed && wanted {
            words[at].push(',');
            words[at].push_str(options);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_in_a_shell() {
        assert_eq!(words("a  b\tc").unwrap(), ["a", "b", "c"]);
        assert_eq!(words(r#"-name 'weird "n\\ä' x"y z"w"#).unwrap(), ["-name", r#"weird "n\\ä"#, "xy zw"]);
        assert_eq!(words(r#""a\"b\n" c\ d ''"#).unwrap(), [r#"a"b\n"#, "c d", ""]);
        assert!(words("'a").is_err());
        assert!(words("a\\").is_err());
    }

    #[test]
    fn options_reach_monitors_only() {
        let mut line =
            words("vmmd -name x -qmp unix:a -chardev socket,id=m -chardev null,id=n --qmp-pretty unix:b")
                .unwrap();
        add_monitor_options(&mut line, "max-clients=1");
        assert_eq!(
            line,
            words(
                "vmmd -name x -qmp unix:a,max-clients=1 -chardev socket,id=m,max-clients=1 -chardev null,id=n \
                 --qmp-pretty unix:b,max-clients=1"
            )
            .unwrap()
        );
    }

    #[test]
    fn arguments_by_release() {
        let groups: Groups = serde_json::from_str(r#"{"a": "-x", "b": {"72": "-y", "*": "-z"}}"#).unwrap();
        assert_eq!(groups["a"].for_release(Release::V111), Some("-x"));
        assert_eq!(groups["b"].for_release(Release::V72), Some("-y"));
        assert_eq!(groups["b"].for_release(Release::V111), Some("-z"));
    }
}
