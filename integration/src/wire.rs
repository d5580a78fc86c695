//! Bytes and file descriptors over a stream socket.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The most descriptors that Linux lets one message carry.
pub const MAX_FDS: usize = 253;

/// Sends what fits of `bytes` in one `sendmsg`, with `fds` attached to its first byte.
///
/// Returns how many bytes went. A peer that is gone is an error, not a signal.
///
/// # Errors
/// As `sendmsg`: `WouldBlock` on a full non-blocking socket, `BrokenPipe` when the peer is gone, `InvalidInput` for more
/// than [`MAX_FDS`] descriptors.
pub fn send<S: AsFd>(socket: S, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL)
}

/// The same with the last byte as urgent (`MSG_OOB`). The descriptors come with the first.
///
/// # Errors
/// As [`send`]; `Unsupported` where the kernel has nothing urgent on unix sockets (before Linux 5.15).
pub fn send_urgent<S: AsFd>(socket: S, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    send_with(socket, bytes, fds, SendFlags::NOSIGNAL | SendFlags::OOB)
}

fn send_with<S: AsFd>(
    socket: S,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<usize> {
    if fds.len() > MAX_FDS {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    Ok(sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags)?)
}

/// Whether somebody listens on the unix socket of this path. Asks the kernel, not the listener: connecting would make a
/// client. A socket file alone says little; it is there from the bind on, before the listen.
pub fn is_listening(path: &Path) -> bool {
    const LISTENS: &str = "00010000";
    let sockets = std::fs::read("/proc/net/unix").unwrap_or_default();
    String::from_utf8_lossy(&sockets).lines().any(|socket| {
        let mut fields = socket.split_ascii_whitespace();
        fields.nth(3) == Some(LISTENS) && fields.nth(3).is_some_and(|field| Path::new(field) == path)
    })
}

/// `/dev/null`, opened for reading: a descriptor to pass that costs nothing.
///
/// # Errors
/// When this process is out of descriptors.
pub fn dev_null() -> io::Result<OwnedFd> {
    open_file(Path::new("/dev/null"), OFlags::RDONLY)
}

/// Opens `path`, not to be inherited by children.
///
/// # Errors
/// As `open`.
pub fn open_file(path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(open(path, flags | OFlags::CLOEXEC, Mode::empty())?)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_listener_is_seen_without_connecting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.sock");
        assert!(!is_listening(&path));
        let listener = UnixListener::bind(&path).unwrap();
        assert!(is_listening(&path));
        drop(listener);
        assert!(path.exists() && !is_listening(&path));
    }

    #[test]
    fn bytes_arrive_and_too_many_fds_are_refused() {
        let (here, mut there) = UnixStream::pair().unwrap();
        let null = dev_null().unwrap();
        assert_eq!(send(&here, b"ab", &vec![null.as_fd(); MAX_FDS]).unwrap(), 2);
        let mut got = [0; 2];
        there.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"ab");
        let refused = send(&here, b"c", &vec![null.as_fd(); MAX_FDS + 1]).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}
