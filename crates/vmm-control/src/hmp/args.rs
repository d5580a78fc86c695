//! The arguments that a human command's handler gets.

use super::format::ValueFormat;

/// The arguments of one line, by name. Those that were declared mandatory are there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HumanArgs(Vec<(&'static str, Value)>);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Text(String),
    Number(i64),
    Switch(bool),
    Format(ValueFormat),
}

impl HumanArgs {
    pub(super) fn insert(&mut self, name: &'static str, value: Value) {
        self.0.push((name, value));
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(present, _)| *present == name).map(|(_, value)| value)
    }

    /// The text of a string, a filename, options or the rest of the line; empty when it was left out.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.optional_text(name).unwrap_or_default()
    }

    /// The same; `None` when it was left out.
    #[must_use]
    pub fn optional_text(&self, name: &str) -> Option<&str> {
        if let Some(Value::Text(text)) = self.get(name) { Some(text) } else { None }
    }

    /// A number; `None` when it was left out. Sizes are in bytes.
    #[must_use]
    pub fn number(&self, name: &str) -> Option<i64> {
        if let Some(Value::Number(number)) = self.get(name) { Some(*number) } else { None }
    }

    /// Whether a flag was given, or a switch is on.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        matches!(self.get(name), Some(Value::Switch(true)))
    }

    /// How numbers shall be shown.
    #[must_use]
    pub fn format(&self, name: &str) -> ValueFormat {
        if let Some(Value::Format(format)) = self.get(name) { *format } else { ValueFormat::default() }
    }
}
