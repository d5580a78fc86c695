//! The text of an operating system error as C programs print it.

use std::io;

/// What the operating system calls `error`, without the "(os error N)" that Rust adds.
///
/// QEMU's messages end in this text (`Could not create 'x': No such file or directory`), and scripts compare them.
pub(crate) fn text(error: &io::Error) -> String {
    let full = error.to_string();
    match full.rfind(" (os error ") {
        Some(end) => full[..end].to_owned(),
        None => full,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_left_out() {
        assert_eq!(text(&io::Error::from_raw_os_error(2)), "No such file or directory");
        assert_eq!(text(&io::Error::other("plain")), "plain");
    }
}
