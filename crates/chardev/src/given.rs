//! Sockets that the process was given: with a command line, or by a client.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use fd_closer::Received;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, sockopt};
use thread_start::Starter;
use tokio::net::UnixStream;

use crate::aside::watched;
use crate::chardev::{Names, Opened, Source};
use crate::connection::Peer;
use crate::error::OpenError;
use crate::given_listener::GivenListener;
use crate::listener::Listener;
use crate::stream::Stream;

/// Uses a stream socket by what it is: a listening one gives clients, a connected one is the client. With `listen` one
/// that is neither begins to listen.
pub(crate) fn open(
    fd: OwnedFd,
    name: &str,
    listen: bool,
    backlog: u32,
    starter: Starter,
) -> Result<Opened, OpenError> {
    // Whatever is wrong, its close may block.
    let fd = Received::from(fd);
    let unusable = |source| OpenError::Fd { name: name.to_owned(), source };
    match kind(fd.as_fd()) {
        Ok(SocketType::STREAM) => {}
        Ok(_) => return Err(unusable(io::Error::other("it is not a stream socket"))),
        Err(Errno::NOTSOCK) => return Err(OpenError::FdNotASocket { name: name.to_owned() }),
        Err(errno) => return Err(unusable(errno.into())),
    }
    let listening = sockopt::socket_acceptconn(&fd).map_err(|errno| unusable(errno.into()))?;
    if listening || listen {
        if !listening {
            if is_unbound_tcp(fd.as_fd()).map_err(unusable)? {
                return Err(unusable(io::Error::other("it is not bound: it would listen on all addresses")));
            }
            rustix::net::listen(&fd, i32::try_from(backlog).unwrap_or(i32::MAX))
                .map_err(|errno| OpenError::FdListen { source: errno.into() })?;
        }
        return listener(fd, starter).map_err(unusable);
    }
    let (stream, peer) = connected(fd).map_err(unusable)?;
    let names = Names {
        connected: name_of(&stream, false).unwrap_or_default(),
        disconnected: format!("disconnected:fd:{name}"),
    };
    Ok((names, Source::Socket, Some((stream, peer))))
}

/// The kernel would bind it, to all addresses and some port, which nobody has decided. (It refuses to have others listen that
/// are not bound.)
fn is_unbound_tcp(fd: BorrowedFd<'_>) -> io::Result<bool> {
    if !matches!(sockopt::socket_domain(fd)?, AddressFamily::INET | AddressFamily::INET6) {
        return Ok(false);
    }
    let local = std::net::SocketAddr::try_from(rustix::net::getsockname(fd)?)?;
    Ok(local.port() == 0)
}

fn kind(fd: BorrowedFd<'_>) -> Result<SocketType, Errno> {
    sockopt::socket_type(fd)
}

fn listener(fd: Received, starter: Starter) -> io::Result<Opened> {
    rustix::io::ioctl_fionbio(&fd, true)?;
    match sockopt::socket_domain(&fd)? {
        AddressFamily::UNIX => {
            sockopt::set_socket_passcred(&fd, false)?; // accepted sockets inherit it
            let local: SocketAddrUnix = rustix::net::getsockname(&fd)?.try_into()?;
            let path = local.path().map(|path| path.to_string_lossy().into_owned());
            let connected = format!("unix:{},server=on", path.unwrap_or_default());
            let names = Names { disconnected: format!("disconnected:{connected}"), connected };
            let listener = Listener::Given {
                listener: GivenListener::new(fd, starter)?,
                name: names.connected.as_str().into(),
                #[cfg(feature = "tcp")]
                tcp: false,
            };
            Ok((names, Source::Listener(listener), None))
        }
        #[cfg(feature = "tcp")]
        AddressFamily::INET | AddressFamily::INET6 => {
            let local = crate::tcp::plain(rustix::net::getsockname(&fd)?.try_into()?);
            let names = Names::always(&format!("disconnected:tcp:{local},server=on"));
            let listener =
                Listener::Given { listener: GivenListener::new(fd, starter)?, name: "".into(), tcp: true };
            Ok((names, Source::Listener(listener), None))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// A connected stream socket as a client. It becomes non-blocking, which reaches everybody who has it.
///
/// # Errors
/// `ENOTSOCK`, `ENOTCONN` (a listening socket likewise), or `Unsupported` for another kind or family.
pub(crate) fn connected(fd: Received) -> io::Result<(Stream, Peer)> {
    if kind(fd.as_fd())? != SocketType::STREAM {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let domain = sockopt::socket_domain(&fd)?;
    match domain {
        AddressFamily::UNIX => {}
        #[cfg(feature = "tcp")]
        AddressFamily::INET | AddressFamily::INET6 => {}
        _ => return Err(io::ErrorKind::Unsupported.into()),
    }
    let _: Option<_> = rustix::net::getpeername(&fd)?;
    rustix::io::ioctl_fionbio(&fd, true)?;
    #[cfg(feature = "tcp")]
    if domain != AddressFamily::UNIX {
        return crate::tcp::stream(watched(fd, tokio::net::TcpStream::from_std)?);
    }
    sockopt::set_socket_passcred(&fd, false)?;
    let stream = watched(fd, UnixStream::from_std)?;
    let peer = Peer::of_unix(&stream, "unix");
    Ok((Stream::unix(stream), peer))
}

/// What `query-chardev` calls a chardev with this client, by what the socket itself says.
pub(crate) fn name_of(stream: &Stream, server: bool) -> Option<String> {
    match stream {
        Stream::Unix(stream) => {
            let local = stream.local_addr().ok()?;
            let path = local.as_pathname().map(|path| path.display().to_string()).unwrap_or_default();
            Some(format!("unix:{path}{}", if server { ",server=on" } else { "" }))
        }
        #[cfg(feature = "tcp")]
        Stream::Tcp(stream) => Some(crate::tcp::connected_name(stream, server)),
        Stream::Files(_) => None,
    }
}
