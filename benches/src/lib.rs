//! Load client, floors and micro-benchmarks of the control plane.
//!
//! Nothing here is used by the product. What there is:
//!
//! * [`load`]: the load client behind the `bench-qmp` program. It starts servers that speak QMP (this project's
//!   `vmmd`, QEMU, the floor, any other), measures them in turns, and prints what it saw as a table.
//! * [`floor`]: the server behind the `qmp-floor` program, which does a monitor's socket work and nothing else.
//!   Times depend on the machine; their ratios to the floor's, taken in the same run, hardly do.
//! * `benches/`: Criterion micro-benchmarks of the decoder, the encoder and the command router.
//!
//! The load client blocks and uses no runtime, so that the microseconds it measures are not its own.

pub mod floor;
pub mod load;
