//! `--dump-schema`: the QMP interface, described for people and for tools.
//!
//! A plane like the one that would serve is built, asked what it offers, and dropped. Nothing is opened.

use std::io;

use vmm_control::BuildError;
use vmm_control::introspect::{json_schema, markdown, qapi};

use crate::board::Board;
use crate::config::Config;
use crate::serve;

/// The forms in which the interface can be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A schema in the QAPI language.
    Qapi,
    /// A reference manual.
    Markdown,
    /// A JSON Schema.
    Json,
}

impl Form {
    /// The names.
    pub const WORDS: &'static [&'static str] = &["qapi", "markdown", "json"];

    /// The form called `word`.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "qapi" => Some(Self::Qapi),
            "markdown" => Some(Self::Markdown),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Why the interface cannot be described.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DescribeError {
    /// No runtime to build the plane on.
    #[error("cannot start threads: {0}")]
    Runtime(#[from] io::Error),
    /// The plane cannot be built.
    #[error(transparent)]
    Plane(#[from] BuildError),
}

/// The interface of a `vmmd` that was started without options.
///
/// Blocks for as long as it takes to build a plane. Must not be called on a runtime's thread.
///
/// # Errors
/// When there is no plane to describe.
pub fn describe(form: Form) -> Result<String, DescribeError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let plane = serve::plane(Board::new(&Config::default()), &Config::default())?;
    let interface = plane.interface();
    Ok(match form {
        Form::Qapi => qapi::generate(interface),
        Form::Markdown => markdown::generate(interface),
        Form::Json => json_schema::generate(interface),
    })
}
