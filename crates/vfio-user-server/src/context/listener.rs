//! Where clients connect to.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use fd_closer::Received;
use rustix::fs::{FileType, Mode, lstat};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_peercred, socket_type};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen, socket_with,
};

use super::Credentials;

/// Clients that may wait while one is served.
const BACKLOG: i32 = 8;

/// Where clients connect to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listen {
    /// A socket file, made with mode 0600 (less the umask); 0666 if
    /// [users](super::Builder::allowed_uids) other than this process's are admitted, who are told apart then. A file that a process left behind which is no more is replaced;
    /// a socket that somebody listens on is refused, as is a file of another kind. Unlinked when the context goes.
    Path(PathBuf),
    /// A name in the abstract namespace, without the NUL in front.
    Abstract(Vec<u8>),
    /// A unix stream socket that listens, or one that is connected to the only client there will be. It may have come from a
    /// client and be anything: what it holds is closed where nobody waits.
    Fd(Received),
}

/// A socket that clients come from.
pub(super) struct Listener {
    source: Source,
    /// The file that is ours to unlink: its path, and which file it was.
    file: Option<(PathBuf, (u64, u64))>,
}

/// Either may hold descriptors that clients in its backlog, or its client, have sent: so neither is closed here.
enum Source {
    Listening(Received),
    /// Connected from the start; taken by the first accept.
    Connected(Option<Received>),
}

/// A client that has connected.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: OwnedFd,
    /// `None` if the kernel does not say.
    pub(super) credentials: Option<Credentials>,
}

impl Listener {
    /// `public`: a socket file lets everybody in, since it is looked at who they are.
    pub(super) fn new(listen: Listen, public: bool) -> io::Result<Self> {
        match listen {
            Listen::Path(path) => Self::on_path(&path, public),
            Listen::Abstract(name) => {
                let address = SocketAddrUnix::new_abstract_name(&name)?;
                Ok(Self { source: Source::Listening(listening(&address)?.into()), file: None })
            }
            Listen::Fd(fd) => Self::on_fd(fd),
        }
    }

    fn on_path(path: &Path, public: bool) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        if let Ok(old) = lstat(path) {
            if FileType::from_raw_mode(old.st_mode) != FileType::Socket || somebody_listens(&address) {
                return Err(Errno::ADDRINUSE.into());
            }
            rustix::fs::unlink(path)?;
        }
        let socket = listening(&address)?;
        if public {
            rustix::fs::chmod(path, Mode::from_raw_mode(0o666))?;
        }
        let made = lstat(path)?;
        // By its absolute path: the process may change its directory meanwhile.
        let file = Some((std::path::absolute(path)?, (made.st_dev, made.st_ino)));
        Ok(Self { source: Source::Listening(socket.into()), file })
    }

    fn on_fd(fd: Received) -> io::Result<Self> {
        if socket_domain(&fd)? != AddressFamily::UNIX || socket_type(&fd)? != SocketType::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a unix stream socket"));
        }
        let listens = socket_acceptconn(&fd)?;
        if listens {
            rustix::io::ioctl_fionbio(&fd, true)?;
        }
        let source = if listens { Source::Listening(fd) } else { Source::Connected(Some(fd)) };
        Ok(Self { source, file: None })
    }

    /// The next client; `None` if there is none now.
    pub(super) fn accept(&mut self) -> io::Result<Option<Accepted>> {
        let stream = match &mut self.source {
            Source::Connected(stream) => stream.take().map(Received::into_fd),
            Source::Listening(socket) => {
                match accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(stream) => Some(stream),
                    Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => None,
                    Err(error) => return Err(error.into()),
                }
            }
        };
        Ok(stream.map(|stream| Accepted { credentials: credentials(stream.as_fd()), stream }))
    }

    /// Whether there can be a client after the one that there was.
    pub(super) fn lasts(&self) -> bool {
        matches!(self.source, Source::Listening(_))
    }

    /// What to watch. `None`: the client is there already.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Listening(socket) => Some(socket.as_fd()),
            Source::Connected(_) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Only the file that was made: somebody may have put another in its place.
        if let Some((path, made)) = self.file.take()
            && lstat(&path).is_ok_and(|now| (now.st_dev, now.st_ino) == made)
        {
            let _ = rustix::fs::unlink(&path);
        }
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("file", &self.file).finish_non_exhaustive()
    }
}

fn stream_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

/// A socket's mode before `bind` is the mode of the file that `bind` makes, so nobody else gets in even at first.
fn listening(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, address)?;
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Whether the socket is alive: one that nobody listens on refuses, and one that is full is alive.
fn somebody_listens(address: &SocketAddrUnix) -> bool {
    match stream_socket() {
        Ok(socket) => !matches!(connect(&socket, address), Err(Errno::CONNREFUSED | Errno::NOENT)),
        Err(_) => true,
    }
}

fn credentials(stream: BorrowedFd<'_>) -> Option<Credentials> {
    let peer = socket_peercred(stream).ok()?;
    Some(Credentials { pid: peer.pid.as_raw_nonzero().get(), uid: peer.uid.as_raw(), gid: peer.gid.as_raw() })
}
