//! The primitives of the modules that are model-checked ([`inbox`](crate::inbox), [`ack`](crate::ack)).
//!
//! `tests/model.rs` compiles those modules a second time with loom's primitives in this one's place.

pub(crate) use std::sync::atomic::{AtomicU8, Ordering};
pub(crate) use std::sync::{Arc, Condvar, Mutex};
