//! The transport of monitors: where clients come from, and how bytes and file descriptors come and go.
//!
//! A [`Chardev`] is QEMU's character device, as far as monitors need it: a listening or connecting socket (unix, TCP
//! with the feature `tcp`, inherited), stdio, files, fifos, or nothing. One [`FrontEnd`] at a time takes its clients, each a
//! [`Connection`]; the front end says how many it takes at once, further clients wait in the kernel's backlog, unseen.
//! `qmp-monitor` is the user; nothing here knows QMP.
//!
//! What holds throughout:
//!
//! * **Descriptors.** Received ones are close-on-exec and owned from the first moment. What the kernel could not
//!   deliver whole is closed and reported. [`Connection::try_peek`] tells whether descriptors come with the bytes
//!   that are there *before* any is taken, which is how a session knows which request they belong to.
//! * **Readiness** (tokio's) is cleared by `EAGAIN`, and by a [`try_take`](Connection::try_take) that has emptied the
//!   socket: each `try_` call runs inside tokio's `try_io`, with `MSG_DONTWAIT`, so a peer that shares the socket and
//!   clears its `O_NONBLOCK` blocks nobody.
//! * **No signals**: sockets are written with `MSG_NOSIGNAL`. A pipe on stdout has no such flag; there the `SIGPIPE`
//!   that Rust's runtime ignores must stay ignored.
//! * **Closing blocks nobody**: a connection's socket, and descriptors that could not be delivered, are closed by
//!   [`fd_closer`]; so is what waits in a listener's backlog, with the descriptors that were sent there.
//! * **Least privilege**: the file of a unix socket has mode 0600 (or less, by the umask) from the moment it exists,
//!   unless others are [listed](SocketOptions::allowed), and is unlinked only while it is the file that was made here. An
//!   abstract name admits root and our own user unless others are listed. TCP listens on loopback only, unless it is
//!   said to be [insecure](SocketOptions::insecure). Who may not connect is closed unheard.
//! * **A listener never ends and never spins**: a failing `accept` (out of descriptors, say) is retried after a pause.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use std::sync::Arc;
//! use chardev::{Address, Backend, Chardev, SocketOptions};
//!
//! let dir = tempfile::tempdir()?;
//! let path = dir.path().join("qmp.sock");
//! let options = SocketOptions::server(Address::unix(&path));
//! let chardev = Arc::new(Chardev::open("mon0", Backend::Socket(options), 128).await?);
//! let mut front_end = chardev.front_end(64)?;
//!
//! let client = std::os::unix::net::UnixStream::connect(&path)?;
//! let connection = front_end.next().await.expect("a listener always has a next client");
//! connection.try_send(b"hello")?;
//! # drop(client);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

mod aside;
mod backend;
mod backoff;
mod badge;
mod chardev;
mod connect;
mod connection;
mod duplex;
mod error;
mod files;
mod front_end;
mod gate;
mod given;
mod given_listener;
pub mod inherited;
mod listener;
mod log;
#[cfg(feature = "tcp")]
mod look_up;
mod nowait;
mod opener;
mod scm;
mod shared;
mod socket_file;
mod stdio;
mod stream;
#[cfg(feature = "tcp")]
mod tcp;
mod terminal;
mod unix;

pub use backend::{Address, Backend, FileOptions, LogOptions, OpenOptions, SocketOptions};
pub use badge::Badge;
pub use chardev::Chardev;
pub use connection::{Connection, Peer};
pub use error::{AttachError, OpenError, reason};
pub use front_end::{FrontEnd, Next};
pub use opener::{OpenedFile, Opener};
pub use peer_admission::{Allowed, Credentials};
pub use scm::{MAX_FDS, Peeked, Received, Taken};
pub use stdio::restore_stdio;
pub use terminal::{RawTerminal, restore_terminals};
