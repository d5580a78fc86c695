//! The arguments of a line, by what the command takes. Every complaint is QEMU's.
//!
//! A complaint names the command with all its names (`stop|s: ...`), a sub-command without the `info` before it.

use super::arg::{HumanArg, Kind, Presence};
use super::args::{HumanArgs, Value};
use super::cursor::{Cursor, is_space};
use super::expression::{ExpressionError, evaluate};
use super::format::{FormatError, LastFormat};
use crate::commands::is_identifier;
use crate::keyval::Options;
use crate::keyval::number::{Unit, leading_size};

/// What is wrong with a line's arguments.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ParseError {
    #[error("{0}: string expected")]
    StringExpected(&'static str),
    #[error("{0}: filename expected")]
    FilenameExpected(&'static str),
    /// `None` where the line ends behind the dash.
    #[error("{0}: unsupported option -{option}", option = .1.map(String::from).unwrap_or_default())]
    UnsupportedOption(&'static str, Option<char>),
    #[error("{0}: extraneous characters at the end of line")]
    Extraneous(&'static str),
    #[error("'{0}' has failed: integer is for 32-bit values")]
    NotInt32(&'static str),
    #[error("enter a positive value")]
    Negative,
    #[error("invalid size")]
    InvalidSize,
    #[error("Expected 'on' or 'off'")]
    NotOnOff,
    /// Options that are no string, or whose id is none. QEMU's complaint goes to its own output.
    #[error("")]
    Silent,
    #[error(transparent)]
    Expression(#[from] ExpressionError),
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// Reads the arguments `specs` of the command `command` from the cursor to the end of the line.
pub(super) fn parse(
    command: &'static str,
    specs: &[HumanArg],
    last_format: &LastFormat,
    cursor: &mut Cursor<'_>,
) -> Result<HumanArgs, ParseError> {
    let mut args = HumanArgs::default();
    for (place, spec) in specs.iter().enumerate() {
        let later = &specs[place + 1..];
        if let Some(value) = argument(command, spec, later, last_format, cursor)? {
            args.insert(spec.name, value);
        }
    }
    cursor.skip_spaces();
    if cursor.is_at_end() { Ok(args) } else { Err(ParseError::Extraneous(command)) }
}

/// One argument, or `None` when it may be absent and is.
fn argument(
    command: &'static str,
    spec: &HumanArg,
    later: &[HumanArg],
    last_format: &LastFormat,
    cursor: &mut Cursor<'_>,
) -> Result<Option<Value>, ParseError> {
    if let Kind::Flag(letter) = spec.kind {
        let given = flag(command, letter, later, cursor)?;
        return Ok(given.then_some(Value::Switch(true)));
    }
    cursor.skip_spaces();
    match spec.presence {
        Presence::Optional if cursor.is_at_end() => return Ok(None),
        Presence::AfterDot if !cursor.pass_if(b'.') => return Ok(None),
        _ => {}
    }
    Ok(Some(match spec.kind {
        Kind::String => string(cursor, ParseError::StringExpected(command))?,
        Kind::Filename => string(cursor, ParseError::FilenameExpected(command))?,
        Kind::Options if cursor.is_at_end() => return Ok(None),
        Kind::Options => match string(cursor, ParseError::Silent)? {
            Value::Text(text) if has_bad_id(&text) => return Err(ParseError::Silent),
            text => text,
        },
        Kind::Rest if cursor.is_at_end() => return Err(ParseError::StringExpected(command)),
        Kind::Rest => {
            let rest = cursor.rest().to_owned();
            cursor.pass_all();
            Value::Text(rest)
        }
        Kind::Int32 => match evaluate(cursor)? {
            value if u32::try_from(value).is_ok() => Value::Number(value),
            _ => return Err(ParseError::NotInt32(command)),
        },
        Kind::Int64 => Value::Number(evaluate(cursor)?),
        Kind::Mebibytes => match evaluate(cursor)? {
            value if value < 0 => return Err(ParseError::Negative),
            value => Value::Number(value.wrapping_mul(1 << 20)),
        },
        Kind::Size => {
            let (size, length) = leading_size(cursor.rest(), Unit::Mebi).ok_or(ParseError::InvalidSize)?;
            let size = i64::try_from(size).map_err(|_| ParseError::InvalidSize)?;
            for _ in 0..length {
                cursor.pass();
            }
            Value::Number(size)
        }
        Kind::OnOff => match cursor.take_while(|byte| byte.is_ascii_graphic()) {
            "on" => Value::Switch(true),
            "off" => Value::Switch(false),
            _ => return Err(ParseError::NotOnOff),
        },
        Kind::Format => Value::Format(last_format.read(cursor)?),
        Kind::Flag(_) => return Ok(None),
    }))
}

fn string(cursor: &mut Cursor<'_>, error: ParseError) -> Result<Value, ParseError> {
    cursor.string().map(Value::Text).map_err(|why| {
        tracing::debug!(?why, "an argument is no string");
        error
    })
}

/// QEMU does not take options with an id that is none; the complaint goes to its own output.
fn has_bad_id(options: &str) -> bool {
    let options = Options::parse(options, None);
    let bad = options.id().filter(|id| !is_identifier(id));
    if let Some(bad) = bad {
        tracing::debug!("'{}' is no id", bad.escape_debug());
    }
    bad.is_some()
}

/// Whether the flag stands here. Another flag that may still come is left alone.
fn flag(
    command: &'static str,
    letter: char,
    later: &[HumanArg],
    cursor: &mut Cursor<'_>,
) -> Result<bool, ParseError> {
    cursor.skip_spaces();
    let mut ahead = *cursor;
    if !ahead.pass_if(b'-') {
        return Ok(false);
    }
    match ahead.peek_char() {
        Some(found) if found == letter => {
            ahead.pass();
            *cursor = ahead;
            Ok(true)
        }
        Some(found) if later.iter().any(|spec| spec.kind == Kind::Flag(found)) => Ok(false),
        found => Err(ParseError::UnsupportedOption(command, found)),
    }
}

/// The command's name at the cursor, after white space: up to white space or a `/`. `None` at the end of the line.
pub(super) fn command_name<'a>(cursor: &mut Cursor<'a>) -> Option<&'a str> {
    cursor.skip_spaces();
    if cursor.is_at_end() {
        return None;
    }
    Some(cursor.take_while(|byte| byte != b'/' && !is_space(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hmp::format::{Radix, ValueFormat};
    use proptest::prelude::*;

    fn parsed(specs: &[HumanArg], text: &str) -> Result<HumanArgs, String> {
        let (mut cursor, last) = (Cursor::new(text), LastFormat::default());
        parse("name|n", specs, &last, &mut cursor).map_err(|error| error.to_string())
    }

    fn complaint(specs: &[HumanArg], text: &str) -> String {
        parsed(specs, text).unwrap_err()
    }

    #[test]
    fn strings() {
        let two = [HumanArg::string("a"), HumanArg::string("b").optional()];
        let args = parsed(&two, "  x  \"y z\" ").unwrap();
        assert_eq!((args.text("a"), args.text("b")), ("x", "y z"));
        let args = parsed(&two, "x").unwrap();
        assert_eq!((args.text("a"), args.optional_text("b")), ("x", None));
        assert_eq!(complaint(&two, ""), "name|n: string expected");
        assert_eq!(complaint(&two, "x \"y"), "name|n: string expected");
        assert_eq!(complaint(&two, "x y z"), "name|n: extraneous characters at the end of line");
        assert_eq!(complaint(&[HumanArg::filename("f")], ""), "name|n: filename expected");
        assert_eq!(complaint(&[], "-x"), "name|n: extraneous characters at the end of line");
    }

    #[test]
    fn the_rest_and_options() {
        let rest = [HumanArg::string("a"), HumanArg::rest("rest")];
        assert_eq!(parsed(&rest, "x \"a b\"  c ").unwrap().text("rest"), "\"a b\"  c ");
        assert_eq!(complaint(&rest, "x  "), "name|n: string expected");
        let options = [HumanArg::options("o")];
        assert_eq!(parsed(&options, "a,b=c").unwrap().text("o"), "a,b=c");
        assert_eq!(parsed(&options, " ").unwrap().optional_text("o"), None);
        assert_eq!(complaint(&options, "\"a"), "");
        assert_eq!(complaint(&options, "a,id=1"), "");
        assert_eq!(complaint(&options, "a b"), "name|n: extraneous characters at the end of line");
    }

    #[test]
    fn numbers() {
        let number = |arg: HumanArg, text: &str| parsed(&[arg], text).map(|args| args.number("n"));
        assert_eq!(number(HumanArg::integer("n"), "0xffffffff"), Ok(Some(0xffff_ffff)));
        let not_32 = Err("'name|n' has failed: integer is for 32-bit values".to_owned());
        assert_eq!(number(HumanArg::integer("n"), "0x100000000"), not_32);
        assert_eq!(number(HumanArg::integer("n"), "-1"), not_32);
        assert_eq!(number(HumanArg::long("n"), "-1"), Ok(Some(-1)));
        assert_eq!(number(HumanArg::long("n").optional(), " "), Ok(None));
        assert_eq!(number(HumanArg::mebibytes("n"), "2"), Ok(Some(2 << 20)));
        assert_eq!(number(HumanArg::mebibytes("n"), "-2"), Err("enter a positive value".into()));
        assert_eq!(number(HumanArg::size("n"), "2"), Ok(Some(2 << 20)));
        assert_eq!(number(HumanArg::size("n"), "1.5k"), Ok(Some(1536)));
        assert_eq!(number(HumanArg::size("n"), "x"), Err("invalid size".into()));
        assert_eq!(number(HumanArg::size("n"), "16E"), Err("invalid size".into()));
        let dotted = [HumanArg::integer("a"), HumanArg::integer("n").after_dot()];
        for text in ["1.2", "1 .2", "1. 2", "1 . 2"] {
            assert_eq!(parsed(&dotted, text).unwrap().number("n"), Some(2), "{text}");
        }
        assert_eq!(parsed(&dotted, "1").unwrap().number("n"), None);
        assert_eq!(complaint(&dotted, "1 2"), "name|n: extraneous characters at the end of line");
    }

    #[test]
    fn switches_and_flags() {
        let on = [HumanArg::on_off("s")];
        assert!(parsed(&on, " on ").unwrap().is_on("s"));
        assert!(!parsed(&on, "off").unwrap().is_on("s"));
        assert_eq!(complaint(&on, "yes"), "Expected 'on' or 'off'");
        let flags = [HumanArg::flag('f', "force"), HumanArg::flag('n', "new"), HumanArg::string("a")];
        let args = parsed(&flags, "-n x").unwrap();
        assert_eq!((args.is_on("force"), args.is_on("new"), args.text("a")), (false, true, "x"));
        assert!(parsed(&flags, "-f -n x").unwrap().is_on("force"));
        assert_eq!(complaint(&flags, "-x y"), "name|n: unsupported option -x");
        assert_eq!(complaint(&flags, "- y"), "name|n: unsupported option - ");
        assert_eq!(parsed(&flags, "-ff x y"), Err("name|n: extraneous characters at the end of line".into()));
    }

    #[test]
    fn formats() {
        let specs = [HumanArg::format("f"), HumanArg::long("v")];
        let args = parsed(&specs, "/bd 5").unwrap();
        assert_eq!(args.format("f"), ValueFormat { radix: Radix::Decimal, size: Some(1) });
        assert_eq!(complaint(&specs, "/q 5"), "invalid char in format: 'q'");
        assert_eq!(complaint(&specs, "/x"), "unexpected end of expression");
    }

    #[test]
    fn names_end_at_a_slash() {
        let name = |text| {
            let mut cursor = Cursor::new(text);
            command_name(&mut cursor).map(|name| (name, cursor.rest().to_owned()))
        };
        assert_eq!(name("  p/x 1"), Some(("p", "/x 1".to_owned())));
        assert_eq!(name("/x"), Some(("", "/x".to_owned())));
        assert_eq!(name(" \t"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "\\PC{0,40}") {
            for specs in [
                &[HumanArg::string("a"), HumanArg::size("b")][..],
                &[HumanArg::flag('a', "a"), HumanArg::rest("b").optional()],
                &[HumanArg::format("a"), HumanArg::integer("b"), HumanArg::integer("c").after_dot()],
                &[HumanArg::on_off("a"), HumanArg::options("b")],
            ] {
                let _ = parsed(specs, &text);
            }
        }
    }
}
