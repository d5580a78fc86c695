//! Dedicated threads for I/O that must not wait for anything else.
//!
//! An [`IoThread`] is one OS thread with an epoll loop. Through its [`Handle`] any thread adds and removes handlers of
//! file descriptors, sets and cancels timers, and runs closures on it; code that runs on it does the same through
//! the [`Scope`] it is passed. [`IoThreads`] is a registry of them by id that knows which are in use.
//!
//! What it promises:
//!
//! * once [`Handle::remove_handler`] has returned, the handler is never called again and has been dropped;
//! * no wake-up is lost: what is asked of an idle thread is done, whoever asked at the same time;
//! * a descriptor that is always ready starves neither timers nor closures nor other descriptors;
//! * serving a descriptor takes no lock and allocates nothing;
//! * a handler, timer or closure that panics is gone and logged, and harms nothing else (with `panic = "unwind"`).
//!
//! A [`Handler`] with a hook is **polled adaptively**: where that pays, the thread asks it for work for a while before it
//! blocks. Meanwhile messages from other threads, timers and all other descriptors are served as ever, the latter
//! within about ten microseconds.
//!
//! Handlers, timers and closures run on the thread one at a time. Those that block, block all of them. Everything is
//! dropped on the thread, descriptors included, so what takes long to close is handed elsewhere by its owner.
//!
//! ```
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//! use std::sync::{Arc, mpsc};
//!
//! use iothread::{Interest, IoThread};
//!
//! let (mut ours, theirs) = UnixStream::pair()?;
//! let iothread = IoThread::builder("IO doc").start()?;
//! let (sender, receiver) = mpsc::channel();
//! let stream = Arc::new(theirs);
//! let id = iothread.handle().add_handler(Arc::clone(&stream), Interest::READ, move |_events, _scope| {
//!     let mut buffer = [0; 16];
//!     if let Ok(count) = (&*stream).read(&mut buffer) {
//!         let _ = sender.send(buffer[..count].to_vec());
//!     }
//! })?;
//! ours.write_all(b"hello")?;
//! assert_eq!(receiver.recv()?, b"hello");
//! iothread.handle().remove_handler(id);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ack;
mod adaptive;
mod affinity;
mod error;
mod event_loop;
mod guard;
mod handle;
mod handler;
mod handlers;
mod inbox;
mod interest;
mod polled;
mod properties;
mod registry;
mod scope;
mod shared;
mod stats;
mod sync;
mod thread;
mod timers;
mod wait;

pub use error::Error;
pub use handle::Handle;
pub use handler::Handler;
pub use handlers::HandlerId;
pub use interest::{Events, Interest};
pub use properties::{NAMES as PROPERTY_NAMES, Properties};
pub use registry::{Info, IoThreadRef, IoThreads};
pub use scope::Scope;
pub use stats::{Counter, Stats};
pub use thread::{Builder, IoThread};
pub use timers::TimerId;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
