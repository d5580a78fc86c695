//! What TAB finds, and how it is shown.

use std::collections::HashSet;

/// How many candidates are looked at: as many as in QEMU.
const CANDIDATES: usize = 256;

/// How wide a terminal is taken to be.
const WIDTH: usize = 80;

/// The narrowest column.
const NARROWEST: usize = 10;

/// The last word of a line: what a candidate stands in the place of. Empty behind a blank.
pub(super) fn last_word(line: &str) -> &str {
    line.rsplit(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default()
}

/// Of the candidates, those that begin with `word` and that a terminal can show; sorted, none twice.
pub(super) fn fitting(candidates: Vec<String>, word: &str) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut fitting: Vec<_> = candidates
        .into_iter()
        .filter(|candidate| candidate.starts_with(word) && !candidate.contains(char::is_control))
        .filter(|candidate| seen.insert(candidate.clone()))
        .take(CANDIDATES)
        .collect();
    fitting.sort_unstable();
    fitting
}

/// What they all begin with.
pub(super) fn common_prefix(candidates: &[String]) -> &str {
    // Sorted, so what the first and the last have in common, all have.
    let [first, .., last] = candidates else { return candidates.first().map_or("", String::as_str) };
    let same = first.char_indices().zip(last.chars()).take_while(|((_, a), b)| a == b);
    let len = same.last().map_or(0, |((index, c), _)| index + c.len_utf8());
    &first[..len]
}

/// Writes them in columns, lines ending with CR LF.
pub(super) fn columns(candidates: &[String], out: &mut Vec<u8>) {
    let longest = candidates.iter().map(String::len).max().unwrap_or_default();
    let width = (longest + 2).clamp(NARROWEST, WIDTH);
    for row in candidates.chunks(WIDTH / width) {
        for candidate in row {
            out.extend_from_slice(candidate.as_bytes());
            out.resize(out.len() + width.saturating_sub(candidate.len()), b' ');
        }
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_and_prefixes() {
        assert_eq!(last_word("info st"), "st");
        assert_eq!(last_word("info "), "");
        assert_eq!(last_word(""), "");
        assert_eq!(common_prefix(&strings(&["stop", "stopcapture"])), "stop");
        assert_eq!(common_prefix(&strings(&["stats", "status"])), "stat");
        assert_eq!(common_prefix(&strings(&["\u{e9}", "\u{e8}"])), "", "they share a byte, and no character");
        assert_eq!(common_prefix(&[]), "");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let found = fitting(strings(&["sto", "info", "sa", "s\x1b[2J", "sa"]), "s");
        assert_eq!(found, ["sa", "sto"]);
        assert_eq!(fitting((0..1000).map(|n| n.to_string()).collect(), "").len(), CANDIDATES);
    }
}
