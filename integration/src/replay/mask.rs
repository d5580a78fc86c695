//! Masks over what can never be equal: times, thread ids, versions, descriptor numbers, paths.
//!
//! One [`Mask`] lives as long as a case: descriptor numbers are named `<fd1>`, `<fd2>`... in the order in which the
//! case first shows them, and `$fd1` in a later text stands for the number itself.

use std::path::Path;

/// Numbers that differ from run to run: what stands before them, and the mask.
const NUMBERS: [(&str, &str); 9] = [
    ("\"seconds\": ", "<t>"),
    ("\"microseconds\": ", "<t>"),
    ("\"thread-id\": ", "<tid>"),
    ("\"pid\": ", "<tid>"),
    ("thread_id=", "<tid>"),
    ("thread-id=", "<tid>"),
    ("\"micro\": ", "<v>"),
    ("\"minor\": ", "<v>"),
    ("\"major\": ", "<v>"),
];

/// The masks of one case.
#[derive(Debug)]
pub(super) struct Mask {
    dir: String,
    fds: Vec<u64>,
}

impl Mask {
    /// `dir` is what `{dir}` stands for.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_string_lossy().into_owned(), fds: Vec::new() }
    }

    /// A line from the server, masked.
    pub(super) fn incoming(&mut self, line: &str) -> String {
        let mut line = line.replace(&self.dir, "{dir}");
        for (before, mask) in NUMBERS {
            line = replace_numbers(&line, before, |_| Some(mask.to_owned()));
        }
        line = replace_numbers(&line, "\"offset\": ", |_| Some("<off>".to_owned()));
        line = mask_devices(&line);
        line = mask_between(&line, "\"package\": ", '"', "\"<pkg>\"");
        line = mask_version(&line);
        line = replace_numbers(&line, "\"fd\": ", |number| Some(self.name(number.parse().ok()?)));
        replace_numbers(&line, ", fd:", |number| {
            let number = number.parse().ok()?;
            self.fds.contains(&number).then(|| self.name(number))
        })
    }

    /// A text to send, with the real things in place of their names. A descriptor never seen becomes 9999.
    pub(super) fn outgoing(&self, text: &str) -> String {
        let text = text.replace("{dir}", &self.dir);
        let mut parts = text.split("$fd");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let digits = part.len() - part.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            match part[..digits].parse::<usize>() {
                Ok(index) => {
                    let number =
                        index.checked_sub(1).and_then(|at| self.fds.get(at)).copied().unwrap_or(9999);
                    out.push_str(&number.to_string());
                    out.push_str(&part[digits..]);
                }
                Err(_) => {
                    out.push_str("$fd");
                    out.push_str(part);
                }
            }
        }
        out
    }

    fn name(&mut self, number: u64) -> String {
        let at = self.fds.iter().position(|&seen| seen == number).unwrap_or_else(|| {
            self.fds.push(number);
            self.fds.len() - 1
        });
        format!("<fd{}>", at + 1)
    }
}

/// Replaces every decimal number, with its sign, that follows `before`; `None` leaves it.
fn replace_numbers(line: &str, before: &str, mut with: impl FnMut(&str) -> Option<String>) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let unsigned = part.strip_prefix('-').unwrap_or(part);
        let digits = unsigned.len() - unsigned.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let end = part.len() - unsigned.len() + digits;
        out.push_str(before);
        match (digits > 0).then(|| with(&part[..end])).flatten() {
            Some(mask) => {
                out.push_str(&mask);
                out.push_str(&part[end..]);
            }
            None => out.push_str(part),
        }
    }
    out
}

/// `/machine/unattached/device[3]`, with or without `/rtc`: the number is an accident of the machine's making.
pub(super) fn mask_devices(line: &str) -> String {
    const BEFORE: &str = "/machine/unattached/device[";
    let mut parts = line.split(BEFORE);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(']') {
            Some((number, rest)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => {
                out.push_str("/machine/unattached/<dev>");
                out.push_str(rest.strip_prefix("/rtc").unwrap_or(rest));
            }
            _ => {
                out.push_str(BEFORE);
                out.push_str(part);
            }
        }
    }
    out
}

/// The quoted text that follows `before`.
fn mask_between(line: &str, before: &str, quote: char, mask: &str) -> String {
    let mut parts = line.split(before);
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        out.push_str(before);
        match part.strip_prefix(quote).and_then(|text| text.split_once(quote)) {
            Some((_, rest)) => {
                out.push_str(mask);
                out.push_str(rest);
            }
            None => out.push_str(part),
        }
    }
    out
}

/// The human monitor's banner.
fn mask_version(line: &str) -> String {
    let Some((start, rest)) = line.split_once("QEMU ") else { return line.to_owned() };
    let Some((version, end)) = rest.split_once(" monitor") else { return line.to_owned() };
    let dotted = version.split('.').count() == 3;
    if dotted && version.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return format!("{start}QEMU <v> monitor{end}");
    }
    line.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask() -> Mask {
        Mask::new(Path::new("/tmp/x1"))
    }

    #[test]
    fn times_versions_and_paths() {
        assert_eq!(
            mask().incoming(r#"{"timestamp": {"seconds": -1, "microseconds": 23}, "event": "STOP"}"#),
            r#"{"timestamp": {"seconds": <t>, "microseconds": <t>}, "event": "STOP"}"#
        );
        assert_eq!(
            mask().incoming(r#"{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian 1"}"#),
            r#"{"qemu": {"micro": <v>, "minor": <v>, "major": <v>}, "package": "<pkg>"}"#
        );
        assert_eq!(mask().incoming("unix:/tmp/x1/q0.sock"), "unix:{dir}/q0.sock");
        assert_eq!(mask().incoming("QEMU 7.2.22 monitor - type"), "QEMU <v> monitor - type");
        assert_eq!(mask().incoming("* a: thread_id=12"), "* a: thread_id=<tid>");
        assert_eq!(
            mask().incoming(r#"{"qom-path": "/machine/unattached/device[10]/rtc", "offset": -3}"#),
            r#"{"qom-path": "/machine/unattached/<dev>", "offset": <off>}"#
        );
        assert_eq!(mask().incoming(r#"{"seconds": "1"}"#), r#"{"seconds": "1"}"#);
    }

    #[test]
    fn descriptors_by_first_appearance() {
        let mut mask = mask();
        assert_eq!(
            mask.incoming(r#"{"fd": 14}, {"fd": 9}, {"fd": 14}"#),
            r#"{"fd": <fd1>}, {"fd": <fd2>}, {"fd": <fd1>}"#
        );
        assert_eq!(mask.incoming("fdset-id:0, fd:9 and, fd:8"), "fdset-id:0, fd:<fd2> and, fd:8");
        assert_eq!(mask.outgoing(r#"{"fd":$fd2} $fd7 $fdx {dir}"#), r#"{"fd":9} 9999 $fdx /tmp/x1"#);
    }
}
