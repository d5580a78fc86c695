//! Cases that are left out, each with its reason.

use std::collections::BTreeMap;

/// Names of cases and why they are left out.
pub type Skips = BTreeMap<String, String>;

/// Reads a skip file: `name  # reason` a line; empty lines and lines of comment alone are ignored.
///
/// # Errors
/// Names the line that has no reason or names a case a second time.
pub fn parse(text: &str) -> Result<Skips, String> {
    let mut skips = Skips::new();
    for (n, line) in text.lines().enumerate() {
        let (name, reason) = line.split_once('#').unwrap_or((line, ""));
        let (name, reason) = (name.trim(), reason.trim());
        if name.is_empty() {
            continue;
        }
        if reason.is_empty() {
            return Err(format!("line {}: {name} has no reason", n + 1));
        }
        if skips.insert(name.to_owned(), reason.to_owned()).is_some() {
            return Err(format!("line {}: {name} stands here twice", n + 1));
        }
    }
    Ok(skips)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_reasons_and_comments() {
        let skips = parse("# why\n\na/b  # because\nc/d # until the next one\n").unwrap();
        assert_eq!(skips.len(), 2);
        assert_eq!(skips["a/b"], "because");
    }

    #[test]
    fn a_reason_is_needed_once() {
        assert_eq!(parse("\na/b\n").unwrap_err(), "line 2: a/b has no reason");
        assert_eq!(parse("a/b #\n").unwrap_err(), "line 1: a/b has no reason");
        assert_eq!(parse("a/b # x\na/b # y\n").unwrap_err(), "line 2: a/b stands here twice");
    }
}
