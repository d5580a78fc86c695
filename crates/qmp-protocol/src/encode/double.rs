//! Doubles as C's `%.17g` prints them: seventeen digits, which bring any double back exactly, trailing zeros dropped.

use std::io::{Result, Write};

/// Significant digits.
const DIGITS: i32 = 17;

/// Writes `value`; an infinite one as `inf` or `-inf`, which is no JSON, but what QEMU does.
pub(super) fn write<W: ?Sized + Write>(writer: &mut W, value: f64) -> Result<()> {
    if !value.is_finite() {
        let sign = if value.is_sign_negative() { "-" } else { "" };
        return write!(writer, "{sign}{}", if value.is_nan() { "nan" } else { "inf" });
    }
    // `-d.dddddddddddddddde-ddd`: 17 digits, then the exponent of the first one.
    let scientific = format!("{value:.16e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return Ok(()) };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = usize::try_from(DIGITS - 1 - exponent).unwrap_or(0);
        writer.write_all(stripped(&format!("{value:.decimals$}")).as_bytes())
    } else {
        let sign = if exponent < 0 { '-' } else { '+' };
        write!(writer, "{}e{sign}{:02}", stripped(mantissa), exponent.unsigned_abs())
    }
}

/// Without the zeros after the last digit of a fraction, and without a fraction that is empty then.
fn stripped(number: &str) -> &str {
    if number.contains('.') { number.trim_end_matches('0').trim_end_matches('.') } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: f64) -> String {
        let mut out = Vec::new();
        write(&mut out, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_print_as_recorded() {
        for (value, text) in [
            (0.1, "0.10000000000000001"),
            (1.0, "1"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1e3, "1000"),
            (100_000.0, "100000"),
            (-1.25e-3, "-0.00125"),
            (1.5, "1.5"),
            (0.333_333_333_333_333_3, "0.33333333333333331"),
            (1e-7, "9.9999999999999995e-08"),
            (1e300, "1.0000000000000001e+300"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (18_446_744_073_709_551_616.0, "1.8446744073709552e+19"),
            (-9_223_372_036_854_775_809.0, "-9.2233720368547758e+18"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (5e-324, "4.9406564584124654e-324"),
            (f64::MAX, "1.7976931348623157e+308"),
        ] {
            assert_eq!(shown(value), text);
        }
    }

    #[test]
    fn a_digit_in_the_middle_rounds_to_even() {
        assert_eq!(shown(2.0_f64.powi(-25)), "2.9802322387695312e-08");
        assert_eq!(shown(3.0 * 2.0_f64.powi(-25)), "8.9406967163085938e-08");
    }
}
