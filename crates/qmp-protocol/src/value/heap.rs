//! What a value takes up, for those who count it.

use super::{Object, Value};
use crate::message::{Malformed, Message, Request};

/// What an allocation takes beside what is in it, roughly: the allocator's own words, and rounding.
const OVERHEAD: usize = 16;

/// Heap memory of an allocation of so many bytes; none for none.
pub(super) fn allocation(bytes: usize) -> usize {
    if bytes == 0 { 0 } else { bytes + OVERHEAD }
}

fn of_text(text: &String) -> usize {
    allocation(text.capacity())
}

impl Value {
    /// Heap memory that it takes up, in bytes: capacities, and a few bytes for each allocation. Takes as long as visiting
    /// all of it. A value may take up many times as much as its text.
    ///
    /// ```
    /// # use qmp_protocol::Value;
    /// let text = format!("[{}]", "[],".repeat(999) + "[]");
    /// let value = Value::from_json(text.as_bytes()).unwrap();
    /// assert!(value.heap_bytes() > 8 * text.len());
    /// assert_eq!(Value::from(1_i64).heap_bytes(), 0);
    /// ```
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) | Self::Number(_) => 0,
            Self::String(text) => of_text(text),
            Self::Array(values) => {
                let own = allocation(values.capacity() * size_of::<Self>());
                own + values.iter().map(Self::heap_bytes).sum::<usize>()
            }
            Self::Object(members) => members.heap_bytes(),
        }
    }
}

impl Object {
    /// Heap memory that it takes up, as [`Value::heap_bytes`].
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let members = self.members.iter();
        self.own_heap_bytes() + members.map(|(key, value)| of_text(key) + value.heap_bytes()).sum::<usize>()
    }
}

impl Message {
    /// Heap memory that it takes up, as [`Value::heap_bytes`].
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Request(request) => request.heap_bytes(),
            Self::Malformed(Malformed { error, id, .. }) => {
                error.desc.len() + id.as_ref().map_or(0, Value::heap_bytes)
            }
        }
    }
}

impl Request {
    /// Heap memory that it takes up, as [`Value::heap_bytes`].
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        let arguments = self.arguments.as_ref().map_or(0, Object::heap_bytes);
        of_text(&self.execute) + arguments + self.id.as_ref().map_or(0, Value::heap_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_in_a_value_counts() {
        let value = |text: &str| Value::from_json(text.as_bytes()).unwrap().heap_bytes();
        assert_eq!(value("1"), 0);
        assert!(value("\"0123456789\"") >= 10);
        assert!(value("[1,2,3]") >= 3 * size_of::<Value>());
        assert!(value("{\"0123456789\":[1,2,3]}") >= value("[1,2,3]") + 10);
        let keys: Vec<_> = (0..1000).map(|n| format!("\"{n}\":{n}")).collect();
        let indexed = value(&format!("{{{}}}", keys.join(",")));
        assert!(indexed >= 1000 * (size_of::<(String, Value)>() + 2 * size_of::<usize>()), "{indexed}");
    }

    #[test]
    fn a_messages_id_and_arguments_count() {
        let request = |text: &str| {
            let mut decoder = crate::Decoder::new(crate::Limits::default());
            decoder.next(&mut text.as_bytes()).unwrap().heap_bytes()
        };
        let plain = request("{\"execute\":\"stop\"}");
        assert!(request("{\"execute\":\"stop\",\"id\":[1,2,3]}") >= plain + 3 * size_of::<Value>());
        assert!(
            request("{\"execute\":\"stop\",\"arguments\":{\"a\":[1,2,3]}}") >= plain + 4 * size_of::<Value>()
        );
        assert!(request("{\"id\":\"0123456789\"}") >= 10, "malformed ones too");
    }
}
