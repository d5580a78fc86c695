//! A plane from outside: through sessions of the process's own, and through sockets.

#![expect(clippy::unwrap_used, reason = "in helpers of tests, too, it is how a test fails")]

mod admission;
mod budgets;
mod building;
mod chardevs;
mod clients;
mod devices;
mod ends;
mod fds;
mod features;
#[cfg(feature = "hmp")]
mod human;
#[cfg(feature = "hmp")]
mod human_monitor;
mod isolation;
mod objects;
mod order;
mod own;
mod panics;
mod policy;
mod preconfig;
mod queries;
mod run;
mod schema;
mod support;
mod threads;
#[cfg(feature = "vfio-user")]
mod vfio_user;
