//! QEMU's addresses of sockets.

use qmp_command::QapiType;
use serde::{Deserialize, Serialize};

/// The kinds of addresses of sockets.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SocketAddressType {
    /// TCP.
    #[cfg(feature = "tcp")]
    Inet,
    /// A unix socket.
    Unix,
    /// A socket that was passed with `getfd`.
    Fd,
}

/// A string.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[qapi(name = "String")]
pub struct StringValue {
    /// The string.
    pub str: String,
}

/// A TCP address.
#[cfg(feature = "tcp")]
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct InetSocketAddress {
    /// A name or an address. Empty: any address to listen on, or this host.
    pub host: String,
    /// The port's number; 0 or empty to listen on a free one.
    pub port: String,
    /// The host is an address: no name is looked up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numeric: Option<bool>,
    /// Listening only: the last port to try.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u16>,
    /// Use IPv4. By default if the host has such an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4: Option<bool>,
    /// Use IPv6. By default if the host has such an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6: Option<bool>,
    /// Connecting only: the kernel looks after a peer that is silent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keep_alive: Option<bool>,
    /// Use several paths. Off, as it cannot be had.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mptcp: Option<bool>,
}

/// A unix address.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, QapiType, Serialize)]
pub struct UnixSocketAddress {
    /// The file, or the abstract name.
    pub path: String,
    /// It is a name and not a file. Off by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub r#abstract: Option<bool>,
    /// An abstract name is just its own bytes, without padding. On by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tight: Option<bool>,
}

/// The address of a socket.
#[cfg(feature = "vfio-user")]
#[derive(Clone, Debug, PartialEq, Eq, QapiType, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
#[qapi(tag_enum = "SocketAddressType")]
#[non_exhaustive]
pub enum SocketAddress {
    /// TCP.
    #[cfg(feature = "tcp")]
    Inet(InetSocketAddress),
    /// A unix socket.
    Unix(UnixSocketAddress),
    /// A socket that was passed with `getfd`.
    Fd(StringValue),
}

/// As people write it: `unix:PATH`, `unix:NAME,abstract=on`, `fd:NAME`.
#[cfg(feature = "vfio-user")]
impl std::fmt::Display for SocketAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            #[cfg(feature = "tcp")]
            Self::Inet(InetSocketAddress { host, port, .. }) => write!(f, "tcp:{host}:{port}"),
            Self::Unix(UnixSocketAddress { path, r#abstract, tight }) => {
                let flags = match (r#abstract.unwrap_or(false), tight.unwrap_or(true)) {
                    (false, _) => "",
                    (true, true) => ",abstract=on",
                    (true, false) => ",abstract=on,tight=off",
                };
                write!(f, "unix:{path}{flags}")
            }
            Self::Fd(StringValue { str }) => write!(f, "fd:{str}"),
        }
    }
}
