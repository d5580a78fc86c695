//! The load client for vfio-user: starts servers, measures them in turns, reports.
//!
//! From the outside in: [`options`] says what to do, [`run`] does it round by round on the [`servers`], [`cases`] are the
//! measurements, [`client`] the client that they use and `flood` its noisy neighbour, [`aims`] what the figures should
//! be, and [`report`] says what they are. [`floor`], [`peer`] and [`ours`] are the servers themselves, which the
//! `vfio-user-target` program runs, a process for each measurement.
//!
//! A measurement that meets an error, a wrong answer or silence of ten seconds fails; it never reports a figure for
//! work that was not done.

pub mod aims;
pub mod cases;
pub mod client;
mod flood;
pub mod floor;
pub mod options;
pub mod ours;
pub mod peer;
pub mod report;
pub mod run;
pub mod servers;
mod wire;

/// Bytes of the region that is read and written: as in the `scratch` device.
pub(crate) const REGION_SIZE: usize = 2 * 1024 * 1024;
/// Regions of a PCI device.
pub(crate) const REGIONS: u32 = 9;
