//! Numbers, sizes and switches as QEMU reads them from text.

/// White space as C's `isspace` has it: Rust's lacks the vertical tab.
pub(crate) fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The unit of a size without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Byte,
    /// Mebibytes.
    #[cfg(any(feature = "hmp", test))]
    Mebi,
}

/// A signed number, as C's `strtoll` with base 0 reads it, to the text's end. `None` when it is none or does not fit.
pub(crate) fn signed(text: &str) -> Option<i64> {
    let (negative, magnitude) = magnitude(text)?;
    if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() }
}

/// An unsigned number likewise; a negative one is its two's complement.
pub(crate) fn unsigned(text: &str) -> Option<u64> {
    let (negative, magnitude) = magnitude(text)?;
    Some(if negative { magnitude.wrapping_neg() } else { magnitude })
}

/// Sign and magnitude of a whole text.
fn magnitude(text: &str) -> Option<(bool, u64)> {
    let text = text.trim_start_matches(|c: char| c.is_ascii_whitespace() || c == '\x0b');
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match digits.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &digits[2..]),
        [b'0', ..] => (8, digits),
        _ => (10, digits),
    };
    // Rust would take another sign here.
    if !digits.bytes().all(|byte| char::from(byte).is_digit(radix)) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok().map(|magnitude| (negative, magnitude))
}

/// A finite number with a fraction, to the text's end.
pub(crate) fn double(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

/// A size in bytes, to the text's end.
pub(crate) fn size(text: &str) -> Option<u64> {
    leading_size(text, Unit::Byte).filter(|&(_, length)| length == text.len()).map(|(size, _)| size)
}

/// The size that a text begins with, in bytes, and how many bytes of the text it takes. Its unit is `B`, `K`, `M`, `G`,
/// `T`, `P` or `E` in either case, or `default`; it may have a fraction, but not of a byte, and not in hexadecimal.
/// Halves are rounded up.
pub(crate) fn leading_size(text: &str, default: Unit) -> Option<(u64, usize)> {
    let bytes = text.as_bytes();
    let digits = |from: usize, radix| {
        bytes[from..].iter().take_while(|&&byte| char::from(byte).is_digit(radix)).count()
    };
    let mut at = bytes.iter().take_while(|&&byte| is_space(byte)).count();
    at += usize::from(bytes.get(at) == Some(&b'+'));
    let (whole, fraction);
    if let [b'0', b'x' | b'X', digit, ..] = bytes.get(at..)?
        && digit.is_ascii_hexdigit()
    {
        let length = digits(at + 2, 16);
        whole = u64::from_str_radix(&text[at + 2..at + 2 + length], 16).ok()?;
        fraction = 0;
        at += 2 + length;
        if bytes.get(at) == Some(&b'.') {
            return None;
        }
    } else {
        let length = digits(at, 10);
        whole = text[at..at + length].parse().ok()?;
        at += length;
        fraction = if bytes.get(at) == Some(&b'.') {
            let length = digits(at + 1, 10);
            let start = at;
            at += 1 + length;
            // An exponent, as C would read one.
            if let Some(b'e' | b'E') = bytes.get(at)
                && bytes[at + 1..].iter().find(|&&b| b != b'+' && b != b'-').is_some_and(u8::is_ascii_digit)
            {
                return None;
            }
            fixed_point(&text[start..at])
        } else {
            0
        };
    }
    let unit = bytes.get(at).and_then(|&byte| exponent(byte));
    at += usize::from(unit.is_some());
    let shift = unit.unwrap_or(match default {
        Unit::Byte => 0,
        #[cfg(any(feature = "hmp", test))]
        Unit::Mebi => 20,
    });
    if shift == 0 {
        return (fraction == 0).then_some((whole, at));
    }
    let scaled = ((u128::from(whole) << 64) | u128::from(fraction)).checked_mul(1 << shift)?;
    let rounded = scaled.checked_add(1 << 63)? >> 64;
    Some((u64::try_from(rounded).ok()?, at))
}

/// `.5` as a multiple of 2^-64.
fn fixed_point(text: &str) -> u64 {
    let value: f64 = format!("0{text}0").parse().unwrap_or_default();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is at least 0, and what is rounded up to 1 saturates"
    )]
    let fixed = (value * 18_446_744_073_709_551_616.0) as u64;
    fixed
}

/// How far a unit shifts a number.
fn exponent(unit: u8) -> Option<u32> {
    Some(match unit.to_ascii_uppercase() {
        b'B' => 0,
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        b'P' => 50,
        b'E' => 60,
        _ => return None,
    })
}

/// A switch: `on`, `yes`, `true`, `y` or `off`, `no`, `false`, `n`.
pub(crate) fn switch(text: &str) -> Option<bool> {
    match text {
        "on" | "yes" | "true" | "y" => Some(true),
        "off" | "no" | "false" | "n" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_are_cs() {
        for (text, value) in [
            ("5", Some(5)),
            (" -5", Some(-5)),
            ("+0x1F", Some(31)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("--5", None),
            ("0x", None),
            ("08", None),
            ("5k", None),
            ("5 ", None),
            ("1.5", None),
        ] {
            assert_eq!(signed(text), value, "{text:?}");
        }
        assert_eq!(unsigned("-1"), Some(u64::MAX));
        assert_eq!(unsigned("18446744073709551616"), None);
        assert_eq!(double("1.5e3"), Some(1500.0));
        assert_eq!(double("inf"), None);
    }

    #[test]
    fn sizes_have_units() {
        for (text, value) in [
            ("0", Some(0)),
            ("1k", Some(1024)),
            ("1.5M", Some(3 << 19)),
            ("1.k", Some(1024)),
            ("0x10", Some(16)),
            ("0x10k", Some(16 << 10)),
            ("7B", Some(7)),
            ("15E", Some(15 << 60)),
            ("18446744073709551615", Some(u64::MAX)),
            ("16E", None),
            ("1.5", None),
            ("1.5B", None),
            ("0x1.8k", None),
            ("1.5e1M", None),
            ("1.5E", Some(3 << 59)),
            ("-1", None),
            ("x", None),
            ("", None),
            ("1Q", None),
            ("1kk", None),
            (" 1k", Some(1024)),
        ] {
            assert_eq!(size(text), value, "{text:?}");
        }
        assert_eq!(leading_size("2 x", Unit::Mebi), Some((2 << 20, 1)));
        assert_eq!(leading_size("2bx", Unit::Mebi), Some((2, 2)));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-+ .0-9a-fxXkMEeé]{0,24}") {
            let _ = (signed(&text), unsigned(&text), double(&text), size(&text));
        }

        #[test]
        fn every_number_is_itself(value in any::<i64>()) {
            prop_assert_eq!(signed(&value.to_string()), Some(value));
            prop_assert_eq!(unsigned(&value.to_string()), Some(value.cast_unsigned()));
            prop_assert_eq!(size(&value.cast_unsigned().to_string()), Some(value.cast_unsigned()));
        }
    }
}
