//! Bounds of what clients make that takes no descriptors, and is counted in no budget: how many there may be, how long their
//! names are, and their lists.
//!
//! QEMU has none of these. They are far above what anybody needs, and low enough that all of it together is some megabytes;
//! but for monitors, whose lists of patterns and users come to a third of a MiB each, and of which there are fewer.

use qmp_command::{CommandError, CommandResult};

/// The longest name or id that a client can give, in bytes.
pub(crate) const LONGEST_NAME: usize = 1024;

/// How many chardevs there are when clients can add no more; likewise objects, and devices.
pub(crate) const MOST: usize = 4096;

/// How many monitors there are when clients can add no more.
const MOST_MONITORS: usize = 1024;

/// The most users, or groups, that a client can list.
const MOST_LISTED: usize = 1024;

/// Refuses a name that is too long.
pub(crate) fn name(parameter: &str, name: &str) -> CommandResult<()> {
    if name.len() <= LONGEST_NAME {
        return Ok(());
    }
    let text = format!("Parameter '{parameter}' expects at most {LONGEST_NAME} bytes");
    Err(CommandError::generic(text))
}

/// Refuses one more where there are so many.
pub(crate) fn number(things: &str, there_are: usize) -> CommandResult<()> {
    fewer_than(MOST, things, there_are)
}

/// Refuses one monitor more where there are so many.
pub(crate) fn monitors(there_are: usize) -> CommandResult<()> {
    fewer_than(MOST_MONITORS, "monitors", there_are)
}

fn fewer_than(most: usize, things: &str, there_are: usize) -> CommandResult<()> {
    if there_are < most {
        return Ok(());
    }
    Err(CommandError::generic(format!("There are {there_are} {things} already: remove some")))
}

/// Refuses a list that is too long.
pub(crate) fn list(parameter: &str, ids: Option<&Vec<u32>>) -> CommandResult<()> {
    if ids.is_none_or(|ids| ids.len() <= MOST_LISTED) {
        return Ok(());
    }
    let text = format!("Parameter '{parameter}' expects at most {MOST_LISTED} ids");
    Err(CommandError::generic(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        assert!(name("id", &"é".repeat(512)).is_ok());
        let error = name("id", &"é".repeat(513)).unwrap_err();
        assert_eq!(error.to_string(), "Parameter 'id' expects at most 1024 bytes");
        assert!(number("chardevs", 4095).is_ok());
        let error = number("chardevs", 4096).unwrap_err();
        assert_eq!(error.to_string(), "There are 4096 chardevs already: remove some");
        assert!(monitors(1023).is_ok() && monitors(1024).is_err());
        assert!(list("uids", None).is_ok() && list("uids", Some(&vec![0; 1024])).is_ok());
        assert!(list("uids", Some(&vec![0; 1025])).is_err());
    }
}
