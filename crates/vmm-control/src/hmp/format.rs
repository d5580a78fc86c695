//! How a number is shown: the `/FORMAT` of `print`, `i` and `o`.
//!
//! A format that a command is given without is the last one that any command was given, on whichever monitor: it
//! belongs to the plane, as it belongs to QEMU's process.

use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::cursor::{Cursor, is_space};

/// How a number is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Radix {
    /// `x`: hexadecimal, with `0x`.
    #[default]
    Hexadecimal,
    /// `d`: decimal, with a sign.
    Decimal,
    /// `u`: decimal, without a sign.
    Unsigned,
    /// `o`: octal, with a `0` in front.
    Octal,
    /// `c`: as a character.
    Character,
    /// `i`: an instruction, where there are any; otherwise as `d`.
    Instruction,
}

/// A parsed `/FORMAT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ValueFormat {
    /// How numbers are shown.
    pub radix: Radix,
    /// `b`, `h`, `w` or `g`: 1, 2, 4 or 8 bytes. `None` for an instruction whose size was not given.
    pub size: Option<u8>,
}

impl Default for ValueFormat {
    fn default() -> Self {
        Self { radix: Radix::Hexadecimal, size: Some(4) }
    }
}

impl ValueFormat {
    /// Shows a number.
    #[must_use]
    pub fn show(&self, value: i64) -> String {
        match self.radix {
            Radix::Hexadecimal if value != 0 => format!("{value:#x}"),
            Radix::Octal if value != 0 => format!("0{value:o}"),
            Radix::Hexadecimal | Radix::Octal => "0".to_owned(),
            Radix::Unsigned => value.cast_unsigned().to_string(),
            Radix::Decimal | Radix::Instruction => value.to_string(),
            Radix::Character => character(value),
        }
    }
}

/// A character in quotation marks, or the low 32 bits as an escape.
fn character(value: i64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "QEMU shows an int")]
    let value = value as i32;
    match u8::try_from(value) {
        Ok(quoted @ (b'\'' | b'\\')) => format!("'\\{}'", char::from(quoted)),
        Ok(b'\n') => "'\\n'".to_owned(),
        Ok(b'\r') => "'\\r'".to_owned(),
        Ok(plain @ 32..=126) => format!("'{}'", char::from(plain)),
        _ => format!("'\\x{value:02x}'"),
    }
}

/// A character that no format has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid char in format: '{0}'")]
pub(super) struct FormatError(char);

/// The format that the next command without one gets.
#[derive(Debug, Default)]
pub(super) struct LastFormat(Mutex<ValueFormat>);

impl LastFormat {
    /// Reads a format if there is one, and remembers it. White space may stand before it.
    pub(super) fn read(&self, cursor: &mut Cursor<'_>) -> Result<ValueFormat, FormatError> {
        cursor.skip_spaces();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !cursor.pass_if(b'/') {
            let size = last.size.filter(|_| last.radix != Radix::Instruction);
            return Ok(ValueFormat { radix: last.radix, size });
        }
        // A count, which only dumps of memory use.
        cursor.take_while(|byte| byte.is_ascii_digit());
        let (mut radix, mut size) = (None, None);
        while let Some(byte) = cursor.peek() {
            match byte {
                b'x' => radix = Some(Radix::Hexadecimal),
                b'd' => radix = Some(Radix::Decimal),
                b'u' => radix = Some(Radix::Unsigned),
                b'o' => radix = Some(Radix::Octal),
                b'c' => radix = Some(Radix::Character),
                b'i' => radix = Some(Radix::Instruction),
                b'b' => size = Some(1),
                b'h' => size = Some(2),
                b'w' => size = Some(4),
                b'g' | b'L' => size = Some(8),
                _ => break,
            }
            cursor.pass();
        }
        if let Some(other) = cursor.peek_char()
            && !cursor.peek().is_some_and(is_space)
        {
            return Err(FormatError(other));
        }
        let radix = radix.unwrap_or(last.radix);
        if radix != Radix::Instruction {
            size = size.or(last.size);
            last.size = size;
        }
        last.radix = radix;
        Ok(ValueFormat { radix, size })
    }
}

/// `value` in at least `digits` hexadecimal places, its `0x` among them, as C's `%#0*x` has it: a zero has no `0x`.
pub(super) fn padded_hexadecimal(value: u32, digits: usize) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match value {
        0 => write!(text, "{value:0digits$}"),
        _ => write!(text, "{value:#0digits$x}"),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(last: &LastFormat, text: &str) -> Result<(ValueFormat, String), String> {
        let mut cursor = Cursor::new(text);
        let format = last.read(&mut cursor).map_err(|error| error.to_string())?;
        Ok((format, cursor.rest().to_owned()))
    }

    #[test]
    fn numbers_are_shown_as_c_does() {
        let show = |radix, value| ValueFormat { radix, size: None }.show(value);
        for (radix, value, text) in [
            (Radix::Hexadecimal, 255, "0xff"),
            (Radix::Hexadecimal, 0, "0"),
            (Radix::Hexadecimal, -1, "0xffffffffffffffff"),
            (Radix::Octal, 8, "010"),
            (Radix::Octal, 0, "0"),
            (Radix::Unsigned, -1, "18446744073709551615"),
            (Radix::Decimal, -5, "-5"),
            (Radix::Instruction, 5, "5"),
            (Radix::Character, 65, "'A'"),
            (Radix::Character, 39, "'\\''"),
            (Radix::Character, 92, "'\\\\'"),
            (Radix::Character, 10, "'\\n'"),
            (Radix::Character, 13, "'\\r'"),
            (Radix::Character, 9, "'\\x09'"),
            (Radix::Character, 0x80, "'\\x80'"),
            (Radix::Character, 0x141, "'\\x141'"),
            (Radix::Character, -1, "'\\xffffffff'"),
        ] {
            assert_eq!(show(radix, value), text, "{radix:?} {value}");
        }
        assert_eq!(padded_hexadecimal(0xff, 2), "0xff");
        assert_eq!(padded_hexadecimal(0xff, 8), "0x0000ff");
        assert_eq!(padded_hexadecimal(0, 2), "00");
    }

    #[test]
    fn the_last_format_stays() {
        let last = LastFormat::default();
        let format = |radix, size| ValueFormat { radix, size };
        assert_eq!(read(&last, " 5"), Ok((format(Radix::Hexadecimal, Some(4)), "5".into())));
        assert_eq!(read(&last, " /db 5"), Ok((format(Radix::Decimal, Some(1)), " 5".into())));
        assert_eq!(read(&last, "5"), Ok((format(Radix::Decimal, Some(1)), "5".into())));
        assert_eq!(read(&last, "/3xc"), Ok((format(Radix::Character, Some(1)), String::new())));
        assert_eq!(read(&last, "/i"), Ok((format(Radix::Instruction, None), String::new())));
        assert_eq!(read(&last, ""), Ok((format(Radix::Instruction, None), String::new())));
        assert_eq!(read(&last, "/L"), Ok((format(Radix::Instruction, Some(8)), String::new())));
        assert_eq!(read(&last, "/x"), Ok((format(Radix::Hexadecimal, Some(1)), String::new())));
        assert_eq!(read(&last, "/x5"), Err("invalid char in format: '5'".into()));
        assert_eq!(read(&last, "/é"), Err("invalid char in format: '\u{fffd}'".into()));
    }
}
