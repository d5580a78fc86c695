//! The chardev: opened by its backend's options, taken by a front end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fd_closer::Received;
use peer_admission::{Allowed, Credentials};
use rustix::io::Errno;
use thread_start::Starter;

use crate::backend::{Address, Backend, OpenOptions, SocketOptions};
use crate::backoff::Backoff;
use crate::badge::Badge;
use crate::connect::Target;
use crate::connection::Peer;
use crate::duplex::Duplex;
use crate::error::{AttachError, OpenError};
use crate::files;
use crate::front_end::FrontEnd;
use crate::gate::Gate;
use crate::given;
use crate::listener::Listener;
use crate::log::Log;
use crate::shared::{Client, HandedIn, Shared};
use crate::stream::Stream;
use crate::unix::{Name, listen_on};

/// A source of clients for one monitor at a time.
///
/// Dropping it (its front end holds it too) closes the listener, unlinks the socket's file if it is still the one
/// made here, and closes parked clients; connections in other hands live on.
pub struct Chardev {
    id: String,
    badge: Option<Badge>,
    names: Names,
    pub(crate) source: Source,
    gate: Gate,
    pub(crate) shared: Arc<Shared>,
}

/// Where clients come from.
#[derive(Debug)]
pub(crate) enum Source {
    Listener(Listener),
    /// Made anew after the interval, whenever the last has gone.
    Redialed(Target, Duration),
    /// There is one client, parked from the start; another can only be handed in.
    Socket,
    /// There is one client in all, parked from the start.
    Files,
    Never,
}

/// What the chardev is called in `query-chardev`.
#[derive(Debug)]
pub(crate) struct Names {
    pub(crate) connected: String,
    pub(crate) disconnected: String,
}

impl Names {
    /// A backend that QEMU never calls disconnected.
    pub(crate) fn always(name: &str) -> Self {
        Self { connected: name.to_owned(), disconnected: name.to_owned() }
    }
}

/// What an opened backend consists of: names, source, and the first client if there is one already.
pub(crate) type Opened = (Names, Source, Option<(Stream, Peer)>);

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
        Self::open_with(id, backend, OpenOptions::new(backlog)).await
    }

    /// As [`open`](Self::open), with all options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(id: &str, backend: Backend, options: OpenOptions) -> Result<Self, OpenError> {
        let OpenOptions { backlog, badge, log, opener, starter } = options;
        let log = match log {
            Some(log) => {
                Some(Log::new(files::open_log(log.path, log.append, opener.clone(), &starter).await?))
            }
            None => None,
        };
        let (mut wait, mut gate) = (false, Gate::new(Allowed::ANYBODY));
        let (names, source, client) = match backend {
            Backend::Null => (Names::always("null"), Source::Never, None),
            Backend::Stdio => opened_files("stdio", crate::stdio::open()?),
            Backend::File(options) => {
                opened_files("file", files::open_file(options, opener, &starter).await?)
            }
            Backend::Pipe(path) => opened_files("pipe", files::open_pipe(path, opener, &starter).await?),
            Backend::Socket(options) => {
                wait = options.wait;
                gate = gate_of(&options);
                let allowed = options.allowed.clone();
                let opened = open_socket(options, backlog, starter).await?;
                check_lists(&allowed, &opened.1)?;
                opened
            }
        };
        let chardev =
            Self { id: id.to_owned(), badge, names, source, gate, shared: Arc::new(Shared::new(log)) };
        if let Some(client) = client {
            let client = Client::new(client);
            chardev.park_accepted(client);
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
        let mut backoff = Backoff::default();
        tokio::select! {
            biased;
            // It may be there already, be accepted by a front end, or be handed in.
            () = self.shared.one_connected() => {}
            client = self.accept(listener, &mut backoff) => self.park_accepted(Client::new(client)),
        }
    }

    /// The id that it was opened with.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whose it is, as its opener said.
    #[must_use]
    pub fn badge(&self) -> Option<&Badge> {
        self.badge.as_ref()
    }

    /// Whether it is a socket: only such can be [handed](Self::attach) a client, and [hung up](Self::disconnect) on.
    #[must_use]
    pub fn is_socket(&self) -> bool {
        matches!(self.source, Source::Listener(_) | Source::Redialed(..) | Source::Socket)
    }

    /// The backend's name in `chardev-add`: `socket`, `null`, `file`, `pipe` or `stdio`.
    #[must_use]
    pub fn kind(&self) -> &str {
        // Only sockets are called by their address.
        if self.is_socket() { "socket" } else { &self.names.connected }
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
            Source::Listener(listener) => listener.local_addr(),
            _ => None,
        }
    }

    /// Takes the chardev's clients, at most `max_clients` (at least 1) at a time. When the front end is dropped, the
    /// chardev can be taken again.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while there is another front end.
    pub fn front_end(self: &Arc<Self>, max_clients: usize) -> Result<FrontEnd, OpenError> {
        // What has one client at a time waits for that one to go.
        let max_clients = match &self.source {
            Source::Listener(_) => max_clients.max(1),
            Source::Redialed(..) | Source::Socket | Source::Files | Source::Never => 1,
        };
        if !self.shared.claim_front_end(max_clients) {
            return Err(self.in_use());
        }
        Ok(FrontEnd::new(Arc::clone(self), max_clients))
    }

    /// Whether a front end has it now.
    #[must_use]
    pub fn has_front_end(&self) -> bool {
        self.shared.has_front_end()
    }

    /// Keeps front ends and further clients away for good: who takes a chardev off a list does so first, so that
    /// nobody begins to use it meanwhile.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while it has a front end, or when it was retired before.
    pub fn retire(&self) -> Result<(), OpenError> {
        if self.shared.retire() { Ok(()) } else { Err(self.in_use()) }
    }

    fn in_use(&self) -> OpenError {
        OpenError::InUse { id: self.id.clone() }
    }

    /// Hands a connected socket to a socket chardev as a further client, which the front end gets like any other, with
    /// this badge. There is room for as many as the front end takes at once; without a front end for one, which waits. If
    /// users or groups are [listed](SocketOptions::allowed), the socket's peer must be among them.
    ///
    /// The socket becomes non-blocking, also for others who have it. Needs a tokio runtime with I/O.
    ///
    /// # Errors
    /// See [`AttachError`]. The descriptor is closed then, where nobody waits.
    pub fn attach(&self, fd: impl Into<Received>, badge: Option<Badge>) -> Result<(), AttachError> {
        self.attach_from(fd, badge, None)
    }

    /// As [`attach`](Self::attach), for who knows which process hands the socket in: whoever shares places out counts the
    /// client as that one's, who can make sockets with peers of any name.
    ///
    /// # Errors
    /// As [`attach`](Self::attach).
    pub fn attach_from(
        &self,
        fd: impl Into<Received>,
        badge: Option<Badge>,
        giver: Option<Credentials>,
    ) -> Result<(), AttachError> {
        let fd = fd.into();
        if !self.is_socket() {
            return Err(AttachError::NotASocketChardev);
        }
        let (stream, peer) = given::connected(fd).map_err(|source| AttachError::Unusable { source })?;
        if !self.gate.admits_handed_in(&self.id, &stream, &peer) {
            return Err(AttachError::Refused);
        }
        let name = given::name_of(&stream, self.is_server());
        let client =
            Client { handed_in: Some(Box::new(HandedIn { badge, giver })), ..Client::new((stream, peer)) };
        self.shared.park_if_room(client, name).map_err(|_| AttachError::Full)
    }

    /// Hangs up on all clients of a socket chardev, those that sessions have and those that wait: each sees the end of
    /// its connection. A listener goes on listening, and a client with `reconnect` connects again. Never waits.
    pub fn disconnect(&self) {
        if self.is_socket() {
            self.shared.disconnect();
        }
    }

    /// The next client that may connect, however long it takes and whatever goes wrong meanwhile. May be dropped at any
    /// time.
    pub(crate) async fn accept(&self, listener: &Listener, backoff: &mut Backoff) -> (Stream, Peer) {
        loop {
            backoff.pause().await;
            match listener.accept().await {
                Ok(client) => {
                    backoff.succeeded();
                    if let Some((stream, peer)) = client
                        && self.gate.admits(&self.id, &stream, &peer)
                    {
                        return (stream, peer);
                    }
                    // Between any two of a flood of these, others have their turn.
                    tokio::task::yield_now().await;
                }
                Err(error) if is_clients(&error) => tokio::task::yield_now().await,
                Err(error) => backoff.failed(&self.id, &error),
            }
        }
    }

    /// Keeps a new client for the front end.
    fn park_accepted(&self, client: Client) {
        self.shared.set_name(self.name_of_accepted(&client.stream));
        self.shared.park(client);
    }

    /// What the chardev is called with this client, if that is the client's own.
    pub(crate) fn name_of_accepted(&self, stream: &Stream) -> Option<String> {
        match stream {
            #[cfg(feature = "tcp")]
            Stream::Tcp(_) => given::name_of(stream, self.is_server()),
            _ => None,
        }
    }

    fn is_server(&self) -> bool {
        matches!(self.source, Source::Listener(_))
    }
}

impl fmt::Debug for Chardev {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, source, shared, .. } = self;
        f.debug_struct("Chardev")
            .field("id", id)
            .field("source", source)
            .field("shared", shared)
            .finish_non_exhaustive()
    }
}

/// Whether it was one client's connection that failed, and not the listener: `accept` passes on what TCP has heard of it.
fn is_clients(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::NotConnected
            | Kind::HostUnreachable
            | Kind::NetworkUnreachable
            | Kind::NetworkDown
    ) || Errno::from_io_error(error) == Some(Errno::PROTO)
}

/// What is called by its kind, whether anybody is there or not.
fn opened_files(name: &str, files: Duplex) -> Opened {
    let client = (Stream::Files(Box::new(files)), Peer::named(name));
    (Names::always(name), Source::Files, Some(client))
}

/// Who may connect to such a socket.
fn gate_of(options: &SocketOptions) -> Gate {
    match options.address {
        Address::Unix { abstract_name: true, .. } if options.server => {
            Gate::of_abstract_name(options.allowed.clone())
        }
        _ => Gate::new(options.allowed.clone()),
    }
}

/// Only a unix listener can tell who connects.
fn check_lists(allowed: &Allowed, source: &Source) -> Result<(), OpenError> {
    match source {
        _ if allowed.is_anybody() => Ok(()),
        Source::Listener(listener) if listener.is_unix() => Ok(()),
        _ => Err(OpenError::NotAUnixListener { option: allowed.option() }),
    }
}

async fn open_socket(options: SocketOptions, backlog: u32, starter: Starter) -> Result<Opened, OpenError> {
    let SocketOptions { address, server, reconnect, allowed, insecure, .. } = options;
    // What can be said before anything is touched.
    let could_be = match address {
        Address::Unix { .. } => server,
        Address::Fd { .. } => true,
        #[cfg(feature = "tcp")]
        Address::Tcp { .. } => false,
    };
    if !allowed.is_anybody() && !could_be {
        return Err(OpenError::NotAUnixListener { option: allowed.option() });
    }
    #[cfg(not(feature = "tcp"))]
    let _ = insecure;
    match address {
        Address::Fd { fd, name } => given::open(fd, &name, server, backlog, starter),
        Address::Unix { path, abstract_name, tight } if server => {
            let name = Name { path: &path, abstract_name, tight };
            let (listener, file) = listen_on(name, backlog, &allowed)?;
            let shown = if abstract_name { String::new() } else { name.text() };
            let names = Names {
                connected: format!("unix:{shown},server=on"),
                disconnected: name.disconnected(",server=on"),
            };
            let (listener, name) = (listener.into(), format!("unix:{}", name.text()).into());
            let listener = Listener::Unix { listener, name, _file: file };
            Ok((names, Source::Listener(listener), None))
        }
        Address::Unix { path, abstract_name, tight } => {
            let name = Name { path: &path, abstract_name, tight };
            // Before it is tried again and again.
            name.address()?;
            // QEMU shows the local address, and a client's socket has none.
            let names = Names { connected: "unix:".into(), disconnected: name.disconnected("") };
            dial(names, Target::Unix { path, abstract_name, tight }, reconnect).await
        }
        #[cfg(feature = "tcp")]
        Address::Tcp { host, port, to, ipv4, ipv6, numeric, keep_alive } => {
            let address = crate::tcp::TcpAddress { host, port, ipv4, ipv6, numeric, keep_alive, starter };
            if server {
                let listener = address.listen(to, backlog, insecure).await?;
                let local = listener.local_addr().map_or_else(|_| address.text(), crate::tcp::plain);
                let names = Names::always(&format!("disconnected:tcp:{local},server=on"));
                return Ok((names, Source::Listener(Listener::Tcp(listener)), None));
            }
            address.check()?;
            let names = Names::always(&format!("disconnected:tcp:{}", address.text()));
            dial(names, Target::Tcp(address), reconnect).await
        }
    }
}

/// What is longer is never meant, and would end beyond the clock.
const LONGEST_INTERVAL: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// Client mode: connects now, or leaves it to the front end to connect whenever it must.
async fn dial(names: Names, target: Target, reconnect: Option<Duration>) -> Result<Opened, OpenError> {
    match reconnect {
        Some(interval) => Ok((names, Source::Redialed(target, interval.min(LONGEST_INTERVAL)), None)),
        None => {
            let client = target.connect().await?;
            Ok((names, Source::Socket, Some(client)))
        }
    }
}
