//! The load client: starts QMP servers, measures them in turns, reports.
//!
//! From the outside in: [`options`] says what to do, [`run`] does it round by round, [`server`] looks at what they are, [`cases`] are the measurements, [`session`] and [`swarm`] the two kinds of client they use
//! (one blocking connection; many on one epoll set), [`crate::harness`] and [`report`] turn samples into figures.
//!
//! A measurement that meets an error reply, a short reply or silence of ten seconds fails; it never reports a figure
//! for work that was not done.

pub mod cases;
pub mod flood;
pub mod options;
mod poll;
pub mod report;
pub mod run;
pub mod server;
pub mod session;
pub mod swarm;

pub(crate) use crate::harness::Doing;
pub use crate::harness::{Error, Result};
