//! Where clients connect to.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread;

use fd_closer::Received;
use peer_admission::{Allowed, Credentials};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, Mode, lstat};
use rustix::io::Errno;
use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect, listen,
    shutdown, socket_with,
};
use thread_start::{Starter, ThreadKind};

use super::poller::Poller;

/// Clients that may wait while one is served.
const BACKLOG: i32 = 8;

/// Where clients connect to.
#[derive(Debug)]
#[non_exhaustive]
pub enum Listen {
    /// A socket file, made with mode 0600 (less the umask); 0666 if [users](super::Builder::allowed_uids) other than this
    /// process's are admitted, or [groups](super::Builder::allowed_gids), who are told apart then. A file that a process
    /// left behind which is no more is replaced; a socket that somebody listens on is refused, as is a file of another
    /// kind. Unlinked when the context goes.
    Path(PathBuf),
    /// A name in the abstract namespace, without the NUL in front. Unless somebody else is
    /// [admitted](super::Builder::allowed_uids), only root and this process's user get in.
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
    /// Starts the threads that accept where that can wait.
    starter: Starter,
}

/// All may hold descriptors that clients in their backlogs, or the client, have sent: so none is closed here.
enum Source {
    /// Made here, and nobody else's. `None` only while it is dropped.
    Own(Option<OwnedFd>),
    /// Given, and perhaps its giver's still: who can make it blocking, and take clients away, at any moment. `accept` has
    /// no flag against that, so a thread of its own accepts, and this is how its result comes.
    Given(Arc<Received>, Option<mpsc::Receiver<io::Result<Received>>>),
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

/// Who comes next.
#[derive(Debug)]
pub(super) enum Next {
    /// This one.
    Client(Accepted),
    /// Nobody is there.
    Nobody,
    /// Somebody is being accepted; the poller is woken when that is done.
    Soon,
}

/// Accepting needs next to no stack.
const STACK: usize = 64 * 1024;

impl Listener {
    /// `allowed` decides on a socket file's mode.
    pub(super) fn new(listen: Listen, allowed: &Allowed, starter: Starter) -> io::Result<Self> {
        match listen {
            Listen::Path(path) => Self::on_path(&path, allowed, starter),
            Listen::Abstract(name) => {
                let address = SocketAddrUnix::new_abstract_name(&name)?;
                Ok(Self {
                    source: Source::Own(Some(bound(&address).and_then(listening)?)),
                    file: None,
                    starter,
                })
            }
            Listen::Fd(fd) => Self::on_fd(fd, starter),
        }
    }

    fn on_path(path: &Path, allowed: &Allowed, starter: Starter) -> io::Result<Self> {
        let address = SocketAddrUnix::new(path)?;
        if let Ok(old) = lstat(path) {
            if FileType::from_raw_mode(old.st_mode) != FileType::Socket || somebody_listens(&address) {
                return Err(Errno::ADDRINUSE.into());
            }
            rustix::fs::unlink(path)?;
        }
        let socket = bound(&address)?;
        let made = lstat(path)?;
        let made = (made.st_dev, made.st_ino);
        // By its absolute path: the process may change its directory meanwhile.
        let file = Some((std::path::absolute(path)?, made));
        // From here on what fails unlinks the file.
        let mut listener = Self { source: Source::Own(None), file, starter };
        allowed.open_file(path, made)?;
        listener.source = Source::Own(Some(listening(socket)?));
        Ok(listener)
    }

    fn on_fd(fd: Received, starter: Starter) -> io::Result<Self> {
        if socket_domain(&fd)? != AddressFamily::UNIX || socket_type(&fd)? != SocketType::STREAM {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a unix stream socket"));
        }
        let listens = socket_acceptconn(&fd)?;
        if listens {
            rustix::io::ioctl_fionbio(&fd, true)?;
        }
        let source = if listens { Source::Given(Arc::new(fd), None) } else { Source::Connected(Some(fd)) };
        Ok(Self { source, file: None, starter })
    }

    /// The next client.
    pub(super) fn accept(&mut self, poller: &Arc<Poller>) -> io::Result<Next> {
        let accepted = match &mut self.source {
            Source::Connected(stream) => stream.take().map(Received::into_fd).ok_or(Errno::AGAIN.into()),
            Source::Own(Some(socket)) => accept(socket),
            Source::Own(None) => Err(Errno::AGAIN.into()),
            Source::Given(socket, accepting) => {
                let Some(receiver) = accepting else {
                    if !is_readable(&*socket)? {
                        return Ok(Next::Nobody);
                    }
                    *accepting = Some(start_accepting(&self.starter, socket.clone(), Arc::clone(poller))?);
                    return Ok(Next::Soon);
                };
                match receiver.try_recv() {
                    Err(mpsc::TryRecvError::Empty) => return Ok(Next::Soon),
                    Err(mpsc::TryRecvError::Disconnected) => {
                        *accepting = None;
                        Err(io::Error::other("the accepting thread has ended"))
                    }
                    Ok(accepted) => {
                        *accepting = None;
                        accepted.map(Received::into_fd)
                    }
                }
            }
        };
        match accepted {
            Ok(stream) => Ok(Next::Client(Accepted { credentials: Credentials::of(&stream), stream })),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => Ok(Next::Nobody),
                _ => Err(error),
            },
        }
    }

    /// Whether there can be a client after the one that there was.
    pub(super) fn lasts(&self) -> bool {
        !matches!(self.source, Source::Connected(_))
    }

    /// What to watch. `None`: the client is there already.
    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.source {
            Source::Own(socket) => socket.as_ref().map(AsFd::as_fd),
            Source::Given(socket, _) => Some(socket.as_fd()),
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
        match &mut self.source {
            Source::Own(socket) => socket.take().into_iter().for_each(fd_closer::close_listener),
            // The thread would wait for a client that perhaps never comes.
            Source::Given(socket, Some(_)) => drop(shutdown(&**socket, Shutdown::Both)),
            Source::Given(_, None) | Source::Connected(_) => {}
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
fn bound(address: &SocketAddrUnix) -> io::Result<OwnedFd> {
    let socket = stream_socket()?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
    bind(&socket, address)?;
    Ok(socket)
}

fn listening(socket: OwnedFd) -> io::Result<OwnedFd> {
    listen(&socket, BACKLOG)?;
    Ok(socket)
}

fn accept(socket: impl AsFd) -> io::Result<OwnedFd> {
    Ok(accept_with(socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?)
}

fn is_readable(socket: impl AsFd) -> io::Result<bool> {
    let mut asked = [PollFd::new(&socket, PollFlags::IN)];
    Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
}

/// Accepts on a thread of its own, where it may block. It ends when a client comes or the socket is shut down.
fn start_accepting(
    starter: &Starter,
    socket: Arc<Received>,
    poller: Arc<Poller>,
) -> io::Result<mpsc::Receiver<io::Result<Received>>> {
    let (sender, receiver) = mpsc::channel();
    let run = move || {
        let accepted = accept(&*socket).map(Received::from);
        drop(socket);
        // An error says that nobody wants it any more, and closes it.
        let _ = sender.send(accepted);
        poller.wake();
    };
    let builder = thread::Builder::new().stack_size(STACK);
    starter.start_with(builder, ThreadKind::Acceptor, "accept", run)?;
    Ok(receiver)
}

/// Whether the socket is alive: one that nobody listens on refuses, and one that is full is alive.
fn somebody_listens(address: &SocketAddrUnix) -> bool {
    match stream_socket() {
        Ok(socket) => !matches!(connect(&socket, address), Err(Errno::CONNREFUSED | Errno::NOENT)),
        Err(_) => true,
    }
}
