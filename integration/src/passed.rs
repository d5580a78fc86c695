//! A listener that a client has passed and still has, to take the connections to it away before they are accepted.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{LIMIT, poll_until};

/// How long an `accept` gets to be where it will wait.
const SOON: Duration = Duration::from_millis(50);

/// Our own of a listener to pass.
#[derive(Debug)]
pub struct PassedListener {
    own: OwnedFd,
    address: Address,
}

#[derive(Debug)]
enum Address {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

impl PassedListener {
    /// Listens on a path.
    ///
    /// # Errors
    /// As `bind`.
    pub fn unix(path: &Path) -> io::Result<Self> {
        Ok(Self { own: UnixListener::bind(path)?.into(), address: Address::Unix(path.to_owned()) })
    }

    /// Listens on a port of this host's.
    ///
    /// # Errors
    /// As `bind`.
    pub fn tcp() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        Ok(Self { address: Address::Tcp(listener.local_addr()?), own: listener.into() })
    }

    /// To pass it.
    pub fn fd(&self) -> &OwnedFd {
        &self.own
    }

    /// Connects, takes the connection away if it is quicker than who has been passed the listener, and has him wait for the next.
    pub fn snatch(&self) {
        let connected = match &self.address {
            Address::Unix(path) => UnixStream::connect(path).map(OwnedFd::from),
            Address::Tcp(address) => TcpStream::connect(address).map(OwnedFd::from),
        };
        let _ = rustix::io::ioctl_fionbio(&self.own, true);
        let _ = rustix::net::accept(&self.own);
        let _ = rustix::io::ioctl_fionbio(&self.own, false);
        drop(connected);
    }

    /// Snatches connections until so many threads of the process `pid` wait in an `accept`, where they stay: nobody connects any more.
    ///
    /// # Panics
    /// When that does not come about.
    #[track_caller]
    pub fn leave_accepts_stuck(&self, pid: u32, count: usize) {
        let stuck = poll_until(LIMIT, || {
            self.snatch();
            poll_until(SOON, || accepts(pid) == count)
        });
        assert!(stuck, "{} accepts are stuck, not {count}", accepts(pid));
    }
}

/// How many threads wait for a client whom they accept. The kernel tells which system call a thread waits in.
fn accepts(pid: u32) -> usize {
    let accept4 = if cfg!(target_arch = "x86_64") { "288" } else { "242" };
    let said = |task: &Path, file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let waits = |task: &Path| {
        said(task, "comm").trim_end() == "accept" && said(task, "syscall").split(' ').next() == Some(accept4)
    };
    tasks.filter(|task| waits(&task.path())).count()
}
