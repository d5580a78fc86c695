//! Contexts as clients and owners see them.
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod access;
mod clients;
mod listening;
mod support;
