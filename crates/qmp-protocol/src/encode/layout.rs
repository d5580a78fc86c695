//! White space and separators: what serde_json asks a `Formatter` for, and what the writer of values shares.

use std::io::{Result, Write};

use serde_json::ser::{CharEscape, Formatter};

use super::{double, text};

/// One line per message, or indented.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// `{"return": {}}`
    #[default]
    Compact,
    /// Four spaces per level and a new line for every member, as on a `-qmp-pretty` monitor.
    Pretty,
}

/// A [`Format`] and how deep in it the writer is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    format: Format,
    depth: usize,
}

impl Layout {
    /// The layout at the start of a message.
    pub(super) fn new(format: Format) -> Self {
        Self { format, depth: 0 }
    }

    /// The layout inside a message, where the value of a member of it begins.
    pub(super) fn inside(format: Format) -> Self {
        Self { format, depth: 1 }
    }

    /// Writes an object whose members `write` writes: a [`Layout::name`] and a value each.
    pub(super) fn object<W: Write>(
        &mut self,
        writer: &mut W,
        write: impl FnOnce(&mut W, &mut Self) -> Result<()>,
    ) -> Result<()> {
        self.begin_object(writer)?;
        write(writer, self)?;
        self.end_object(writer)
    }

    /// Writes a member's name and all that stands around it.
    pub(super) fn name<W: Write>(&mut self, writer: &mut W, name: &str, first: bool) -> Result<()> {
        self.begin_object_key(writer, first)?;
        text::write_string(writer, name)?;
        self.begin_object_value(writer)
    }

    /// Writes a number that is not negative.
    pub(super) fn number<W: Write>(&mut self, writer: &mut W, number: u64) -> Result<()> {
        self.write_u64(writer, number)
    }

    fn line<W: ?Sized + Write>(&self, writer: &mut W) -> Result<()> {
        if self.format == Format::Compact {
            return Ok(());
        }
        writer.write_all(b"\r\n")?;
        (0..self.depth).try_for_each(|_| writer.write_all(b"    "))
    }

    fn open<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> Result<()> {
        self.depth += 1;
        writer.write_all(&[bracket])
    }

    /// An empty container closes on a line of its own in the pretty form, as QEMU's does.
    fn close<W: ?Sized + Write>(&mut self, writer: &mut W, bracket: u8) -> Result<()> {
        self.depth -= 1;
        self.line(writer)?;
        writer.write_all(&[bracket])
    }

    fn separate<W: ?Sized + Write>(&self, writer: &mut W, first: bool) -> Result<()> {
        match (first, self.format) {
            (true, _) => {}
            (false, Format::Compact) => return writer.write_all(b", "),
            (false, Format::Pretty) => writer.write_all(b",")?,
        }
        self.line(writer)
    }
}

impl Formatter for Layout {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b'[')
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b']')
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.separate(writer, first)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.open(writer, b'{')
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        self.close(writer, b'}')
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> Result<()> {
        self.separate(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> Result<()> {
        writer.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> Result<()> {
        text::write_fragment(writer, fragment)
    }

    fn write_char_escape<W: ?Sized + Write>(&mut self, writer: &mut W, escape: CharEscape) -> Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::Backspace => writer.write_all(b"\\b"),
            CharEscape::FormFeed => writer.write_all(b"\\f"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => text::write_unit(writer, byte.into()),
        }
    }

    fn write_f32<W: ?Sized + Write>(&mut self, writer: &mut W, value: f32) -> Result<()> {
        double::write(writer, value.into())
    }

    fn write_f64<W: ?Sized + Write>(&mut self, writer: &mut W, value: f64) -> Result<()> {
        double::write(writer, value)
    }
}
