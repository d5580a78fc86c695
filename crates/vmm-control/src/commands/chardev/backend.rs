//! What `chardev-add` is told: QEMU's `ChardevBackend`, as far as there are such backends, and what it means here.
//!
//! All members of a branch are there. What cannot be had (TLS, telnet) is refused when it is asked for.

use std::path::PathBuf;
use std::time::Duration;

use chardev::{Address, Allowed, Backend, FileOptions, LogOptions, SocketOptions};
use qmp_command::{CommandError, CommandResult, QapiType};
use serde::Deserialize;

use crate::bounds;
#[cfg(feature = "tcp")]
use crate::socket_address::InetSocketAddress;
use crate::socket_address::{SocketAddressType, StringValue, UnixSocketAddress};

/// A chardev's backend.
#[derive(Debug, QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
#[qapi(tag_type = "ChardevBackendKind")]
pub(crate) enum ChardevBackend {
    /// A file that is written.
    File(ChardevFileWrapper),
    /// Two fifos, or one file for both directions.
    Pipe(ChardevHostdevWrapper),
    /// A socket.
    Socket(ChardevSocketWrapper),
    /// Nothing.
    Null(ChardevCommonWrapper),
    /// The process's standard input and output.
    Stdio(ChardevStdioWrapper),
}

/// Wraps the options of a file.
#[derive(Debug, Deserialize, QapiType)]
pub(crate) struct ChardevFileWrapper {
    /// The options.
    data: ChardevFile,
}

/// Wraps the options of a pipe.
#[derive(Debug, Deserialize, QapiType)]
pub(crate) struct ChardevHostdevWrapper {
    /// The options.
    data: ChardevHostdev,
}

/// Wraps the options of a socket.
#[derive(Debug, Deserialize, QapiType)]
pub(crate) struct ChardevSocketWrapper {
    /// The options.
    data: Box<ChardevSocket>,
}

/// Wraps the options that all chardevs have.
#[derive(Debug, Deserialize, QapiType)]
pub(crate) struct ChardevCommonWrapper {
    /// The options.
    data: ChardevCommon,
}

/// Wraps the options of stdio.
#[derive(Debug, Deserialize, QapiType)]
pub(crate) struct ChardevStdioWrapper {
    /// The options.
    data: ChardevStdio,
}

/// What all chardevs have.
#[derive(Debug, Deserialize, QapiType)]
struct ChardevCommon {
    /// A file that everything sent is noted in.
    logfile: Option<String>,
    /// Keep what is in the log file. Off by default.
    logappend: Option<bool>,
}

/// A file.
#[derive(Debug, Deserialize, QapiType)]
struct ChardevFile {
    /// A file that everything sent is noted in.
    logfile: Option<String>,
    /// Keep what is in the log file. Off by default.
    logappend: Option<bool>,
    /// The file that is read. Without it there is no input.
    r#in: Option<String>,
    /// The file that is written; made if it is not there.
    out: String,
    /// Keep what is in the file. Off by default.
    append: Option<bool>,
}

/// A pipe.
#[derive(Debug, Deserialize, QapiType)]
struct ChardevHostdev {
    /// A file that everything sent is noted in.
    logfile: Option<String>,
    /// Keep what is in the log file. Off by default.
    logappend: Option<bool>,
    /// The fifos' name without `.in` and `.out`, or one file's.
    device: String,
}

/// Standard input and output.
#[derive(Debug, Deserialize, QapiType)]
struct ChardevStdio {
    /// A file that everything sent is noted in.
    logfile: Option<String>,
    /// Keep what is in the log file. Off by default.
    logappend: Option<bool>,
    /// Whether keys of a terminal still raise signals. They do.
    signal: Option<bool>,
}

/// A socket.
#[derive(Debug, Deserialize, QapiType)]
#[serde(rename_all = "kebab-case")]
struct ChardevSocket {
    /// A file that everything sent is noted in.
    logfile: Option<String>,
    /// Keep what is in the log file. Off by default.
    logappend: Option<bool>,
    /// Where to listen or to connect to.
    addr: SocketAddressLegacy,
    /// Credentials for TLS. There are none.
    tls_creds: Option<String>,
    /// Who may connect by TLS.
    tls_authz: Option<String>,
    /// Listen (the default) or connect.
    server: Option<bool>,
    /// Listening only: the command ends when a client has connected. Off by default.
    wait: Option<bool>,
    /// TCP only: small writes are sent at once. They always are.
    #[expect(dead_code, reason = "it is so whatever is asked")]
    nodelay: Option<bool>,
    /// Speak telnet. Off, as it cannot be had.
    telnet: Option<bool>,
    /// Speak tn3270. Off, as it cannot be had.
    tn3270: Option<bool>,
    /// Speak websocket. Off, as it cannot be had.
    websocket: Option<bool>,
    /// Connecting only: seconds between attempts. Without it, or with 0, there is one.
    reconnect: Option<i64>,
    /// Listening on a unix socket only: user ids that may connect. Without this and `allowed-gids` that is whom the
    /// socket's mode admits; root and our own user at an abstract name.
    allowed_uids: Option<Vec<u32>>,
    /// Likewise: ids of groups whose members may connect, too, or only, if no user ids are given.
    allowed_gids: Option<Vec<u32>>,
    /// Listening on TCP only: other hosts may connect. Off by default.
    insecure: Option<bool>,
}

/// The address of a socket.
#[derive(Debug, QapiType)]
#[serde(tag = "type", rename_all = "lowercase")]
#[qapi(tag_enum = "SocketAddressType")]
enum SocketAddressLegacy {
    /// TCP.
    #[cfg(feature = "tcp")]
    Inet(InetSocketAddressWrapper),
    /// A unix socket.
    Unix(UnixSocketAddressWrapper),
    /// A socket that was passed with `getfd`.
    Fd(StringWrapper),
}

/// Wraps a TCP address.
#[cfg(feature = "tcp")]
#[derive(Debug, Deserialize, QapiType)]
struct InetSocketAddressWrapper {
    /// The address.
    data: InetSocketAddress,
}

/// Wraps a unix address.
#[derive(Debug, Deserialize, QapiType)]
struct UnixSocketAddressWrapper {
    /// The address.
    data: UnixSocketAddress,
}

/// Wraps the name of an fd.
#[derive(Debug, Deserialize, QapiType)]
struct StringWrapper {
    /// The name.
    data: StringValue,
}

/// What a backend means.
#[derive(Debug)]
pub(crate) struct Meaning {
    pub(crate) backend: Backend,
    pub(crate) log: Option<LogOptions>,
    /// It listens, and is there for its user only when a client has connected.
    pub(crate) wait: bool,
}

impl ChardevBackend {
    /// The backend's name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Pipe(_) => "pipe",
            Self::Socket(_) => "socket",
            Self::Null(_) => "null",
            Self::Stdio(_) => "stdio",
        }
    }

    /// All names there are, in the order in which QEMU lists them.
    pub(crate) const NAMES: [&'static str; 5] = ["file", "socket", "null", "pipe", "stdio"];

    /// What is meant. `take_fd` gives the fd of a name, for good.
    ///
    /// # Errors
    /// What contradicts itself or cannot be had.
    pub(crate) fn meaning(
        self,
        take_fd: impl FnOnce(&str) -> CommandResult<fd_closer::Received>,
    ) -> CommandResult<Meaning> {
        let (backend, logfile, logappend, wait) = match self {
            Self::File(ChardevFileWrapper { data }) => {
                let options = FileOptions {
                    path: data.out.into(),
                    input: data.r#in.map(PathBuf::from),
                    append: data.append.unwrap_or(false),
                };
                (Backend::File(options), data.logfile, data.logappend, false)
            }
            Self::Pipe(ChardevHostdevWrapper { data }) => {
                (Backend::Pipe(data.device.into()), data.logfile, data.logappend, false)
            }
            Self::Null(ChardevCommonWrapper { data }) => (Backend::Null, data.logfile, data.logappend, false),
            Self::Stdio(ChardevStdioWrapper { data }) => {
                refuse("signal=off", data.signal == Some(false))?;
                (Backend::Stdio, data.logfile, data.logappend, false)
            }
            Self::Socket(ChardevSocketWrapper { data }) => {
                let (logfile, logappend) = (data.logfile.clone(), data.logappend);
                let wait = data.wait.unwrap_or(false);
                (Backend::Socket(data.options(take_fd)?), logfile, logappend, wait)
            }
        };
        let append = logappend.unwrap_or(false);
        let log = logfile.map(|path| LogOptions { path: path.into(), append });
        Ok(Meaning { backend, log, wait })
    }
}

impl ChardevSocket {
    fn options(
        self,
        take_fd: impl FnOnce(&str) -> CommandResult<fd_closer::Received>,
    ) -> CommandResult<SocketOptions> {
        let server = self.server.unwrap_or(true);
        self.check(server)?;
        bounds::list("allowed-uids", self.allowed_uids.as_ref())?;
        bounds::list("allowed-gids", self.allowed_gids.as_ref())?;
        let address = self.addr.address(take_fd)?;
        // QEMU takes what is below 0 for 0.
        let seconds = self.reconnect.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0);
        let reconnect = (seconds > 0).then(|| Duration::from_secs(seconds));
        let allowed = Allowed::new(self.allowed_uids, self.allowed_gids);
        let insecure = self.insecure.unwrap_or(false);
        Ok(SocketOptions { address, server, wait: false, reconnect, allowed, insecure })
    }

    /// What contradicts itself or cannot be had, in QEMU's order.
    fn check(&self, server: bool) -> CommandResult<()> {
        let incompatible = |option: &str, with: &str| {
            Err(CommandError::generic(format!("'{option}' option is incompatible with {with}")))
        };
        if let Some(creds) = &self.tls_creds {
            return Err(CommandError::generic(format!("No TLS credentials with id '{creds}'")));
        }
        if self.reconnect.is_some() && matches!(self.addr, SocketAddressLegacy::Fd(_)) {
            return incompatible("reconnect", "'fd' address type");
        }
        if self.tls_authz.is_some() {
            return Err(CommandError::generic("'tls_authz' option requires 'tls_creds' option"));
        }
        if server && self.reconnect.is_some() {
            return incompatible("reconnect", "socket in server listen mode");
        }
        if !server && self.websocket == Some(true) {
            return Err(CommandError::generic("Websocket client is not implemented"));
        }
        if !server && self.wait.is_some() {
            return incompatible("wait", "socket in client connect mode");
        }
        refuse("telnet", self.telnet == Some(true))?;
        refuse("tn3270", self.tn3270 == Some(true))?;
        refuse("websocket", self.websocket == Some(true))
    }
}

impl SocketAddressLegacy {
    fn address(
        self,
        take_fd: impl FnOnce(&str) -> CommandResult<fd_closer::Received>,
    ) -> CommandResult<Address> {
        match self {
            Self::Unix(UnixSocketAddressWrapper { data }) => Ok(Address::Unix {
                path: data.path.into(),
                abstract_name: data.r#abstract.unwrap_or(false),
                tight: data.tight.unwrap_or(true),
            }),
            Self::Fd(StringWrapper { data }) => {
                Ok(Address::Fd { fd: take_fd(&data.str)?.into_fd(), name: data.str })
            }
            #[cfg(feature = "tcp")]
            Self::Inet(InetSocketAddressWrapper { data }) => data.address(),
        }
    }
}

#[cfg(feature = "tcp")]
impl InetSocketAddress {
    fn address(self) -> CommandResult<Address> {
        let Self { host, port, numeric, to, ipv4, ipv6, keep_alive, mptcp } = self;
        if (ipv4, ipv6) == (Some(false), Some(false)) {
            return Err(CommandError::generic("Cannot disable IPv4 and IPv6 at same time"));
        }
        refuse("mptcp", mptcp == Some(true))?;
        let number = if port.is_empty() { Ok(0) } else { port.parse() };
        let port = number.map_err(|_| {
            CommandError::generic(format!(
                "address resolution failed for {host}:{port}: Servname not supported for ai_socktype"
            ))
        })?;
        let (numeric, keep_alive) = (numeric.unwrap_or(false), keep_alive.unwrap_or(false));
        Ok(Address::Tcp { host, port, to, ipv4, ipv6, numeric, keep_alive })
    }
}

fn refuse(option: &str, asked: bool) -> CommandResult<()> {
    match asked {
        true => Err(CommandError::generic(format!("'{option}' is not supported"))),
        false => Ok(()),
    }
}
