//! Load clients, floors and micro-benchmarks of the control plane and of the vfio-user server.
//!
//! Nothing here is used by the product. What there is:
//!
//! * [`load`]: the load client behind the `bench-qmp` program. It starts servers that speak QMP (this project's
//!   `vmmd`, QEMU, the floor, any other), measures them in turns, and prints what it saw as a table.
//! * [`floor`]: the server behind the `qmp-floor` program, which does a monitor's socket work and nothing else.
//!   Times depend on the machine; their ratios to the floor's, taken in the same run, hardly do.
//! * [`vfio`]: the same for vfio-user, behind the `bench-vfio-user` program: its clients, its floors, and a peer.
//! * [`harness`]: what both share.
//! * `benches/`: Criterion micro-benchmarks of the decoder, the encoder, the command router and the vfio-user protocol.
//!
//! The load clients use no runtime, so that the microseconds they measure are not their own.

pub mod floor;
pub mod harness;
pub mod load;
pub mod vfio;
