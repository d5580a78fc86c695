//! Hostile clients of every kind against a `vmmd`, each a case of its own.
//!
//! Every case has the same [frame]: a `vmmd` with one worker thread, a [witness] that is asked all along and must be
//! answered within three times its usual time, and a [footprint] of the process, descriptors, threads and memory, that
//! must be what it was when the attacker has gone. Then the process must take a new client, and end when told to.
//!
//! `HOSTILE_TIMES=1` and `--nocapture` show what was measured.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod arguments;
mod budgets;
mod exhaustion;
mod exports;
mod footprint;
mod frame;
mod human;
mod input;
mod kinds;
mod metrics;
mod output;
mod peers;
mod received;
mod sessions;
mod shared;
mod tcp;
mod tools;
mod urgent;
mod witness;
