//! The dialect with flat keys, and switches that stand alone.

use qmp_protocol::{Object, Value};

use super::tree::take_value;

/// The items of a text of `key=value,...`, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    items: Vec<OptionItem>,
    id: Option<String>,
}

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
    /// Whether it is `help` or `?` alone.
    #[must_use]
    pub fn asks_for_help(&self) -> bool {
        matches!(self.short_form.as_deref(), Some("help" | "?"))
    }

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
        let id = items(text, None).into_iter().find(|item| item.key == "id").map(|item| item.value);
        Self { items: items(text, implied), id }
    }

    /// The items in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, OptionItem> {
        self.items.iter()
    }

    /// The value of a key; the last one's, when there are several.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.items.iter().rfind(|item| item.key == key).map(|item| &*item.value)
    }

    /// The id: the first one's, when there are several, and found as if no key were implied.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The arguments of a command, as texts: of several ids the first, and of everything else the last.
    ///
    /// ```
    /// use vmm_control::keyval::Options;
    /// let device = Options::parse("d,id=a,level=1,level=2,id=b", Some("driver")).arguments();
    /// assert_eq!(device.get("id").and_then(|id| id.as_str()), Some("a"));
    /// assert_eq!(device.get("level").and_then(|level| level.as_str()), Some("2"));
    /// ```
    #[must_use]
    pub fn arguments(&self) -> Object {
        let mut arguments: Object =
            self.items.iter().map(|item| (item.key.clone(), Value::from(item.value.as_str()))).collect();
        if let Some(id) = self.id() {
            arguments.insert("id".to_owned(), id.into());
        }
        arguments
    }

    /// Whether one of the items is `help` or `?` alone.
    #[must_use]
    pub fn asks_for_help(&self) -> bool {
        self.items.iter().any(OptionItem::asks_for_help)
    }
}

/// The one switch whose name begins with `no`.
const NODELAY: &str = "nodelay";

fn items(text: &str, implied: Option<&str>) -> Vec<OptionItem> {
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
                Some(switch) if name != NODELAY => (switch, "off"),
                _ => (name, "on"),
            };
            (key, value, short_form) = (switch, state.to_owned(), Some(name.to_owned()));
            rest = after.strip_prefix(',').unwrap_or(after);
        }
        items.push(OptionItem { key: key.to_owned(), value, short_form });
    }
    items
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
        assert_eq!((options.id(), options.get("id")), (Some("a"), Some("b")));
        let warnings: Vec<_> = options.iter().filter_map(OptionItem::warning).collect();
        assert_eq!(
            warnings[1],
            "warning: short-form boolean option 'norombar' deprecated\nPlease use rombar=off instead\n"
        );
        assert_eq!(Options::parse("socket,nodelay", Some("backend")).get("nodelay"), Some("on"));
        let double = Options::parse("null,,id=c", Some("backend"));
        assert_eq!((double.get("backend"), double.id()), (Some("null,id=c"), Some("c")));
        assert!(Options::parse("null,id=c,?", Some("backend")).asks_for_help());
        assert!(!Options::parse("help,id=help", Some("backend")).asks_for_help());
        assert_eq!(Options::parse("null,id=c,", Some("backend")).iter().count(), 2);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[no,=é]{0,40}") {
            let _ = Options::parse(&text, Some("type"));
        }
    }
}
