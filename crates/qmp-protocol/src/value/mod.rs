//! JSON values in memory.
//!
//! They are what QEMU's dialect can say and nothing more: integers keep their 64 bits, doubles may be infinite
//! (`1e400`), an object's keys are unique. Comparing two objects ignores the order of their members.

mod deserialize;
mod heap;
mod object;
mod serialize;
mod to_value;

pub use object::{Iter, Object};
pub use to_value::to_value;

/// A JSON number, as QEMU reads it: the first of `i64`, `u64` and `f64` that holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer that fits.
    I64(i64),
    /// An integer above `i64::MAX`, never a smaller one.
    U64(u64),
    /// Anything with a fraction or an exponent, and integers beyond 64 bits. May be infinite.
    F64(f64),
}

/// A JSON value.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    /// `null`
    #[default]
    Null,
    /// `true` or `false`
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string; may contain U+0000.
    String(String),
    /// A list.
    Array(Vec<Value>),
    /// An object.
    Object(Object),
}

impl Value {
    /// The truth value, if it is one.
    pub fn as_bool(&self) -> Option<bool> {
        if let Self::Bool(value) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one that fits. A double is not an integer, even `1.0`.
    pub fn as_i64(&self) -> Option<i64> {
        if let Self::Number(Number::I64(value)) = self { Some(*value) } else { None }
    }

    /// The integer, if it is one and not negative. A double is not an integer, even `1.0`.
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Number(Number::I64(value)) => u64::try_from(*value).ok(),
            Self::Number(Number::U64(value)) => Some(*value),
            _ => None,
        }
    }

    /// Any number as a double, rounded where it must be.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Self::Number(Number::I64(value)) => Some(*value as f64),
            Self::Number(Number::U64(value)) => Some(*value as f64),
            Self::Number(Number::F64(value)) => Some(*value),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        if let Self::String(value) = self { Some(value) } else { None }
    }

    /// The list, if it is one.
    pub fn as_array(&self) -> Option<&[Value]> {
        if let Self::Array(values) = self { Some(values) } else { None }
    }

    /// The object, if it is one.
    pub fn as_object(&self) -> Option<&Object> {
        if let Self::Object(members) = self { Some(members) } else { None }
    }

    /// True for `null`.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    /// The member `key`, if this is an object that has one.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_object()?.get(key)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(Number::from(value))
    }
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Self::Number(Number::from(value))
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Self::Number(Number::from(value))
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Vec<Value>> for Value {
    fn from(values: Vec<Value>) -> Self {
        Self::Array(values)
    }
}

impl From<Object> for Value {
    fn from(members: Object) -> Self {
        Self::Object(members)
    }
}

impl From<i64> for Number {
    fn from(value: i64) -> Self {
        Self::I64(value)
    }
}

impl From<u64> for Number {
    fn from(value: u64) -> Self {
        i64::try_from(value).map_or(Self::U64(value), Self::I64)
    }
}

impl From<f64> for Number {
    fn from(value: f64) -> Self {
        Self::F64(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unsigned_number_takes_the_signed_form_where_it_fits() {
        assert_eq!(Value::from(7_u64), Value::from(7_i64));
        assert_eq!(Value::from(u64::MAX), Value::Number(Number::U64(u64::MAX)));
        assert_eq!(Value::from(7_i64).as_u64(), Some(7));
        assert_eq!(Value::from(-7_i64).as_u64(), None);
        assert_eq!(Value::from(u64::MAX).as_i64(), None);
    }

    #[test]
    fn a_double_is_never_an_integer() {
        assert_eq!(Value::from(1.0).as_i64(), None);
        assert_eq!(Value::from(1.0).as_f64(), Some(1.0));
    }

    #[test]
    fn a_value_stays_small() {
        assert!(size_of::<Value>() <= 32);
    }
}
