//! The vfio-user protocol without I/O.

mod payload;
mod target;

pub use payload::*;
pub use target::{IoFd, Mmap, Outcome, RegionDescription, Target};
