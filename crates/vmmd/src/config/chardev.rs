//! Character devices: where a monitor's bytes come from and go to.
//!
//! A [`ChardevSpec`] is what was written, every key optional, the same for `-chardev`, `-qmp` and `[[chardev]]`; a
//! [`ChardevConfig`] is what it means, and nothing contradictory can be expressed in it. Defaults are QEMU's: a
//! socket connects unless `server` is on, and a listening one waits for its first client unless `wait` is off.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::NamedFdsScope;
use crate::error::{ConfigError, ErrorKind};

/// The longest path that fits a unix socket address, in bytes.
const UNIX_PATH_MAX: usize = 107;

/// One character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChardevConfig {
    /// Its id, unique among the chardevs.
    pub id: String,
    /// Where it was given: the option, or `file:line:column`. To be put before errors about it.
    pub origin: String,
    /// What it is.
    pub backend: ChardevBackend,
    /// How many clients it takes at once, 1 or more. `None`: nobody said.
    pub max_clients: Option<usize>,
    /// Who owns the named fds. `None`: nobody said.
    pub named_fds: Option<NamedFdsScope>,
    /// Where everything that it sends is noted, too.
    pub log: Option<LogFile>,
}

/// The log of a character device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogFile {
    /// The file; `/dev/fdset/N` is an fd of a set.
    pub path: PathBuf,
    /// Keep what is in it.
    pub append: bool,
}

/// What a character device is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChardevBackend {
    /// A socket.
    Socket(SocketConfig),
    /// The process's standard input and output.
    Stdio,
    /// Takes all, gives nothing.
    Null,
    /// A file that is written.
    File {
        /// The file; `/dev/fdset/N` is an fd of a set.
        path: PathBuf,
        /// Keep what is in it.
        append: bool,
    },
    /// The fifos `PATH.in` and `PATH.out`, or one file for both.
    Pipe(PathBuf),
}

/// A socket, listening or connecting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketConfig {
    /// Where.
    pub address: SocketAddress,
    /// Listen (or, for an fd, it is listening) instead of connecting.
    pub server: bool,
    /// Listening only: the start waits until a client has connected.
    pub wait: bool,
    /// Connecting only: how long after a failure or a disconnect the next attempt comes. `None`: there is one only.
    pub reconnect: Option<Duration>,
    /// TCP only: send small writes at once.
    pub nodelay: bool,
    /// Listening unix sockets only: users that may connect. Without these and groups: whom the file's mode admits; root
    /// and this process's user at an abstract name.
    pub allowed_uids: Option<Vec<u32>>,
    /// Likewise: groups whose members may connect, besides those users.
    pub allowed_gids: Option<Vec<u32>>,
    /// Listening TCP sockets only: other hosts may connect.
    pub insecure: bool,
}

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketAddress {
    /// A unix socket.
    Unix {
        /// The file, relative to the current directory; or the name, when `abstract_name`. 1 to 107 bytes.
        path: PathBuf,
        /// Not a file but a name in Linux's abstract namespace.
        abstract_name: bool,
        /// Abstract only: the name is just its own bytes; otherwise it is padded with zeros to 107 of them.
        tight: bool,
    },
    /// A TCP socket.
    Tcp {
        /// A name or an address. Empty: any address to listen on, or this host to connect to.
        host: String,
        /// The port. 0 to listen on a free one.
        port: u16,
        /// Use IPv4: `None` if the name has such an address.
        ipv4: Option<bool>,
        /// Use IPv6: `None` if the name has such an address. Not both are `Some(false)`.
        ipv6: Option<bool>,
    },
    /// An inherited fd by its number: a listening socket with `server`, else a connected one. Never negative.
    Fd(i32),
}

/// A character device as it was written.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[expect(
    missing_docs,
    reason = "each field is the key of the same name; its meaning is said in ChardevConfig"
)]
pub struct ChardevSpec {
    pub id: Option<String>,
    pub backend: Option<String>,
    pub path: Option<String>,
    #[serde(rename = "abstract")]
    pub abstract_name: Option<bool>,
    pub tight: Option<bool>,
    pub host: Option<String>,
    pub port: Option<u16>,
    pub ipv4: Option<bool>,
    pub ipv6: Option<bool>,
    pub fd: Option<i32>,
    pub server: Option<bool>,
    pub wait: Option<bool>,
    pub nodelay: Option<bool>,
    /// Seconds.
    pub reconnect: Option<u64>,
    /// Milliseconds.
    pub reconnect_ms: Option<u64>,
    pub max_clients: Option<usize>,
    pub named_fds: Option<NamedFdsScope>,
    pub append: Option<bool>,
    pub logfile: Option<String>,
    pub logappend: Option<bool>,
    pub allowed_uids: Option<Vec<u32>>,
    pub allowed_gids: Option<Vec<u32>>,
    pub insecure: Option<bool>,
}

impl ChardevSpec {
    /// The backends that there are.
    pub const BACKENDS: &'static [&'static str] = &["socket", "stdio", "null", "file", "pipe"];

    /// What is meant, and warnings about keys that mean nothing to this device.
    ///
    /// # Errors
    /// Whatever contradicts itself or is missing, without the place.
    pub fn build(self, origin: &str) -> Result<(ChardevConfig, Vec<String>), ConfigError> {
        let id = self.id.clone().ok_or(ErrorKind::NoChardevId)?;
        check_id(&id)?;
        let word = self.backend.clone().ok_or_else(|| ErrorKind::MissingBackend(id.clone()))?;
        if self.max_clients == Some(0) {
            let name = "max-clients".to_owned();
            return Err(ErrorKind::Expects { name, expected: "a number from 1" }.into());
        }
        let (backend, idle) = match word.as_str() {
            "socket" => {
                let socket = self.socket()?;
                let idle = self.idle_keys(Some(&socket.address));
                (ChardevBackend::Socket(socket), idle)
            }
            "stdio" => (ChardevBackend::Stdio, self.idle_keys(None)),
            "null" => (ChardevBackend::Null, self.idle_keys(None)),
            "file" => {
                let path = self.path.clone().ok_or(ErrorKind::NoFileName)?.into();
                (ChardevBackend::File { path, append: self.append.unwrap_or(false) }, self.idle_keys(None))
            }
            "pipe" => {
                let path = self.path.clone().ok_or(ErrorKind::NoDevicePath)?.into();
                (ChardevBackend::Pipe(path), self.idle_keys(None))
            }
            other => {
                return Err(ConfigError::new(ErrorKind::NotADriverName(other.to_owned())).near(
                    other,
                    "",
                    Self::BACKENDS.iter().copied(),
                ));
            }
        };
        let warnings =
            idle.into_iter().map(|key| format!("'{key}' means nothing here, it is ignored")).collect();
        let append = self.logappend.unwrap_or(false);
        let log = self.logfile.map(|path| LogFile { path: path.into(), append });
        let (origin, max_clients, named_fds) = (origin.to_owned(), self.max_clients, self.named_fds);
        Ok((ChardevConfig { id, origin, backend, max_clients, named_fds, log }, warnings))
    }

    fn socket(&self) -> Result<SocketConfig, ConfigError> {
        let address = self.address()?;
        let server = self.server.unwrap_or(false);
        let reconnect = match (self.reconnect, self.reconnect_ms) {
            (Some(_), Some(_)) => return Err(ErrorKind::Exclusive("reconnect", "reconnect-ms").into()),
            (Some(seconds), None) => Some(Duration::from_secs(seconds)),
            (None, ms) => ms.map(Duration::from_millis),
        };
        if server && reconnect.is_some() {
            let key = if self.reconnect.is_some() { "reconnect" } else { "reconnect-ms" };
            return Err(ErrorKind::NotForServers(key).into());
        }
        if !server && self.wait.is_some() {
            return Err(ErrorKind::NotForClients("wait").into());
        }
        // One outgoing connection is one client: more would be a promise that cannot be kept.
        if !server && self.max_clients.is_some_and(|count| count > 1) {
            return Err(ErrorKind::NotForClients("max-clients").into());
        }
        Ok(SocketConfig {
            address,
            server,
            wait: server && self.wait.unwrap_or(true),
            reconnect: reconnect.filter(|pause| !pause.is_zero()),
            nodelay: self.nodelay.unwrap_or(false),
            allowed_uids: self.allowed_uids.clone(),
            allowed_gids: self.allowed_gids.clone(),
            insecure: self.insecure.unwrap_or(false),
        })
    }

    fn address(&self) -> Result<SocketAddress, ConfigError> {
        match (&self.path, &self.host, self.fd) {
            (Some(path), None, None) => {
                if path.is_empty() {
                    return Err(ErrorKind::EmptyPath.into());
                }
                if path.len() > UNIX_PATH_MAX {
                    return Err(ErrorKind::PathTooLong(path.clone()).into());
                }
                Ok(SocketAddress::Unix {
                    path: PathBuf::from(path),
                    abstract_name: self.abstract_name.unwrap_or(false),
                    tight: self.tight.unwrap_or(true),
                })
            }
            (None, Some(host), None) => {
                if (self.ipv4, self.ipv6) == (Some(false), Some(false)) {
                    return Err(ErrorKind::NoFamily.into());
                }
                let port = self.port.ok_or(ErrorKind::NoPort)?;
                Ok(SocketAddress::Tcp { host: host.clone(), port, ipv4: self.ipv4, ipv6: self.ipv6 })
            }
            (None, None, Some(fd)) if fd < 0 => Err(ErrorKind::FdNumber(fd.to_string()).into()),
            (None, None, Some(fd)) => Ok(SocketAddress::Fd(fd)),
            (None, None, None) => Err(ErrorKind::NoAddress.into()),
            _ => Err(ErrorKind::SeveralAddresses.into()),
        }
    }

    /// The keys that were given and mean nothing to the device: `None` for one that is no socket.
    fn idle_keys(&self, address: Option<&SocketAddress>) -> Vec<&'static str> {
        let unix = matches!(address, Some(SocketAddress::Unix { .. }));
        let tcp = matches!(address, Some(SocketAddress::Tcp { .. }));
        let socket = address.is_some();
        let of = |backends: &[&str]| self.backend.as_deref().is_some_and(|name| backends.contains(&name));
        [
            ("path", self.path.is_some(), socket || of(&["file", "pipe"])),
            ("append", self.append.is_some(), of(&["file"])),
            ("logappend", self.logappend.is_some(), self.logfile.is_some()),
            ("abstract", self.abstract_name == Some(true), unix),
            ("tight", self.tight.is_some(), unix && self.abstract_name == Some(true)),
            ("host", self.host.is_some(), socket),
            ("port", self.port.is_some(), tcp),
            ("ipv4", self.ipv4.is_some(), tcp),
            ("ipv6", self.ipv6.is_some(), tcp),
            ("fd", self.fd.is_some(), socket),
            ("server", self.server.is_some(), socket),
            ("wait", self.wait.is_some(), socket),
            ("nodelay", self.nodelay == Some(true), tcp),
            ("reconnect", self.reconnect.is_some(), socket),
            ("reconnect-ms", self.reconnect_ms.is_some(), socket),
            ("allowed-uids", self.allowed_uids.is_some(), socket),
            ("allowed-gids", self.allowed_gids.is_some(), socket),
            ("insecure", self.insecure == Some(true), tcp),
            ("max-clients", self.max_clients.is_some_and(|count| count > 1), socket),
        ]
        .into_iter()
        .filter_map(|(key, given, meant)| (given && !meant).then_some(key))
        .collect()
    }
}

/// A letter, then letters, digits, `-`, `.` and `_`.
pub(super) fn check_id(id: &str) -> Result<(), ConfigError> {
    let mut chars = id.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic());
    if first && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_')) {
        Ok(())
    } else {
        Err(ErrorKind::Identifier("id").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unix() -> ChardevSpec {
        ChardevSpec {
            id: Some("c".into()),
            backend: Some("socket".into()),
            path: Some("q.sock".into()),
            ..ChardevSpec::default()
        }
    }

    fn socket(spec: ChardevSpec) -> SocketConfig {
        match spec.build("here").unwrap().0.backend {
            ChardevBackend::Socket(socket) => socket,
            other => panic!("{other:?}"),
        }
    }

    fn refusal(spec: ChardevSpec) -> String {
        spec.build("here").unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_those_of_qemu() {
        let client = socket(unix());
        assert!(!client.server && !client.wait && client.reconnect.is_none());
        let address = SocketAddress::Unix { path: "q.sock".into(), abstract_name: false, tight: true };
        assert_eq!(client.address, address);
        let server = socket(ChardevSpec { server: Some(true), ..unix() });
        assert!(server.server && server.wait);
    }

    #[test]
    fn exactly_one_address() {
        let several = "None or one of 'path', 'fd' or 'host' option required.";
        assert_eq!(refusal(ChardevSpec { fd: Some(3), ..unix() }), several);
        assert_eq!(refusal(ChardevSpec { host: Some("h".into()), ..unix() }), several);
        assert!(refusal(ChardevSpec { path: None, ..unix() }).contains("must be given"));
        assert_eq!(
            refusal(ChardevSpec { path: None, host: Some(String::new()), ..unix() }),
            "chardev: socket: no port given"
        );
        assert!(refusal(ChardevSpec { path: Some(String::new()), ..unix() }).contains("empty"));
        assert!(
            refusal(ChardevSpec { path: Some("a".repeat(108)), ..unix() }).contains("too long\nPath must")
        );
        socket(ChardevSpec { path: Some("a".repeat(107)), ..unix() });
    }

    #[test]
    fn a_listener_does_not_reconnect_and_a_client_does_not_wait() {
        assert_eq!(
            refusal(ChardevSpec { server: Some(true), reconnect: Some(0), ..unix() }),
            "'reconnect' option is incompatible with socket in server listen mode"
        );
        assert_eq!(
            refusal(ChardevSpec { wait: Some(false), ..unix() }),
            "'wait' option is incompatible with socket in client connect mode"
        );
        assert_eq!(
            refusal(ChardevSpec { max_clients: Some(2), ..unix() }),
            "'max-clients' option is incompatible with socket in client connect mode"
        );
        assert_eq!(
            refusal(ChardevSpec { reconnect: Some(1), reconnect_ms: Some(1), ..unix() }),
            "'reconnect' and 'reconnect-ms' are mutually exclusive"
        );
        let ms = socket(ChardevSpec { reconnect_ms: Some(700), ..unix() });
        assert_eq!(ms.reconnect, Some(Duration::from_millis(700)));
        assert_eq!(socket(ChardevSpec { reconnect: Some(0), ..unix() }).reconnect, None);
    }

    #[test]
    fn ids_and_backends() {
        for id in ["", "1a", "a b", "ä"] {
            assert!(
                refusal(ChardevSpec { id: Some(id.into()), ..unix() }).starts_with("Parameter 'id' expects")
            );
        }
        assert_eq!(refusal(ChardevSpec { id: None, ..unix() }), "chardev: no id specified");
        assert_eq!(refusal(ChardevSpec { backend: None, ..unix() }), "chardev: \"c\" missing backend");
        assert_eq!(
            refusal(ChardevSpec { backend: Some("soket".into()), ..unix() }),
            "'soket' is not a valid char driver name; did you mean 'socket'?"
        );
    }

    #[test]
    fn files_and_pipes() {
        let file = |backend: &str, path: Option<&str>| ChardevSpec {
            backend: Some(backend.into()),
            path: path.map(str::to_owned),
            ..unix()
        };
        assert_eq!(refusal(file("file", None)), "chardev: file: no filename given");
        assert_eq!(refusal(file("pipe", None)), "chardev: pipe: no device path given");
        let spec = ChardevSpec { append: Some(true), logfile: Some("l".into()), ..file("file", Some("f")) };
        let (built, warnings) = spec.build("here").unwrap();
        assert_eq!(built.backend, ChardevBackend::File { path: "f".into(), append: true });
        assert_eq!(built.log, Some(LogFile { path: "l".into(), append: false }));
        assert!(warnings.is_empty(), "{warnings:?}");
        let spec = ChardevSpec { append: Some(true), logappend: Some(true), ..file("pipe", Some("p")) };
        let (built, warnings) = spec.build("here").unwrap();
        assert_eq!((built.backend, built.log), (ChardevBackend::Pipe("p".into()), None));
        assert_eq!(warnings.len(), 2, "{warnings:?}");
    }

    #[test]
    fn keys_without_meaning_are_named() {
        let spec = ChardevSpec { backend: Some("null".into()), wait: Some(false), ..unix() };
        let (_, warnings) = spec.build("here").unwrap();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].starts_with("'path' means nothing"));
    }
}
