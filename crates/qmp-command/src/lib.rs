//! What a QMP command is, and how a request reaches it.
//!
//! A [`Command`] is a name, [`Metadata`], and a handler with typed arguments and return. Registering it in a
//! [`RouterBuilder`] wraps it in a tower stack of its own, built once:
//!
//! ```text
//! span + metrics -> reply -> authorize -> permit -> timeout -> decode -> handler
//! ```
//!
//! The [`Router`] finds the stack by name and calls it once per request. Nothing here does I/O: a
//! session hands in a [`Request`](qmp_protocol::Request) and a [`Context`], and gets an [`Outcome`] back.
//!
//! ```
//! use qmp_command::{Command, Context, QapiType, Router, detached_session};
//! use qmp_protocol::{Request, Value};
//! use serde::Deserialize;
//!
//! /// Whom to greet.
//! #[derive(Deserialize, QapiType)]
//! struct Greet {
//!     who: String,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let router = Router::builder()
//!     .command(Command::new("x-greet").read_only().handler(async |_ctx: Context, a: Greet| Ok(format!("hello {}", a.who))))
//!     .build()?;
//! let request = Request {
//!     execute: "x-greet".into(),
//!     oob: false,
//!     arguments: Some([("who".to_owned(), Value::from("you"))].into_iter().collect()),
//!     id: None,
//! };
//! let outcome = router.call(&request.execute, request.arguments, Context::new(detached_session())).await;
//! assert_eq!(outcome?.as_bytes(), b"\"hello you\"");
//! # Ok(())
//! # }
//! ```

// The derive writes `::qmp_command::...`; this lets the crate's own types use it.
extern crate self as qmp_command;

mod apart;
mod command;
mod context;
mod error;
pub mod layers;
mod log_gate;
mod metadata;
mod returns;
mod router;
mod stack;

pub mod arguments;
pub mod policy;
pub mod schema;

pub use apart::apart;
pub use command::{Command, CommandBuilder};
pub use context::{Context, Invocation, Peer, PendingFds, Session, detached_session};
pub use error::CommandError;
pub use log_gate::LogGate;
pub use metadata::{Concurrency, Feature, Metadata};
pub use qmp_derive::QapiType;
#[doc(hidden)]
pub use qmp_derive::QapiTypeThroughVmmControl;
pub use returns::{Encoded, Returns};
pub use router::{BuildError, RouteFuture, Router, RouterBuilder};
pub use schema::QapiType;

/// What a command came to: the encoded return value, or the error its client sees.
pub type Outcome = Result<qmp_protocol::Payload, qmp_protocol::Error>;

/// What a handler returns.
pub type CommandResult<T> = Result<T, CommandError>;

/// Keeps the example in the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
