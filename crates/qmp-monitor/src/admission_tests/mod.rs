//! Who is let on, and who gives way: TCP clients that are none, and monitors that are full.
#![allow(clippy::unwrap_used, reason = "this is a test, helpers included")]

mod echo;
mod full;
mod strict;
mod support;
