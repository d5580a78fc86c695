//! Values and messages to bytes, as QEMU writes them.
//!
//! Everything is ASCII, one message per line (or several lines in the pretty form), each line ended by CR LF. The
//! members of replies and events stand in QEMU's order. A buffer is only ever appended to.

mod double;
mod event;
mod layout;
mod payload;
mod reply;
mod text;
mod value;

pub use event::{Event, encode_event, encode_event_with};
pub use layout::Format;
pub use payload::Payload;
pub use reply::{Version, encode_error, encode_greeting, encode_return};
pub use value::encode_value;

use layout::Layout;
use serde_json::ser::Formatter;

/// One message under construction: an object whose members are written in the order of the calls.
struct Line<'a> {
    out: &'a mut Vec<u8>,
    layout: Layout,
    first: bool,
}

impl<'a> Line<'a> {
    fn begin(out: &'a mut Vec<u8>, format: Format) -> Self {
        let mut layout = Layout::new(format);
        written(layout.begin_object(out));
        Self { out, layout, first: true }
    }

    /// Writes a member's name and lets `value` write its value.
    fn member(&mut self, name: &str, value: impl FnOnce(&mut Vec<u8>, &mut Layout) -> std::io::Result<()>) {
        written(self.layout.name(self.out, name, self.first));
        self.first = false;
        written(value(self.out, &mut self.layout));
    }

    fn end(mut self) {
        written(self.layout.end_object(self.out));
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Takes note of a write into a `Vec`, which cannot fail: it grows or aborts.
fn written(result: std::io::Result<()>) {
    debug_assert!(result.is_ok(), "a Vec takes every byte");
}
