//! The valid word nearest to one that is not.
//!
//! Every complaint of `vmmd` about a name or a value ends with the word its author most likely meant. Called with
//! short tables (at most the hundred or so option names), once, on the way to exit 1.

/// How many single edits turn `a` into `b`: insert, delete or replace one character, or swap two neighbours.
///
/// Case does not count (`-Name` is no edit away from `-name`). Optimal string alignment: no part of a word is
/// edited twice.
///
/// ```
/// assert_eq!(vmmd::suggest::distance("pidfiel", "pidfile"), 1);
/// ```
#[must_use]
pub fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().flat_map(char::to_lowercase).collect();
    let b: Vec<char> = b.chars().flat_map(char::to_lowercase).collect();
    // Three rows of the usual table: row i-2, row i-1, row i.
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let differs = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + differs);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row[j] = best;
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// The candidate nearest to `word`, or `None` if there are no candidates.
///
/// There is no limit on the distance: a far-off suggestion still shows what a valid word looks like. Of several
/// equally near ones, the one that shares the longest beginning with `word` wins, then the first.
///
/// ```
/// assert_eq!(vmmd::suggest::nearest("nmae", ["qmp", "name", "mon"]), Some("name"));
/// ```
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let shared = |other: &str| word.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    candidates.into_iter().min_by_key(|other| (distance(word, other), usize::MAX - shared(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_four_edits_cost_one_each() {
        assert_eq!(distance("name", "name"), 0);
        assert_eq!(distance("nam", "name"), 1);
        assert_eq!(distance("names", "name"), 1);
        assert_eq!(distance("nane", "name"), 1);
        assert_eq!(distance("nmae", "name"), 1);
        assert_eq!(distance("NAME", "name"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn ties_go_to_the_longest_common_beginning_then_to_the_first() {
        assert_eq!(nearest("nope", ["pope", "note"]), Some("note"));
        assert_eq!(nearest("x", ["a", "b"]), Some("a"));
        assert_eq!(nearest("x", []), None);
    }

    proptest! {
        #[test]
        fn it_is_symmetric_and_bounded(a in ".{0,12}", b in ".{0,12}") {
            let d = distance(&a, &b);
            prop_assert_eq!(d, distance(&b, &a));
            let lower = |s: &str| s.chars().flat_map(char::to_lowercase).count();
            prop_assert!(d <= lower(&a).max(lower(&b)));
            prop_assert_eq!(distance(&a, &a), 0);
        }
    }
}
