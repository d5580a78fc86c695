//! A canonical form of a line, in which the order of an object's members does not show.
//!
//! The scanner below takes JSON apart without deciding what its scalars mean: masks such as `<t>` stand where numbers
//! do, and `inf`, which QEMU prints, is no number in any library. What does not scan is compared as it stands.

/// Deeper than any server may answer, and shallow enough for a test thread's stack.
const MAX_DEPTH: usize = 1100;

/// The line with members sorted and spaces gone; the line itself if it is not one JSON value.
pub fn canonical(line: &str) -> String {
    let line = super::mask::mask_devices(line);
    let mut scanner = Scanner { text: &line, at: 0 };
    match scanner.value(0) {
        Some(value) if scanner.rest().trim_start().is_empty() => value,
        _ => line,
    }
}

/// Lines of pretty-printed values: the values in canonical form, then all lines in any order (to compare their
/// indentation). Lines that are not such values come back as they are.
pub(super) fn canonical_pretty(lines: &[String]) -> Vec<String> {
    let text = lines.join("\n");
    let mut scanner = Scanner { text: &text, at: 0 };
    let mut out = Vec::new();
    while !scanner.rest().trim_start().is_empty() {
        match scanner.value(0) {
            Some(value) => out.push(value),
            None => return lines.to_vec(),
        }
    }
    let mut bare: Vec<String> = lines.iter().map(|line| line.trim_end_matches(',').to_owned()).collect();
    bare.sort();
    out.append(&mut bare);
    out
}

struct Scanner<'a> {
    text: &'a str,
    at: usize,
}

impl Scanner<'_> {
    fn rest(&self) -> &str {
        &self.text[self.at..]
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    /// Takes `token` if it is next, spaces aside.
    fn take(&mut self, token: char) -> bool {
        self.skip_spaces();
        let found = self.rest().starts_with(token);
        self.at += if found { token.len_utf8() } else { 0 };
        found
    }

    fn value(&mut self, depth: usize) -> Option<String> {
        if depth > MAX_DEPTH {
            return None;
        }
        if self.take('{') {
            let mut members = self.items('}', |scanner| {
                let key = scanner.string()?;
                scanner.take(':').then_some(())?;
                Some(format!("{key}:{}", scanner.value(depth + 1)?))
            })?;
            members.sort();
            return Some(format!("{{{}}}", members.join(",")));
        }
        if self.take('[') {
            let items = self.items(']', |scanner| scanner.value(depth + 1))?;
            return Some(format!("[{}]", items.join(",")));
        }
        if self.rest().starts_with('"') { self.string() } else { self.scalar() }
    }

    fn items(&mut self, end: char, mut item: impl FnMut(&mut Self) -> Option<String>) -> Option<Vec<String>> {
        let mut items = Vec::new();
        if self.take(end) {
            return Some(items);
        }
        loop {
            items.push(item(self)?);
            if self.take(end) {
                return Some(items);
            }
            self.take(',').then_some(())?;
        }
    }

    /// A string, quotes included, with the hexadecimal digits of its escapes in upper case.
    fn string(&mut self) -> Option<String> {
        self.take('"').then_some(())?;
        let mut out = String::from('"');
        let mut chars = self.text[self.at..].char_indices();
        while let Some((at, c)) = chars.next() {
            out.push(c);
            match c {
                '"' => {
                    self.at += at + 1;
                    return Some(out);
                }
                '\\' => {
                    let (_, escaped) = chars.next()?;
                    out.push(escaped);
                    if escaped == 'u' {
                        let digits: String = chars.by_ref().take(4).map(|(_, digit)| digit).collect();
                        out.push_str(&digits.to_ascii_uppercase());
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Whatever stands where a number, a keyword or a mask can.
    fn scalar(&mut self) -> Option<String> {
        let rest = self.rest();
        let end = rest.find([',', ':', '{', '}', '[', ']', '"', ' ', '\n']).unwrap_or(rest.len());
        let word = rest[..end].to_owned();
        self.at += end;
        (!word.is_empty()).then_some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_order_does_not_show() {
        assert_eq!(
            canonical(r#"{"return": {"b": 1, "a": [<t>, inf]}, "id": "x y"}"#),
            r#"{"id":"x y","return":{"a":[<t>,inf],"b":1}}"#
        );
        assert_eq!(canonical(r#"{"b":{}, "a":[ ]}"#), canonical(r#"{"a": [], "b": {}}"#));
        assert_ne!(canonical(r#"{"id": 1}"#), canonical(r#"{"id": 1.0}"#));
        assert_ne!(canonical("[1, 2]"), canonical("[2, 1]"));
    }

    #[test]
    fn strings_keep_what_looks_like_structure() {
        assert_eq!(canonical(r#"["a\"]", "\u00e9,"]"#), r#"["a\"]","\u00E9,"]"#);
    }

    #[test]
    fn other_text_stays() {
        for text in ["(qemu) info", "<EOF>{}", "[1", r#"{"a" 1}"#, ""] {
            assert_eq!(canonical(text), text);
        }
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        assert_eq!(canonical(&deep), deep);
    }

    #[test]
    fn pretty_values_and_their_lines() {
        let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
        let one = lines("{\n    \"a\": 1,\n    \"b\": <t>\n}\n{\n}");
        let other = lines("{\n    \"b\": <t>,\n    \"a\": 1\n}\n{\n}");
        assert_eq!(canonical_pretty(&one), canonical_pretty(&other));
        let shifted = lines("{\n  \"a\": 1,\n  \"b\": <t>\n}\n{\n}");
        assert_ne!(canonical_pretty(&one), canonical_pretty(&shifted));
        assert_eq!(canonical_pretty(&lines("{\n\"a\": \n}")), lines("{\n\"a\": \n}"));
    }
}
