//! Making unix sockets: listening, connecting.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use peer_admission::Allowed;
use rustix::fs::Mode;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use tokio::net::{UnixListener, UnixStream};

use crate::error::OpenError;
use crate::socket_file::{SocketFile, make_room};

/// The most bytes of a path or abstract name that fit into an address beside a zero byte.
const LONGEST: usize = 107;

/// How often a full backlog is looked at again.
const FULL: Duration = Duration::from_millis(20);

/// A unix address as the user gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) path: &'a Path,
    pub(crate) abstract_name: bool,
    pub(crate) tight: bool,
}

impl Name<'_> {
    pub(crate) fn address(self) -> Result<SocketAddrUnix, OpenError> {
        let bytes = self.path.as_os_str().as_bytes();
        let source = |errno: Errno| OpenError::Bind { address: self.text(), source: errno.into() };
        match bytes.len() {
            0 => Err(OpenError::PathEmpty),
            1..=LONGEST if !self.abstract_name => SocketAddrUnix::new(self.path).map_err(source),
            1..=LONGEST if self.tight => SocketAddrUnix::new_abstract_name(bytes).map_err(source),
            1..=LONGEST => {
                let mut padded = [0; LONGEST];
                padded[..bytes.len()].copy_from_slice(bytes);
                SocketAddrUnix::new_abstract_name(&padded).map_err(source)
            }
            _ => Err(OpenError::PathTooLong { path: self.path.to_owned() }),
        }
    }

    /// For error messages.
    pub(crate) fn text(self) -> String {
        self.path.display().to_string()
    }

    /// A chardev's file name, as QEMU shows it before a client is there.
    pub(crate) fn disconnected(self, server: &str) -> String {
        let flags = match (self.abstract_name, self.tight) {
            (false, _) => "",
            (true, false) => ",abstract=on",
            (true, true) => ",abstract=on,tight=on",
        };
        format!("disconnected:unix:{}{flags}{server}", self.path.display())
    }
}

/// Listens. The file, if the name is one, has mode 0600 from the moment it exists: a socket's mode before `bind` is the
/// mode of the file that `bind` makes (less the umask, which is not touched). If others may connect, it gets theirs
/// before anybody can.
pub(crate) fn listen_on(
    name: Name<'_>,
    backlog: u32,
    allowed: &Allowed,
) -> Result<(UnixListener, Option<SocketFile>), OpenError> {
    let address = name.address()?;
    if !name.abstract_name {
        make_room(name.path)?;
    }
    let failed = |source| OpenError::Bind { address: name.text(), source };
    let socket = new_socket().map_err(|errno| failed(errno.into()))?;
    rustix::fs::fchmod(&socket, Mode::RUSR | Mode::WUSR).map_err(|errno| failed(errno.into()))?;
    bind(&socket, &address).map_err(|errno| failed(errno.into()))?;
    let file = match name.abstract_name {
        true => None,
        false => {
            let file = SocketFile::made(name.path).map_err(failed)?;
            file.open_to(allowed).map_err(failed)?;
            Some(file)
        }
    };
    listen(&socket, i32::try_from(backlog).unwrap_or(i32::MAX)).map_err(|errno| failed(errno.into()))?;
    Ok((UnixListener::from_std(socket.into()).map_err(failed)?, file))
}

/// Connects. While the listener's backlog is full it waits.
pub(crate) async fn connect_to(name: Name<'_>) -> Result<UnixStream, OpenError> {
    let address = name.address()?;
    let failed = |source| OpenError::Connect { address: name.text(), source };
    let socket = new_socket().map_err(|errno| failed(errno.into()))?;
    loop {
        match connect(&socket, &address) {
            Ok(()) => return UnixStream::from_std(socket.into()).map_err(failed),
            Err(Errno::AGAIN) => tokio::time::sleep(FULL).await,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed(io::Error::from(errno))),
        }
    }
}

fn new_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        let name = |len, abstract_name, tight| {
            let path = "x".repeat(len);
            let address = Name { path: Path::new(&path), abstract_name, tight }.address()?;
            let bytes = if abstract_name { address.abstract_name() } else { address.path_bytes() };
            Ok(bytes.map(<[u8]>::len))
        };
        assert!(matches!(name(0, false, true), Err(OpenError::PathEmpty)));
        assert!(matches!(name(108, false, true), Err(OpenError::PathTooLong { .. })));
        assert!(matches!(name(108, true, true), Err(OpenError::PathTooLong { .. })));
        assert_eq!(name(107, false, true).unwrap(), Some(108)); // with the zero at the end
        assert_eq!(name(4, true, true).unwrap(), Some(4));
        assert_eq!(name(4, true, false).unwrap(), Some(107));
        assert_eq!(name(107, true, true).unwrap(), Some(107));
    }
}
