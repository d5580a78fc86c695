//! QEMU's `key=value,...` notation.
//!
//! ```text
//! list  = [ value ] { "," item }        the first item may be the value of an implied key
//! item  = key "=" value | key           `key` alone is on, `nokey` alone is `key` off (deprecated by QEMU)
//! ```
//!
//! A comma inside a value is written twice. A key ends at the first `=` or `,`. Splitting never fails: whether a
//! key exists and what its value must look like is for each option to say, so all complaints come in the order
//! in which QEMU makes them. Given twice, the later one counts.

use vmm_control::keyval::take_value;

use crate::config::NamedFdsScope;
use crate::error::{ConfigError, ErrorKind};

/// How an item was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `key=value`.
    Full,
    /// `value`, of the implied key.
    Implied,
    /// `key` or `nokey`.
    Short,
}

/// One `key=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The key; without its `no` where the short form had one. Can be empty (`=x`).
    pub key: String,
    /// The value, double commas made single; `on` or `off` for the short form.
    pub value: String,
    /// How it was written.
    pub form: Form,
}

impl Pair {
    /// The warning that QEMU prints for the short form; `None` for the others.
    #[must_use]
    pub fn short_form_warning(&self) -> Option<String> {
        (self.form == Form::Short).then(|| {
            format!(
                "short-form boolean option '{}' deprecated\nPlease use {}={} instead",
                self.as_written(),
                self.key,
                self.value
            )
        })
    }

    /// The key as it was written: with its `no` in the short form.
    #[must_use]
    pub fn as_written(&self) -> String {
        let no = if self.form == Form::Short && self.value == "off" { "no" } else { "" };
        format!("{no}{}", self.key)
    }

    /// The value as a switch: `on`, `yes`, `true`, `y` or `off`, `no`, `false`, `n`, in lower case.
    ///
    /// # Errors
    /// `Parameter 'x' expects 'on' or 'off'`.
    pub fn switch(&self) -> Result<bool, ConfigError> {
        match self.value.as_str() {
            "on" | "yes" | "true" | "y" => Ok(true),
            "off" | "no" | "false" | "n" => Ok(false),
            _ => Err(ErrorKind::on_off(&self.key).into()),
        }
    }

    /// The value as a number: decimal, `0x` hexadecimal or `0` octal, signed, as C's `strtoll` takes it.
    ///
    /// # Errors
    /// `Parameter 'x' expects a number`, or that it is too large for 64 bits.
    pub fn number(&self) -> Result<i64, ConfigError> {
        let text = self.value.trim_ascii_start();
        let (negative, digits) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let (radix, digits) = match digits.as_bytes() {
            [b'0', b'x' | b'X', _, ..] => (16, &digits[2..]),
            [b'0', _, ..] => (8, &digits[1..]),
            _ => (10, digits),
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return Err(ErrorKind::number(&self.key).into());
        }
        // The digits are known to be good, so what fails here is too large.
        let too_large = || ErrorKind::TooLarge { name: self.key.clone(), value: self.value.clone() };
        let value = i64::from_str_radix(digits, radix).map_err(|_| too_large())?;
        Ok(if negative { -value } else { value })
    }

    /// The value as a number of clients, 1 or more.
    ///
    /// # Errors
    /// `Parameter 'max-clients' expects a number from 1`, or what [`Pair::number`] says.
    pub fn clients(&self) -> Result<usize, ConfigError> {
        let wrong = || ErrorKind::Expects { name: self.key.clone(), expected: "a number from 1" };
        match usize::try_from(self.number()?) {
            Ok(count) if count > 0 => Ok(count),
            _ => Err(wrong().into()),
        }
    }

    /// The value as the owner of named fds.
    ///
    /// # Errors
    /// `Parameter 'named-fds' does not accept value 'x'`, with the nearest word that it does.
    pub fn scope(&self) -> Result<NamedFdsScope, ConfigError> {
        NamedFdsScope::from_word(&self.value)
            .ok_or_else(|| ErrorKind::choice(&self.key, &self.value, NamedFdsScope::WORDS))
    }

    /// The complaint that the key is none of `valid`, naming the nearest one.
    #[must_use]
    pub fn unknown(&self, valid: &[&str]) -> ConfigError {
        ConfigError::new(ErrorKind::InvalidParameter(self.key.clone())).near(
            &self.key,
            "",
            valid.iter().copied(),
        )
    }
}

/// Takes `text` apart. `implied` is the key that a first item without `=` is the value of.
///
/// ```
/// use vmmd::cli::keyval::split;
/// let pairs = split("socket,path=a,,b,nowait", Some("backend"));
/// let pairs: Vec<_> = pairs.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
/// assert_eq!(pairs, [("backend", "socket"), ("path", "a,b"), ("wait", "off")]);
/// ```
#[must_use]
pub fn split(text: &str, implied: Option<&str>) -> Vec<Pair> {
    let mut pairs = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(['=', ',']).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        if let Some(after) = after.strip_prefix('=') {
            let (value, next) = take_value(after);
            pairs.push(Pair { key: name.to_owned(), value, form: Form::Full });
            rest = next;
        } else if let (Some(key), true) = (implied, pairs.is_empty()) {
            let (value, next) = take_value(rest);
            pairs.push(Pair { key: key.to_owned(), value, form: Form::Implied });
            rest = next;
        } else {
            let (key, value) = match name.strip_prefix("no") {
                Some(key) => (key, "off"),
                None => (name, "on"),
            };
            pairs.push(Pair { key: key.to_owned(), value: value.to_owned(), form: Form::Short });
            rest = after.strip_prefix(',').unwrap_or(after);
        }
    }
    pairs
}

/// Writes `pairs` as one text that [`split`] takes apart into the same keys and values.
///
/// Keys must not hold `=` or `,`. The short form is written out, the implied one where it would be understood.
#[must_use]
pub fn join(pairs: &[Pair]) -> String {
    let mut text = String::new();
    for (index, pair) in pairs.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        let bare = index == 0
            && pair.form == Form::Implied
            && !pair.value.contains('=')
            && !(pair.value.is_empty() && pairs.len() == 1);
        if !bare {
            text.push_str(&pair.key);
            text.push('=');
        }
        text.push_str(&pair.value.replace(',', ",,"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plain(text: &str, implied: Option<&str>) -> Vec<(String, String)> {
        split(text, implied).into_iter().map(|p| (p.key, p.value)).collect()
    }

    fn pair(key: &str, value: &str) -> Pair {
        Pair { key: key.into(), value: value.into(), form: Form::Full }
    }

    #[test]
    fn the_corners_as_qemu_takes_them() {
        let own = |list: &[(&str, &str)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        assert_eq!(plain("", Some("x")), own(&[]));
        assert_eq!(plain("a,,b", Some("x")), own(&[("x", "a,b")]));
        assert_eq!(plain("a,,,b", Some("x")), own(&[("x", "a,"), ("b", "on")]));
        assert_eq!(plain("a,", Some("x")), own(&[("x", "a")]));
        assert_eq!(plain(",a", Some("x")), own(&[("x", ""), ("a", "on")]));
        assert_eq!(plain("a", None), own(&[("a", "on")]));
        assert_eq!(plain("=,k=v=w", Some("x")), own(&[("", ""), ("k", "v=w")]));
        assert_eq!(plain("noserver,wait", None), own(&[("server", "off"), ("wait", "on")]));
    }

    #[test]
    fn switches_take_eight_words() {
        for word in ["on", "yes", "true", "y"] {
            assert_eq!(pair("a", word).switch(), Ok(true));
        }
        for word in ["off", "no", "false", "n"] {
            assert_eq!(pair("a", word).switch(), Ok(false));
        }
        for word in ["ON", "1", "0", "", "maybe"] {
            assert_eq!(
                pair("a", word).switch().unwrap_err().to_string(),
                "Parameter 'a' expects 'on' or 'off'"
            );
        }
    }

    #[test]
    fn numbers_are_those_of_c() {
        for (text, value) in [("9", 9), ("0", 0), ("0x1F", 31), ("010", 8), (" 9", 9), ("-3", -3), ("+4", 4)]
        {
            assert_eq!(pair("a", text).number(), Ok(value), "{text}");
        }
        for text in ["", "x", "9 ", "09", "1.5", "1k", "0x", "-", "--1"] {
            assert_eq!(
                pair("a", text).number().unwrap_err().to_string(),
                "Parameter 'a' expects a number",
                "{text}"
            );
        }
        assert_eq!(
            pair("a", "99999999999999999999").number().unwrap_err().to_string(),
            "Value '99999999999999999999' is too large for parameter 'a'"
        );
    }

    #[test]
    fn the_short_form_is_warned_of() {
        let warnings: Vec<_> =
            split("a=on,nowait,server", None).iter().map(Pair::short_form_warning).collect();
        assert_eq!(
            warnings,
            [
                None,
                Some("short-form boolean option 'nowait' deprecated\nPlease use wait=off instead".to_owned()),
                Some(
                    "short-form boolean option 'server' deprecated\nPlease use server=on instead".to_owned()
                ),
            ]
        );
    }

    proptest! {
        #[test]
        fn what_join_writes_split_reads(
            first in proptest::option::of("\\PC{0,6}|[,=a]{0,6}"),
            rest in proptest::collection::vec(("[a-z0-9.-]{0,6}", "\\PC{0,6}|[,=a]{0,6}"), 0..5),
        ) {
            let mut pairs: Vec<Pair> = Vec::new();
            if let Some(value) = first {
                pairs.push(Pair { key: "implied".into(), value, form: Form::Implied });
            }
            pairs.extend(rest.into_iter().map(|(key, value)| Pair { key, value, form: Form::Full }));
            let again = plain(&join(&pairs), Some("implied"));
            let wanted: Vec<_> = pairs.into_iter().map(|p| (p.key, p.value)).collect();
            prop_assert_eq!(again, wanted);
        }

        #[test]
        fn any_text_splits_and_comes_back(text in "\\PC{0,24}|[,=an]{0,24}", implied: bool) {
            let implied = implied.then_some("implied");
            let pairs = split(&text, implied);
            let again = plain(&join(&pairs), implied);
            let wanted: Vec<_> = pairs.iter().map(|p| (p.key.clone(), p.value.clone())).collect();
            prop_assert_eq!(again, wanted);
            for pair in &pairs {
                let _ = (pair.number(), pair.switch(), pair.clients(), pair.scope());
            }
        }
    }
}
