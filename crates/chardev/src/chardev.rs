//! The chardev: opened by its backend's options, taken by a front end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::{UnixListener, UnixStream};

use crate::backend::{Address, Backend, SocketOptions};
use crate::backoff::Backoff;
use crate::connect::Target;
use crate::connection::Peer;
use crate::error::OpenError;
use crate::front_end::FrontEnd;
use crate::listener::Listener;
use crate::shared::Shared;
use crate::stdio::Stdio;
use crate::stream::Stream;
use crate::unix::{Name, listen_on};

/// A source of clients for one monitor at a time.
///
/// Dropping it (its front end holds it too) closes the listener, unlinks the socket's file if it is still the one
/// made here, and closes parked clients; connections in other hands live on.
#[derive(Debug)]
pub struct Chardev {
    id: String,
    names: Names,
    pub(crate) source: Source,
    pub(crate) shared: Arc<Shared>,
}

/// Where clients come from.
#[derive(Debug)]
pub(crate) enum Source {
    Listener(Listener),
    /// Made anew after the interval, whenever the last has gone.
    Redialed(Target, Duration),
    /// There is one client in all, parked from the start.
    Once,
    Never,
}

/// What the chardev is called in `query-chardev`.
#[derive(Debug)]
struct Names {
    connected: String,
    disconnected: String,
}

impl Names {
    /// A backend that QEMU never calls disconnected.
    fn always(name: &str) -> Self {
        Self { connected: name.to_owned(), disconnected: name.to_owned() }
    }
}

/// What an opened backend consists of: names, source, and the first client if there is one already.
type Opened = (Names, Source, Option<(Stream, Peer)>);

impl Chardev {
    /// Opens a chardev. `backlog` is a listener's: how many clients may wait besides those that the front end has
    /// taken (the kernel adds one). Needs a tokio runtime with I/O and time, which the connections stay tied to.
    ///
    /// With [`SocketOptions::wait`] it returns when the first client is there, which the front end then gets first.
    /// To do something else between listening and waiting, leave `wait` off and call
    /// [`wait_for_client`](Self::wait_for_client).
    ///
    /// Dropping the future undoes what it has done.
    ///
    /// # Errors
    /// See [`OpenError`]. For a client without `reconnect` that includes nobody being there.
    pub async fn open(id: &str, backend: Backend, backlog: u32) -> Result<Self, OpenError> {
        let (mut wait, mut client) = (false, None);
        let (names, source) = match backend {
            Backend::Null => (Names::always("null"), Source::Never),
            Backend::Stdio => {
                client = Some((Stream::Stdio(Box::new(Stdio::open()?)), Peer::named("stdio")));
                (Names::always("stdio"), Source::Once)
            }
            Backend::Socket(options) => {
                wait = options.wait;
                let (names, source, first) = open_socket(options, backlog).await?;
                client = first;
                (names, source)
            }
        };
        let chardev = Self { id: id.to_owned(), names, source, shared: Arc::default() };
        if let Some((stream, peer)) = client {
            chardev.park(stream, peer);
        }
        if wait && matches!(chardev.source, Source::Listener(_)) {
            tracing::info!(chardev = id, "waiting for connection on: {}", chardev.filename());
            chardev.wait_for_client().await;
        }
        Ok(chardev)
    }

    /// Waits until a client is connected or, for what is not a listener, returns at once. The client stays unread until
    /// a front end takes it. May be dropped at any time.
    pub async fn wait_for_client(&self) {
        let Source::Listener(listener) = &self.source else { return };
        if self.shared.is_connected() {
            return;
        }
        let (stream, peer) = self.accept(listener, &mut Backoff::default()).await;
        self.park(stream, peer);
    }

    /// The id that it was opened with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What `query-chardev` calls it, in QEMU's words: `disconnected:unix:/run/x.sock,server=on` while no client is
    /// connected, then `unix:/run/x.sock,server=on`. For TCP the newest client's address is behind it.
    #[must_use]
    pub fn filename(&self) -> String {
        if !self.shared.is_connected() {
            return self.names.disconnected.clone();
        }
        self.shared.name().unwrap_or_else(|| self.names.connected.clone())
    }

    /// Whether a client is connected, read or not.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.is_connected()
    }

    /// The address of a TCP listener, with its real port. `None` for all else.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.source {
            #[cfg(feature = "tcp")]
            Source::Listener(Listener::Tcp(listener)) => listener.local_addr().ok(),
            _ => None,
        }
    }

    /// Takes the chardev's clients, at most `max_clients` (at least 1) at a time. When the front end is dropped, the
    /// chardev can be taken again.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while there is another front end.
    pub fn front_end(self: &Arc<Self>, max_clients: usize) -> Result<FrontEnd, OpenError> {
        if !self.shared.claim_front_end() {
            return Err(OpenError::InUse { id: self.id.clone() });
        }
        Ok(FrontEnd::new(Arc::clone(self), max_clients))
    }

    /// The next client, however long it takes and whatever goes wrong meanwhile. May be dropped at any time.
    pub(crate) async fn accept(&self, listener: &Listener, backoff: &mut Backoff) -> (Stream, Peer) {
        loop {
            backoff.pause().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    backoff.succeeded();
                    return (stream, peer);
                }
                Err(error) => backoff.failed(&self.id, &error),
            }
        }
    }

    /// Keeps a new client for the front end.
    fn park(&self, stream: Stream, peer: Peer) {
        self.note_name(&stream);
        self.shared.park(stream, peer);
    }

    /// Remembers what a new connection is called, if that is its own.
    pub(crate) fn note_name(&self, stream: &Stream) {
        match stream {
            #[cfg(feature = "tcp")]
            Stream::Tcp(stream) => {
                let server = matches!(self.source, Source::Listener(_));
                self.shared.set_name(crate::tcp::connected_name(stream, server));
            }
            _ => {}
        }
    }
}

async fn open_socket(options: SocketOptions, backlog: u32) -> Result<Opened, OpenError> {
    let SocketOptions { address, server, reconnect, .. } = options;
    match address {
        Address::Fd(fd) => open_fd(fd),
        Address::Unix { path, abstract_name, tight } if server => {
            let name = Name { path: &path, abstract_name, tight };
            let (listener, file) = listen_on(name, backlog)?;
            let shown = if abstract_name { String::new() } else { name.text() };
            let names = Names {
                connected: format!("unix:{shown},server=on"),
                disconnected: name.disconnected(",server=on"),
            };
            let listener = Listener::Unix { listener, name: format!("unix:{}", name.text()), _file: file };
            Ok((names, Source::Listener(listener), None))
        }
        Address::Unix { path, abstract_name, tight } => {
            let name = Name { path: &path, abstract_name, tight };
            // QEMU shows the local address, and a client's socket has none.
            let names = Names { connected: "unix:".into(), disconnected: name.disconnected("") };
            dial(names, Target::Unix { path, abstract_name, tight }, reconnect).await
        }
        #[cfg(feature = "tcp")]
        Address::Tcp { host, port, to, ipv4, ipv6 } => {
            let address = crate::tcp::TcpAddress { host, port, ipv4, ipv6 };
            if server {
                let listener = address.listen(to, backlog).await?;
                let local = listener.local_addr().map_or_else(|_| address.text(), |local| local.to_string());
                let names = Names::always(&format!("disconnected:tcp:{local},server=on"));
                return Ok((names, Source::Listener(Listener::Tcp(listener)), None));
            }
            let names = Names::always(&format!("disconnected:tcp:{}", address.text()));
            dial(names, Target::Tcp(address), reconnect).await
        }
    }
}

/// Client mode: connects now, or leaves it to the front end to connect whenever it must.
async fn dial(names: Names, target: Target, reconnect: Option<Duration>) -> Result<Opened, OpenError> {
    match reconnect {
        Some(interval) => Ok((names, Source::Redialed(target, interval), None)),
        None => {
            let client = target.connect().await?;
            Ok((names, Source::Once, Some(client)))
        }
    }
}

/// A socket that the process was given: it shows what it is.
fn open_fd(fd: OwnedFd) -> Result<Opened, OpenError> {
    let number = fd.as_raw_fd();
    inherited_socket(fd).map_err(|source| OpenError::Fd { fd: number, source })
}

fn inherited_socket(fd: OwnedFd) -> io::Result<Opened> {
    let number = fd.as_raw_fd();
    if sockopt::socket_type(&fd)? != SocketType::STREAM {
        return Err(io::Error::other("not a stream socket"));
    }
    let listening = sockopt::socket_acceptconn(&fd)?;
    let server = if listening { ",server=on" } else { "" };
    let disconnected = format!("disconnected:fd:{number}{server}");
    rustix::io::ioctl_fionbio(&fd, true)?;
    match sockopt::socket_domain(&fd)? {
        AddressFamily::UNIX if listening => {
            sockopt::set_socket_passcred(&fd, false)?; // accepted sockets inherit it
            let listener = UnixListener::from_std(fd.into())?;
            let path = listener.local_addr()?.as_pathname().map(|path| path.display().to_string());
            let connected = format!("unix:{}{server}", path.unwrap_or_default());
            let listener = Listener::Unix { listener, name: connected.clone(), _file: None };
            Ok((Names { connected, disconnected }, Source::Listener(listener), None))
        }
        AddressFamily::UNIX => {
            sockopt::set_socket_passcred(&fd, false)?;
            let stream = UnixStream::from_std(fd.into())?;
            stream.peer_addr()?; // neither listening nor connected is an error
            let path = stream.local_addr()?.as_pathname().map(|path| path.display().to_string());
            let connected = format!("unix:{}", path.unwrap_or_default());
            let peer = Peer::of_unix(&stream, "unix");
            let client = Some((Stream::Unix(stream.into()), peer));
            Ok((Names { connected, disconnected }, Source::Once, client))
        }
        #[cfg(feature = "tcp")]
        AddressFamily::INET | AddressFamily::INET6 => {
            let names = Names::always(&disconnected);
            if listening {
                let listener = tokio::net::TcpListener::from_std(fd.into())?;
                return Ok((names, Source::Listener(Listener::Tcp(listener)), None));
            }
            let stream = tokio::net::TcpStream::from_std(fd.into())?;
            let connected = crate::tcp::connected_name(&stream, false);
            Ok((Names { connected, ..names }, Source::Once, Some(crate::tcp::stream(stream)?)))
        }
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}
