//! QEMU's management interface for any Rust VMM.
//!
//! An author implements [`Machine`] for their VMM, builds a [`ControlPlane`] around it, and gives it monitors; then
//! everything that manages QEMU over QMP manages that VMM. Commands and events of the author's own stand beside
//! the built-in ones as equals; so do types of objects and devices, and commands for people. `docs/EMBEDDING.md` in the
//! repository is the guide. Where the plane runs, on a tokio runtime (with I/O and time), on a thread of its own, or beside a loop that owns all
//! state, is said in [`hosting`].
//!
//! Features are off unless asked for, and only add: `hmp` (monitors for people), `tcp`, `metrics`, `vfio-user`.
//!
//! ```
//! use vmm_control::{Command, CommandError, Context, ControlPlane, EventSpec, Machine, QapiType, RunState};
//! use serde::{Deserialize, Serialize};
//!
//! struct Toy;
//! impl Machine for Toy {
//!     fn run_state(&self) -> RunState {
//!         RunState::Running
//!     }
//!     async fn stop(&self) -> Result<(), CommandError> {
//!         Ok(())
//!     }
//!     async fn cont(&self) -> Result<(), CommandError> {
//!         Ok(())
//!     }
//! }
//!
//! /// What to ring.
//! #[derive(Deserialize, Serialize, QapiType)]
//! struct Bell {
//!     /// How often.
//!     times: u32,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let plane = ControlPlane::builder(Toy)
//!     .event(EventSpec::extension::<Bell>("X_RUNG"))
//!     .command_with(|plane| {
//!         let events = plane.events();
//!         Command::new("x-ring").handler(move |_: Context, bell: Bell| {
//!             let rung = events.emit("X_RUNG", &bell);
//!             async move { Ok(rung?) }
//!         })
//!     })
//!     .build()?;
//! let mut session = plane.connect();
//! session.watch();
//! session.state().enable_event("X_RUNG", true);
//! session.call("x-ring", &Bell { times: 3 }).await?;
//! assert_eq!(session.try_next_event().unwrap().name, "X_RUNG");
//! plane.close().await;
//! # Ok(())
//! # }
//! ```

extern crate self as vmm_control;

mod access;
mod bounds;
mod builder;
mod chardevs;
mod commands;
mod display;
mod hardware;
#[cfg(feature = "hmp")]
pub mod hmp;
pub mod hosting;
pub mod introspect;
pub mod keyval;
mod machine;
#[cfg(feature = "metrics")]
mod metrics;
mod monitors;
pub mod objects;
mod phase;
mod plane;
mod reserve;
mod run_state;
pub mod socket_address;

pub use chardev;
pub use chardev::Chardev;
pub use fd_closer::Received;
pub use fd_registry::{self, FdSets};
pub use iothread::{self, IoThreads};
pub use qmp_command::{
    self, Command, CommandError, CommandResult, Context, Feature,
    layers::authorize::Authority,
    policy::{PatternError, Policy, Rules},
};
/// The derive, and the trait that it implements.
#[doc(inline)]
pub use qmp_command::{QapiTypeThroughVmmControl as QapiType, schema::QapiType};
pub use qmp_monitor::{
    self, Budgets, EmitError, EventSender, EventSpec, LocalError, LocalSession, MonitorConfig, MonitorMode,
    NamedFdsScope, QmpSession, SessionLimits, Usage,
};
pub use qmp_protocol::{self, ErrorClass, Version};
pub use thread_start::{self, ThreadKind};
#[cfg(feature = "vfio-user")]
pub use vfio_user_server;

pub use self::builder::{BuildError, Builder};
pub use self::chardevs::{ChardevError, Chardevs};
pub use self::commands::{CommandLineOption, CommandLineParameter, CommandLineParameterType};
pub use self::display::{Acceptor, DisplayClient, DisplayProtocol};
pub use self::hardware::{CpuPlace, IoPorts, Kvm, RtcChange, Target, Vcpu};
#[cfg(feature = "hmp")]
pub use self::hmp::{HumanArg, HumanArgs, HumanCommand, HumanContext};
pub use self::machine::Machine;
pub use self::monitors::MonitorError;
pub use self::objects::{Creation, Object, ObjectType, Objects};
pub use self::plane::{ControlPlane, PlaneHandle};
pub use self::run_state::{RunState, RunStateCell, ShutdownCause};

/// Keeps the example in the README true.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

/// Compiles and runs every block of the guide, one of which exports a device.
#[cfg(all(doctest, feature = "hmp", feature = "vfio-user"))]
#[doc = include_str!("../../../docs/EMBEDDING.md")]
struct Embedding;
