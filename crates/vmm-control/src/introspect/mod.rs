//! The interface of a plane, described to others.
//!
//! [`Interface`] holds every command, event and type of one plane. It is made when the plane is built, from what the
//! commands and events say of themselves, so it grows with them and cannot be forgotten. From it are generated
//!
//! * [`schema`]: what `query-qmp-schema` returns, in QEMU 7.2's form;
//! * [`qapi`]: a QAPI schema with documentation, for QEMU's own tools;
//! * [`markdown`]: a reference manual;
//! * [`json_schema`]: a JSON Schema.
//!
//! [`stability`] holds a plane against a schema that was frozen, in an author's tests.
//!
//! Everything here is pure, and runs once or on demand, never beside commands.
//!
//! ```
//! # use vmm_control::{CommandError, ControlPlane, Machine, RunState};
//! # struct Toy;
//! # impl Machine for Toy {
//! #     fn run_state(&self) -> RunState { RunState::Running }
//! #     async fn stop(&self) -> Result<(), CommandError> { Ok(()) }
//! #     async fn cont(&self) -> Result<(), CommandError> { Ok(()) }
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plane = ControlPlane::builder(Toy).build()?;
//! let names: Vec<_> = plane.interface().commands().map(|command| command.metadata.name).collect();
//! assert!(names.contains(&"query-status"));
//! # Ok(())
//! # }
//! ```

mod interface;
pub mod json_schema;
pub mod markdown;
pub(crate) mod names;
pub mod qapi;
#[cfg(test)]
mod sample;
pub mod schema;
pub mod stability;
mod text;

use qmp_command::Encoded;

pub use self::interface::{CommandSignature, DescribeError, EventSignature, Interface};

/// What `query-qmp-schema` returns.
pub(crate) type SchemaReply = Encoded<Vec<schema::SchemaInfo>>;
