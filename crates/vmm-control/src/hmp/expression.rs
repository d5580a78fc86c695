//! The arithmetic of the human monitor: what `print`, `i`, `o` and `cpu` take for a number.
//!
//! ```text
//! sum     = logic   { ( "+" | "-" ) logic }
//! logic   = product { ( "&" | "|" | "^" ) product }       binds stronger than "+", unlike in C
//! product = unary   { ( "*" | "/" | "%" ) unary }
//! unary   = { "+" | "-" | "~" } ( number | "'" byte "'" | "$" register | "(" sum ")" )
//! ```
//!
//! Everything is 64 bits wide and wraps. A number is C's: `0x` hexadecimal, `0` octal, else decimal. There are no
//! registers here: no guest code runs that would have any.
//!
//! Whatever a client writes, evaluation ends, never panics and needs little stack: signs are folded as they are read, and
//! parentheses may be nested [`MAX_DEPTH`] deep.

use super::cursor::{Cursor, is_space};

/// How deep parentheses may be nested. QEMU has no limit but its stack.
pub(super) const MAX_DEPTH: u32 = 200;

/// What is wrong with an expression, as the user sees it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ExpressionError {
    #[error("unexpected end of expression")]
    End,
    #[error("invalid char '{0}' in expression")]
    InvalidChar(char),
    #[error("')' expected")]
    ParenthesisExpected,
    #[error("character constant expected")]
    CharacterExpected,
    #[error("missing terminating ' character")]
    UnterminatedCharacter,
    #[error("unknown register")]
    UnknownRegister,
    #[error("number too large")]
    TooLarge,
    #[error("division by zero")]
    DivisionByZero,
    #[error("expression nested too deeply")]
    TooDeep,
}

/// Reads one expression and says its value. The cursor stands behind it, and behind white space, afterwards.
pub(super) fn evaluate(cursor: &mut Cursor<'_>) -> Result<i64, ExpressionError> {
    cursor.skip_spaces();
    binary(cursor, Level::Sum, 0)
}

/// How strongly an operator binds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Sum,
    Logic,
    Product,
}

fn level(operator: u8) -> Option<Level> {
    match operator {
        b'+' | b'-' => Some(Level::Sum),
        b'&' | b'|' | b'^' => Some(Level::Logic),
        b'*' | b'/' | b'%' => Some(Level::Product),
        _ => None,
    }
}

/// Operands joined by operators that bind as strongly as `least`, or stronger. All of them associate to the left.
fn binary(cursor: &mut Cursor<'_>, least: Level, depth: u32) -> Result<i64, ExpressionError> {
    let mut left = unary(cursor, depth)?;
    while let Some((operator, level)) = cursor.peek().and_then(|byte| Some((byte, level(byte)?)))
        && level >= least
    {
        pass_token(cursor);
        let right = match level {
            Level::Sum => binary(cursor, Level::Logic, depth)?,
            Level::Logic => binary(cursor, Level::Product, depth)?,
            Level::Product => unary(cursor, depth)?,
        };
        left = apply(operator, left, right)?;
    }
    Ok(left)
}

fn apply(operator: u8, left: i64, right: i64) -> Result<i64, ExpressionError> {
    Ok(match operator {
        b'/' | b'%' if right == 0 => return Err(ExpressionError::DivisionByZero),
        b'+' => left.wrapping_add(right),
        b'-' => left.wrapping_sub(right),
        b'&' => left & right,
        b'|' => left | right,
        b'^' => left ^ right,
        b'/' => left.wrapping_div(right),
        b'%' => left.wrapping_rem(right),
        _ => left.wrapping_mul(right),
    })
}

/// An operand with its signs. Any row of signs makes `factor * n + offset` of the number behind them.
fn unary(cursor: &mut Cursor<'_>, depth: u32) -> Result<i64, ExpressionError> {
    let (mut factor, mut offset) = (1_i64, 0_i64);
    while let Some(sign @ (b'+' | b'-' | b'~')) = cursor.peek() {
        pass_token(cursor);
        if sign == b'~' {
            // ~n is -n - 1
            offset = offset.wrapping_sub(factor);
        }
        if sign != b'+' {
            factor = -factor;
        }
    }
    Ok(operand(cursor, depth)?.wrapping_mul(factor).wrapping_add(offset))
}

fn operand(cursor: &mut Cursor<'_>, depth: u32) -> Result<i64, ExpressionError> {
    match cursor.peek() {
        None => Err(ExpressionError::End),
        Some(b'(') => {
            if depth >= MAX_DEPTH {
                return Err(ExpressionError::TooDeep);
            }
            pass_token(cursor);
            let value = binary(cursor, Level::Sum, depth + 1)?;
            if cursor.peek() != Some(b')') {
                return Err(ExpressionError::ParenthesisExpected);
            }
            pass_token(cursor);
            Ok(value)
        }
        Some(b'\'') => character(cursor),
        Some(b'$') => {
            cursor.pass();
            cursor.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.');
            Err(ExpressionError::UnknownRegister)
        }
        Some(_) => number(cursor),
    }
}

/// `'c'`, where `c` is one byte; U+0000, which is two in QEMU's strings, is none.
fn character(cursor: &mut Cursor<'_>) -> Result<i64, ExpressionError> {
    cursor.pass();
    let byte = cursor.peek().ok_or(ExpressionError::CharacterExpected)?;
    cursor.pass();
    if !(1..0x80).contains(&byte) || cursor.peek() != Some(b'\'') {
        return Err(ExpressionError::UnterminatedCharacter);
    }
    pass_token(cursor);
    Ok(i64::from(byte))
}

/// A number as C's `strtoull` reads it with base 0: as many digits as there are.
fn number(cursor: &mut Cursor<'_>) -> Result<i64, ExpressionError> {
    let radix = match cursor.rest().as_bytes() {
        [b'0', b'x' | b'X', digit, ..] if digit.is_ascii_hexdigit() => {
            cursor.pass();
            cursor.pass();
            16
        }
        [b'0', ..] => 8,
        _ => 10,
    };
    let digits = cursor.take_while(|byte| char::from(byte).is_digit(radix));
    if digits.is_empty() {
        return Err(ExpressionError::InvalidChar(cursor.peek_char().unwrap_or(char::REPLACEMENT_CHARACTER)));
    }
    cursor.take_while(is_space);
    // Only digits of that radix are left, so what fails here is too large.
    let value = u64::from_str_radix(digits, radix).map_err(|_| ExpressionError::TooLarge)?;
    Ok(value.cast_signed())
}

/// Passes an ASCII character and the white space behind it.
fn pass_token(cursor: &mut Cursor<'_>) {
    cursor.pass();
    cursor.skip_spaces();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<(i64, &str), String> {
        let mut cursor = Cursor::new(text);
        let value = evaluate(&mut cursor).map_err(|error| error.to_string())?;
        Ok((value, cursor.rest()))
    }

    #[test]
    fn operators_bind_as_qemus() {
        for (text, expected) in [
            ("1 + 2 * 3", 7),
            ("1|2+4", 7),
            ("6&3+1", 3),
            ("2*3|8", 14),
            ("8|2*3", 14),
            ("10-2-3", 5),
            ("100/5*2", 40),
            ("7%4*2", 6),
            ("-5/2", -2),
            ("-5%3", -2),
            ("(1+2)*3", 9),
            ("( ( 4 ) )", 4),
            ("- - 5", 5),
            ("-~-~5", 7),
            ("~~5", 5),
            ("~-+1", 0),
            ("'a'", 97),
            ("'''", 39),
            ("' ' + 1", 33),
            ("0x10+010+10", 34),
            ("0xffffffffffffffff", -1),
            ("0x7fffffffffffffff*2", -2),
            ("0x8000000000000000-1", i64::MAX),
            ("0x8000000000000000/-1", i64::MIN),
            ("0x8000000000000000%-1", 0),
        ] {
            assert_eq!(value(text), Ok((expected, "")), "{text}");
        }
    }

    #[test]
    fn what_follows_is_left() {
        for (text, expected, rest) in [
            ("1+2 3", 3, "3"),
            ("08", 0, "8"),
            ("0x", 0, "x"),
            ("0xg", 0, "xg"),
            ("1<<2", 1, "<<2"),
            ("1) ", 1, ") "),
            ("5 é", 5, "é"),
        ] {
            assert_eq!(value(text), Ok((expected, rest)), "{text}");
        }
    }

    #[test]
    fn errors_are_qemus() {
        for (text, error) in [
            ("", "unexpected end of expression"),
            ("1+", "unexpected end of expression"),
            ("nope", "invalid char 'n' in expression"),
            ("5//2", "invalid char '/' in expression"),
            ("é", "invalid char '\u{fffd}' in expression"),
            (".5", "invalid char '.' in expression"),
            (")", "invalid char ')' in expression"),
            ("(1+2", "')' expected"),
            ("'", "character constant expected"),
            ("''", "missing terminating ' character"),
            ("'é'", "missing terminating ' character"),
            ("'\0'", "missing terminating ' character"),
            ("'ab'", "missing terminating ' character"),
            ("$eax", "unknown register"),
            ("$", "unknown register"),
            ("1/0", "division by zero"),
            ("1%(2-2)", "division by zero"),
            ("99999999999999999999999", "number too large"),
            ("0x10000000000000000", "number too large"),
        ] {
            assert_eq!(value(text), Err(error.to_owned()), "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded_and_signs_are_not() {
        let nested = |depth: usize| format!("{}1{}", "(".repeat(depth), ")".repeat(depth));
        assert_eq!(value(&nested(MAX_DEPTH as usize)), Ok((1, "")));
        let error = Err("expression nested too deeply".to_owned());
        assert_eq!(value(&nested(MAX_DEPTH as usize + 1)), error);
        assert_eq!(value(&"(".repeat(1_000_000)), error);
        assert_eq!(value(&"-(".repeat(1_000_000)), error);
        assert_eq!(value(&format!("{}7", "-~".repeat(1_000_000))), Ok((1_000_007, "")));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "[-+~*/%&|^() 0-9a-fx'$é.\\PC]{0,80}") {
            let mut cursor = Cursor::new(&text);
            let _ = evaluate(&mut cursor);
            let _ = cursor.rest();
        }

        #[test]
        fn signs_fold_as_if_applied_one_by_one(signs in "[-+~]{0,40}", number in any::<u32>()) {
            let expected = signs.chars().rev().fold(i64::from(number), |n, sign| match sign {
                '-' => n.wrapping_neg(),
                '~' => !n,
                _ => n,
            });
            let text = format!("{signs}{number}");
            prop_assert_eq!(value(&text), Ok((expected, "")));
        }
    }
}
