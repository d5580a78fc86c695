//! What an export is told.

use std::os::fd::AsFd;
use std::path::PathBuf;

use qmp_command::{CommandError, CommandResult, Context, QapiType};
use serde::{Deserialize, Serialize};
use vfio_user_server::context::Listen;
use vfio_user_server::dma::DmaPolicy;

use crate::bounds;
use crate::commands::take_named;
use crate::socket_address::{SocketAddress, StringValue, UnixSocketAddress};

/// The most bytes of an abstract name: what fits into an address beside the zero byte before it.
const LONGEST_NAME: usize = 107;

/// How a client's memory is reached.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, QapiType, Serialize)]
#[serde(rename_all = "lowercase")]
#[qapi(name = "XVfioUserDma")]
#[non_exhaustive]
pub enum VfioUserDma {
    /// Directly where nothing can go wrong (a memfd that cannot shrink), else through system calls or messages.
    #[default]
    Auto,
    /// Directly wherever the client gives a descriptor. The client is trusted then: if it truncates its memory, this
    /// process ends.
    Map,
}

impl From<VfioUserDma> for DmaPolicy {
    fn from(dma: VfioUserDma) -> Self {
        match dma {
            VfioUserDma::Auto => Self::Auto,
            VfioUserDma::Map => Self::Map,
        }
    }
}

/// Properties of `x-vfio-user-server`.
#[derive(Clone, Debug, Deserialize, Serialize, QapiType)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct VfioUserServerProperties {
    /// Where the client connects to: a unix socket, or a socket that was passed, which listens or is the client's.
    pub socket: SocketAddress,
    /// The id of the PCI device.
    pub device: String,
    /// The id of the iothread that serves it; one of its own when absent.
    pub iothread: Option<String>,
    /// Whether it waits for another client when one has gone; when false, as when absent, it goes too.
    pub reconnect: Option<bool>,
    /// User ids that may connect; all when absent.
    pub allowed_uids: Option<Vec<u32>>,
    /// Ids of groups whose members may connect, too, or only, if no user ids are given.
    pub allowed_gids: Option<Vec<u32>>,
    /// How the client's memory is reached; `auto` when absent.
    pub dma: Option<VfioUserDma>,
}

impl VfioUserServerProperties {
    /// What can be said before anything is touched.
    pub(super) fn check(&self) -> CommandResult<()> {
        bounds::list("allowed-uids", self.allowed_uids.as_ref())?;
        bounds::list("allowed-gids", self.allowed_gids.as_ref())?;
        match &self.socket {
            #[cfg(feature = "tcp")]
            SocketAddress::Inet(_) => Err(CommandError::generic("vfu: Unsupported socket type - inet")),
            SocketAddress::Unix(_) | SocketAddress::Fd(_) => Ok(()),
        }
    }

    /// With what is in force where nobody said.
    pub(super) fn settle(mut self) -> Self {
        self.reconnect.get_or_insert(false);
        self.dma.get_or_insert_default();
        self
    }

    /// Where to listen. A descriptor that is named is taken from the session, whatever comes of it.
    pub(super) fn listen(&self, context: &Context) -> CommandResult<Listen> {
        let fd = match &self.socket {
            #[cfg(feature = "tcp")]
            SocketAddress::Inet(_) => return self.check().and(Err(invalid())),
            SocketAddress::Unix(UnixSocketAddress { path, r#abstract: Some(true), tight }) => {
                return abstract_name(path, tight.unwrap_or(true)).map(Listen::Abstract);
            }
            SocketAddress::Unix(UnixSocketAddress { path, .. }) => {
                return Ok(Listen::Path(PathBuf::from(path)));
            }
            SocketAddress::Fd(StringValue { str }) => take_named(context, str)?,
        };
        if self.reconnect == Some(true) && !listens(&fd)? {
            return Err(CommandError::generic("vfu: reconnect needs a socket that listens"));
        }
        Ok(Listen::Fd(fd))
    }
}

fn abstract_name(name: &str, tight: bool) -> CommandResult<Vec<u8>> {
    let mut bytes = name.as_bytes().to_vec();
    if bytes.is_empty() || bytes.len() > LONGEST_NAME {
        return Err(invalid());
    }
    if !tight {
        bytes.resize(LONGEST_NAME, 0);
    }
    Ok(bytes)
}

fn listens(fd: impl AsFd) -> CommandResult<bool> {
    rustix::net::sockopt::socket_acceptconn(fd).map_err(|error| not_created(&error.into()))
}

fn invalid() -> CommandError {
    not_created(&rustix::io::Errno::INVAL.into())
}

/// QEMU's words for a context that cannot be had.
pub(super) fn not_created(error: &std::io::Error) -> CommandError {
    CommandError::generic(format!("vfu: Failed to create context - {}", chardev::reason(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abstract_names_are_exact_or_padded() {
        assert_eq!(abstract_name("x", true).unwrap(), b"x");
        assert_eq!(abstract_name("x", false).unwrap().len(), 107);
        assert!(abstract_name("", true).is_err());
        assert!(abstract_name(&"x".repeat(108), true).is_err());
        assert!(abstract_name(&"x".repeat(107), true).is_ok());
    }

    #[test]
    fn the_systems_words_alone() {
        let error = not_created(&std::io::Error::from_raw_os_error(2));
        assert_eq!(error.to_string(), "vfu: Failed to create context - No such file or directory");
    }
}
