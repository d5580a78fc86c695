//! System calls that no library wraps: with [`crate::memory`], the only `unsafe` code of this crate. What is here is safe
//! to call with any arguments.

mod aio;
#[cfg(feature = "adapter")]
mod duplicate;
mod process_vm;

pub(crate) use aio::AioContext;
#[cfg(feature = "adapter")]
pub(crate) use duplicate::duplicate;
pub(crate) use process_vm::write_guarded;
