//! Number tokens to numbers.

use crate::value::Number;

/// The number that an integer token stands for: the first of `i64`, `u64` and `f64` that holds it.
pub(super) fn integer(text: &[u8]) -> Number {
    let text = std::str::from_utf8(text).unwrap_or_default();
    if let Ok(value) = text.parse::<i64>() {
        Number::I64(value)
    } else if let Ok(value) = text.parse::<u64>() {
        Number::U64(value)
    } else {
        Number::F64(text.parse().unwrap_or_default())
    }
}

/// The double that a token with a fraction or an exponent stands for: the nearest one, or an infinite one.
pub(super) fn float(text: &[u8]) -> Number {
    Number::F64(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_take_the_first_type_that_holds_them() {
        assert_eq!(integer(b"-0"), Number::I64(0));
        assert_eq!(integer(b"9223372036854775807"), Number::I64(i64::MAX));
        assert_eq!(integer(b"9223372036854775808"), Number::U64(1 << 63));
        assert_eq!(integer(b"18446744073709551616"), Number::F64(18_446_744_073_709_551_616.0));
        assert_eq!(integer(b"-9223372036854775809"), Number::F64(-9_223_372_036_854_775_808.0));
    }

    #[test]
    fn doubles_may_overflow_and_vanish() {
        assert_eq!(float(b"1e400"), Number::F64(f64::INFINITY));
        assert_eq!(float(b"-1e400"), Number::F64(f64::NEG_INFINITY));
        assert_eq!(float(b"1e-400"), Number::F64(0.0));
        assert_eq!(float(b"1e99999999999999999999"), Number::F64(f64::INFINITY));
    }
}
