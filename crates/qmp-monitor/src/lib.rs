//! Monitors: sessions over chardevs, and the events that all QMP sessions see.
//!
//! A [`Core`] holds what the monitors of one plane share: the [`Router`](qmp_command::Router), the [`EventHub`], the
//! greeting, the limits, and the [budgets](Budgets) of what all sessions hold. A [`Monitor`] serves the clients of one
//! chardev, each with a session of its own ([`session`] for QMP; with the feature `human`, `human` for people); a
//! [`LocalSession`] is the process's own.

mod admission;
#[cfg(all(test, feature = "human"))]
mod admission_tests;
mod budgets;
mod capabilities;
mod config;
mod core;
pub mod events;
#[cfg(feature = "human")]
pub mod human;
mod local;
mod monitor;
mod places;
pub mod session;

pub use self::budgets::{Budgets, Usage};
pub use self::capabilities::qmp_capabilities;
pub use self::config::{MonitorConfig, MonitorMode, NamedFdsScope};
pub use self::core::Core;
pub use self::events::{DeclareError, EmitError, EventHub, EventSender, EventSpec};
#[cfg(feature = "human")]
pub use self::human::Shell;
pub use self::local::{LocalError, LocalSession};
pub use self::monitor::Monitor;
pub use self::session::{Mode, QmpSession, SessionLimits};
