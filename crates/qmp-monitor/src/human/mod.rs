//! Human monitors: lines typed at a prompt, answered with text.
//!
//! This is the transport half of it. Who executes lines is a [`Shell`], which a plane gives to its
//! [`Core`](crate::Core::set_shell); a [`Monitor`](crate::Monitor) whose configuration says
//! [`readline`](crate::MonitorConfig::readline) then serves each of its clients with a session of this module: prompt,
//! echo and editing ([`editor`]), one line after another, the line's file descriptors, back-pressure. No events.

mod beginning;
mod discipline;
pub mod editor;
mod session;

use std::future::Future;
use std::pin::Pin;

use qmp_command::Context;

pub use self::editor::{Editor, Event};
pub(crate) use self::session::HumanSession;

/// What a line comes to: the text that answers it.
pub type Answer = Pin<Box<dyn Future<Output = String> + Send>>;

/// Who executes the lines of a plane's human monitors. All their sessions share it.
///
/// A shell that knows the plane should hold it weakly: the plane's [`Core`](crate::Core) holds the shell.
pub trait Shell: Send + Sync + 'static {
    /// The first line that a client sees, without its end: `QEMU 7.2.0 monitor - type 'help' for more information`.
    fn banner(&self) -> String;

    /// The prompt.
    fn prompt(&self) -> &str {
        "(qemu) "
    }

    /// Executes a line, as it was entered, blanks and all. The answer's lines end with LF, the last one too, as
    /// the prompt is written right behind it; the session makes CR LF of it.
    ///
    /// A session has one line executed at a time, and several sessions may at once. The context's session is a
    /// [`QmpSession`](crate::QmpSession) that has negotiated; the context has the fds that the line can see. The future runs
    /// on the session's task, and is not dropped before it has ended unless the runtime shuts down. A panic ends the
    /// command and not the session.
    fn execute(&self, line: String, context: Context) -> Answer;

    /// What may stand in the place of the last word of `line`, which is the text before the cursor: whole words, in any
    /// order. Those that do not begin with what is there of the word are left out by who asks. The last word is what stands
    /// behind the last blank, so it can be empty.
    ///
    /// Called on the session's task: it must not take long.
    fn complete(&self, line: &str, context: &Context) -> Vec<String> {
        let _ = (line, context);
        Vec::new()
    }
}
