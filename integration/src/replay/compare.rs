//! Compares what came with what was recorded, and words the first difference.

use std::fmt;

use super::canon::{canonical, canonical_pretty};
use super::corpus::Arrivals;

/// How strictly lines are compared.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// Byte for byte, members in order.
    pub(super) exact: bool,
    /// Values are spread over several lines.
    pub(super) pretty: bool,
}

impl Form {
    fn of(self, lines: &[String]) -> Vec<String> {
        match self {
            Self { exact: true, .. } => lines.to_vec(),
            Self { pretty: true, .. } => canonical_pretty(lines),
            Self { .. } => lines.iter().map(|line| canonical(line)).collect(),
        }
    }
}

/// The first difference of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference(String);

impl Difference {
    /// Something other than an answer went wrong.
    pub(super) fn trouble(what: &str) -> Self {
        Self(what.to_owned())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All steps' lines as one, sorted, for cases whose order does not count.
pub(super) fn gathered(steps: &[Arrivals]) -> Arrivals {
    let mut all = Arrivals::new();
    for (name, lines) in steps.iter().flatten() {
        all.entry(name.clone()).or_default().extend(lines.iter().cloned());
    }
    all.values_mut().for_each(|lines| lines.sort());
    all
}

/// Says where `got` first differs from `want`, if it does.
pub(super) fn differ(form: Form, step: usize, got: &Arrivals, want: &Arrivals) -> Result<(), Difference> {
    let none = Vec::new();
    let mut names: Vec<&String> = got.keys().chain(want.keys()).collect();
    names.sort();
    names.dedup();
    for name in names {
        let (got, want) = (got.get(name).unwrap_or(&none), want.get(name).unwrap_or(&none));
        let (got_form, want_form) = (form.of(got), form.of(want));
        if got_form == want_form {
            continue;
        }
        // Pretty forms are not line by line what came; show them as they are compared.
        let plain = !form.pretty && got_form.len() == got.len() && want_form.len() == want.len();
        let at = (0..).find(|&at| got_form.get(at) != want_form.get(at)).unwrap_or_default();
        let (got, want) = if plain { (got, want) } else { (&got_form, &want_form) };
        let (got, want) = windows(got.get(at), want.get(at));
        return Err(Difference(format!("step {step}, connection {name}, line {at}: got {got} want {want}")));
    }
    Ok(())
}

/// Both lines, cut to what stands around their first difference when they are long.
fn windows(got: Option<&String>, want: Option<&String>) -> (String, String) {
    let (got_text, want_text) = (got.map_or("", String::as_str), want.map_or("", String::as_str));
    let same = got_text.chars().zip(want_text.chars()).take_while(|(a, b)| a == b).count();
    let show = |line: Option<&String>| match line {
        None => "nothing".to_owned(),
        Some(line) if line.chars().count() <= 400 => line.clone(),
        Some(line) => {
            let part: String = line.chars().skip(same.saturating_sub(40)).take(160).collect();
            format!("...{part}... (character {same} of {})", line.chars().count())
        }
    };
    (show(got), show(want))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOSE: Form = Form { exact: false, pretty: false };
    const EXACT: Form = Form { exact: true, pretty: false };

    fn one(lines: &[&str]) -> Arrivals {
        Arrivals::from([("0".to_owned(), lines.iter().map(|&line| line.to_owned()).collect())])
    }

    #[test]
    fn order_of_members_counts_only_when_exact() {
        let (a, b) = (one(&[r#"{"id": 1, "return": {}}"#]), one(&[r#"{"return": {}, "id": 1}"#]));
        assert!(differ(LOOSE, 0, &a, &b).is_ok());
        assert!(differ(EXACT, 0, &a, &b).is_err());
    }

    #[test]
    fn the_first_difference_is_shown() {
        let difference = differ(LOOSE, 2, &one(&["a", "b"]), &one(&["a", "c", "d"])).unwrap_err();
        assert_eq!(difference.to_string(), "step 2, connection 0, line 1: got b want c");
        let missing = differ(LOOSE, 0, &Arrivals::new(), &one(&["a"])).unwrap_err();
        assert_eq!(missing.to_string(), "step 0, connection 0, line 0: got nothing want a");
        let (long, other) = ("x".repeat(900), format!("{}y", "x".repeat(899)));
        let shown = differ(LOOSE, 0, &one(&[&long]), &one(&[&other])).unwrap_err().to_string();
        assert!(shown.contains("character 899 of 900") && shown.len() < 300, "{shown}");
    }

    #[test]
    fn gathering_forgets_steps_and_order() {
        assert_eq!(gathered(&[one(&["b"]), one(&["a"])]), gathered(&[one(&["a", "b"]), Arrivals::new()]));
    }
}
