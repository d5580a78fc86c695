//! The dialect with flat keys, and switches that stand alone.

use super::tree::take_value;

/// The items of a text of `key=value,...`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options(Vec<OptionItem>);

/// One item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionItem {
    /// The key; without its `no` where that was a switch's. Can be empty (`=x`).
    pub key: String,
    /// The value, double commas made single; `on` or `off` of a switch that stood alone.
    pub value: String,
    /// The switch as it stood alone, which QEMU deprecates.
    pub short_form: Option<String>,
}

impl OptionItem {
    /// QEMU's warning about a switch that stood alone: two lines.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        self.short_form.as_ref().map(|written| {
            format!(
                "warning: short-form boolean option '{written}' deprecated\nPlease use {}={} instead\n",
                self.key, self.value
            )
        })
    }
}

impl Options {
    /// Takes a text apart; there is nothing that could be wrong with it. `implied` is the key of a first item that has
    /// no `=`.
    ///
    /// ```
    /// use vmm_control::keyval::Options;
    /// let options = Options::parse("socket,path=a,,b,nowait", Some("backend"));
    /// assert_eq!(options.get("backend"), Some("socket"));
    /// assert_eq!(options.get("path"), Some("a,b"));
    /// assert_eq!(options.get("wait"), Some("off"));
    /// ```
    #[must_use]
    pub fn parse(text: &str, implied: Option<&str>) -> Self {
        let mut items = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(['=', ',']).unwrap_or(rest.len());
            let (name, after) = rest.split_at(end);
            let (key, value, short_form);
            if let Some(after) = after.strip_prefix('=') {
                (value, rest) = take_value(after);
                (key, short_form) = (name, None);
            } else if let (Some(implied), true) = (implied, items.is_empty()) {
                (value, rest) = take_value(rest);
                (key, short_form) = (implied, None);
            } else {
                let (switch, state) = match name.strip_prefix("no") {
                    Some(switch) => (switch, "off"),
                    None => (name, "on"),
                };
                (key, value, short_form) = (switch, state.to_owned(), Some(name.to_owned()));
                rest = after.strip_prefix(',').unwrap_or(after);
            }
            items.push(OptionItem { key: key.to_owned(), value, short_form });
        }
        Self(items)
    }

    /// The items in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, OptionItem> {
        self.0.iter()
    }

    /// The value of a key; the last one's, when there are several.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().rfind(|item| item.key == key).map(|item| &*item.value)
    }

    /// The first value of a key. QEMU takes an option's id from the first one.
    #[must_use]
    pub fn first(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|item| item.key == key).map(|item| &*item.value)
    }
}

impl<'a> IntoIterator for &'a Options {
    type Item = &'a OptionItem;
    type IntoIter = std::slice::Iter<'a, OptionItem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn switches_may_stand_alone() {
        let options = Options::parse("e1000,multifunction,norombar,id=a,id=b,=x", Some("driver"));
        let items: Vec<_> = options.iter().map(|item| (&*item.key, &*item.value)).collect();
        let expected = [
            ("driver", "e1000"),
            ("multifunction", "on"),
            ("rombar", "off"),
            ("id", "a"),
            ("id", "b"),
            ("", "x"),
        ];
        assert_eq!(items, expected);
        assert_eq!((options.first("id"), options.get("id")), (Some("a"), Some("b")));
        let warnings: Vec<_> = options.iter().filter_map(OptionItem::warning).collect();
        assert_eq!(
            warnings[1],
            "warning: short-form boolean option 'norombar' deprecated\nPlease use rombar=off instead\n"
        );
        assert_eq!(Options::parse("null,,id=c", Some("backend")).get("backend"), Some("null,id=c"));
        assert_eq!(Options::parse("null,id=c,", Some("backend")).iter().count(), 2);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[no,=é]{0,40}") {
            let _ = Options::parse(&text, Some("type"));
        }
    }
}
