//! Strings: printable ASCII as it is, everything else escaped.

use std::io::{Result, Write};

/// Writes a string with its quotes.
pub(super) fn write_string<W: ?Sized + Write>(writer: &mut W, string: &str) -> Result<()> {
    writer.write_all(b"\"")?;
    write_fragment(writer, string)?;
    writer.write_all(b"\"")
}

/// Writes a part of a string: runs of plain bytes in one piece, each other character as its escape.
pub(super) fn write_fragment<W: ?Sized + Write>(writer: &mut W, fragment: &str) -> Result<()> {
    let mut rest = fragment;
    while let Some(plain) = rest.bytes().position(|byte| !is_plain(byte)) {
        let (before, special) = rest.split_at(plain);
        writer.write_all(before.as_bytes())?;
        let mut chars = special.chars();
        if let Some(character) = chars.next() {
            write_escaped(writer, character)?;
        }
        rest = chars.as_str();
    }
    writer.write_all(rest.as_bytes())
}

/// True for a byte that stands for itself. A byte that is not begins a character, since its neighbours are whole.
fn is_plain(byte: u8) -> bool {
    matches!(byte, 0x20..0x7F) && byte != b'"' && byte != b'\\'
}

fn write_escaped<W: ?Sized + Write>(writer: &mut W, character: char) -> Result<()> {
    match character {
        '"' => writer.write_all(b"\\\""),
        '\\' => writer.write_all(b"\\\\"),
        '\u{8}' => writer.write_all(b"\\b"),
        '\u{c}' => writer.write_all(b"\\f"),
        '\n' => writer.write_all(b"\\n"),
        '\r' => writer.write_all(b"\\r"),
        '\t' => writer.write_all(b"\\t"),
        _ => {
            let mut units = [0; 2];
            character.encode_utf16(&mut units).iter().try_for_each(|&unit| write_unit(writer, unit))
        }
    }
}

/// Writes one UTF-16 unit as `\uXXXX`, in upper case.
pub(super) fn write_unit<W: ?Sized + Write>(writer: &mut W, unit: u16) -> Result<()> {
    write!(writer, "\\u{unit:04X}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_printable_ascii_stands_for_itself() {
        let mut out = Vec::new();
        write_string(&mut out, "a/'\"\\\u{8}\u{c}\n\r\t\0\u{1f}\u{7f}\u{80}é中😀z").unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""a/'\"\\\b\f\n\r\t\u0000\u001F\u007F\u0080\u00E9\u4E2D\uD83D\uDE00z""#
        );
    }
}
