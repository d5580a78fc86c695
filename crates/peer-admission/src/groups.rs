//! What the kernel says of a peer: socket options that have no safe wrapper as we need them.

#![expect(
    unsafe_code,
    reason = "SO_PEERGROUPS, and SO_PEERCRED of a peer without a pid, have no safe wrapper"
)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The groups that a peer had besides its own one when it connected (`SO_PEERGROUPS`, Linux 4.13).
///
/// # Errors
/// What the kernel says; `ENODATA` if it knows no peer.
pub fn supplementary_groups(socket: impl AsFd) -> io::Result<Vec<u32>> {
    let socket = socket.as_fd();
    // Most processes are in a few groups; the kernel says how many there are if these do not fit. They were noted when the
    // peer connected and never change.
    let mut groups = vec![0; 32];
    let mut fetched = fetch(socket, &mut groups);
    if let Err((error, bytes)) = &fetched
        && error.raw_os_error() == Some(libc::ERANGE)
    {
        groups.resize(bytes / size_of::<u32>(), 0);
        fetched = fetch(socket, &mut groups);
    }
    let bytes = fetched.map_err(|(error, _)| error)?;
    groups.truncate(bytes / size_of::<u32>());
    Ok(groups)
}

/// Asks once. Bytes written, or the error and the bytes that there are.
fn fetch(socket: BorrowedFd<'_>, groups: &mut [u32]) -> Result<usize, (io::Error, usize)> {
    let mut len = libc::socklen_t::try_from(size_of_val(groups)).unwrap_or(libc::socklen_t::MAX);
    // SAFETY: the buffer has the length that is said, and lives through the call; any bytes are valid numbers. The socket
    // is borrowed, so open.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERGROUPS,
            groups.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    let len = usize::try_from(len).unwrap_or(0);
    if said == 0 { Ok(len) } else { Err((io::Error::last_os_error(), len)) }
}

/// `SO_PEERCRED`, where the pid may be 0: of a process in a pid name space that this one cannot see. (A type that has no
/// room for a pid of 0 cannot say that.) `None` if the kernel knows no peer.
pub(crate) fn peer_credentials(socket: BorrowedFd<'_>) -> Option<libc::ucred> {
    let mut peer = libc::ucred { pid: 0, uid: u32::MAX, gid: u32::MAX };
    let mut len = libc::socklen_t::try_from(size_of::<libc::ucred>()).unwrap_or(0);
    // SAFETY: the buffer is a `ucred` of that length and lives through the call; any bytes are valid in it. The socket is
    // borrowed, so open.
    let said = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &raw mut len,
        )
    };
    // A socket that nobody has connected has the ids -1.
    (said == 0 && peer.uid != u32::MAX).then_some(peer)
}
