//! Human monitors: lines typed at a prompt, answered with text.

pub mod editor;

pub use self::editor::{Editor, Event};
