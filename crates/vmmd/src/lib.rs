//! The parts of `vmmd` that can be tested without starting it.
//!
//! `vmmd` is the reference VMM over `vmm-control`. Its `main` is a thin wiring of these modules:
//!
//! * [`cli`] turns an argument vector in QEMU's style into a [`config::Config`];
//! * [`config`] is what a `vmmd` is told to be, and the reader of its TOML form;
//! * [`board`] is the machine: virtual CPUs without guest code, I/O ports, a real-time clock;
//! * `devices` are the PCI devices that can be exported;
//! * `qtest` lets QEMU's test programs drive it;
//! * `metrics` serves what is counted, to Prometheus;
//! * [`logging`] installs the log subscriber;
//! * [`daemonize`] puts the process into the background, without `fork`;
//! * [`reference`](mod@reference) writes the QMP interface as a QAPI schema, a manual or a JSON Schema;
//! * [`runtime`] starts the threads that everything asynchronous runs on;
//! * [`sandbox`] keeps each thread to the system calls that it needs;
//! * [`pidfile`] writes and locks the file that holds the process's id.
//!
//! `cli` and `config` are pure: they open nothing (the caller hands in how to read a file), print nothing and
//! keep no state, so whatever a command line means can be asserted in a unit test.

pub mod allocator;
pub mod board;
mod civil;
pub mod cli;
pub mod config;
pub mod daemonize;
mod devices;
mod errno;
pub mod error;
pub mod logging;
mod metrics;
pub mod pidfile;
mod qtest;
pub mod reference;
pub mod runtime;
pub mod sandbox;
pub mod serve;
pub mod suggest;
mod testing;
mod texts;
