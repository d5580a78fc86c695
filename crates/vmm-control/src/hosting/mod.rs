//! Where a plane runs, and where a machine's state lives.
//!
//! | the program | the plane | the machine |
//! |---|---|---|
//! | has a tokio runtime with I/O and time | [`Builder::build`](crate::Builder::build) on it, of either flavour | implements [`Machine`](crate::Machine) |
//! | has threads | [`Builder::start`](crate::Builder::start): a [`PlaneThread`] | implements [`Machine`](crate::Machine), with locks |
//! | has one loop that owns all state | either of the two | is the [`LoopHandle`] of a [`MachineQueue`], whose calls the loop takes |
//!
//! With a queue, what the plane asks of the machine, and what the author's own commands do with it, happens on the loop's thread:
//! nothing of it needs a lock. The loop is never waited for by a thread that others wait for, and must not wait for the plane
//! itself: the calls of this module that wait are refused on its thread ([`HostingError::InLoop`]).

mod completion;
mod facts;
mod handle;
mod queue;
mod session;
mod thread;
mod wait;

pub use self::completion::Completion;
pub use self::facts::MachineFacts;
pub use self::handle::LoopHandle;
pub use self::queue::{Call, MachineQueue, MachineRequest, Task};
pub use self::session::BlockingSession;
pub use self::thread::{PlaneThread, StartError};
pub use self::wait::HostingError;
