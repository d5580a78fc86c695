//! Who may connect to a unix socket.
//!
//! The kernel notes the credentials of whoever connects at that moment (`SO_PEERCRED`, `SO_PEERGROUPS`), so they cannot
//! be forged, and what the process becomes later does not matter. An [`Allowed`] holds them against lists of users and
//! groups, and says which mode the socket's file needs so that those it names can reach it. A listener looks right after
//! `accept`; who is refused is closed and gets not a byte. [`Refusals`] keeps refused peers from filling a log.
//!
//! For sockets that are passed the same holds, with one thing to know: the credentials are of whoever *made* the other
//! end. A socket pair has those of its maker, a connected socket those of its listener.
//!
//! A user or group of another user name space that this one does not know is seen as the overflow id (65534,
//! `nobody`): a list with that id admits all such.
//!
//! ```
//! use std::os::unix::net::UnixStream;
//! use peer_admission::{Allowed, Credentials};
//!
//! let (ours, _theirs) = UnixStream::pair()?;
//! let peer = Credentials::of(&ours);
//! assert!(Allowed::owner().admits(&ours, peer));
//! assert!(!Allowed::new(Some(vec![]), None).admits(&ours, peer));
//! # Ok::<(), std::io::Error>(())
//! ```

mod groups;
mod refusals;

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

pub use groups::supplementary_groups;
pub use refusals::{PERIOD, Refusals, Told};

/// The process at the other end of a unix socket, as the kernel noted it when it connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// Process id; `None` if it has none in this process's pid name space.
    pub pid: Option<i32>,
    /// Effective user id.
    pub uid: u32,
    /// Effective group id.
    pub gid: u32,
}

impl Credentials {
    /// Those of a socket's peer. `None` if the kernel says none, as for what is no unix socket.
    pub fn of(socket: impl AsFd) -> Option<Self> {
        // On other sockets the kernel says "nobody", whose id is no user's.
        let peer = groups::peer_credentials(socket.as_fd()).filter(|peer| peer.uid != u32::MAX)?;
        Some(Self { pid: (peer.pid > 0).then_some(peer.pid), uid: peer.uid, gid: peer.gid })
    }
}

/// Users and groups that may connect. A peer is admitted if its user is listed, or one of its groups is: its own one or a
/// supplementary one. Without lists everybody is; an empty list names nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    uids: Option<Vec<u32>>,
    gids: Option<Vec<u32>>,
}

impl Allowed {
    /// Everybody: no list.
    pub const ANYBODY: Self = Self { uids: None, gids: None };

    /// These users and these groups; everybody if neither is given.
    #[must_use]
    pub fn new(uids: Option<Vec<u32>>, gids: Option<Vec<u32>>) -> Self {
        Self { uids, gids }
    }

    /// Root and this process's own user: what the mode 0600 of a file admits.
    #[must_use]
    pub fn owner() -> Self {
        Self { uids: Some(vec![0, rustix::process::geteuid().as_raw()]), gids: None }
    }

    /// Whether there is no list.
    #[must_use]
    pub fn is_anybody(&self) -> bool {
        self.uids.is_none() && self.gids.is_none()
    }

    /// What the list is called that is given, or the first of both.
    #[must_use]
    pub fn option(&self) -> &'static str {
        if self.uids.is_some() { "allowed-uids" } else { "allowed-gids" }
    }

    /// Whether the peer of this socket may connect. Without credentials it may only if there is no list.
    pub fn admits(&self, socket: impl AsFd, peer: Option<Credentials>) -> bool {
        if self.is_anybody() {
            return true;
        }
        let Some(peer) = peer else { return false };
        if self.uids.as_ref().is_some_and(|uids| uids.contains(&peer.uid)) {
            return true;
        }
        let Some(gids) = self.gids.as_ref().filter(|gids| !gids.is_empty()) else { return false };
        gids.contains(&peer.gid)
            // The kernel's "none" and its refusal to say come to the same: no further group.
            || supplementary_groups(socket).unwrap_or_default().iter().any(|gid| gids.contains(gid))
    }

    /// The mode of a listening socket's file: 0600, or 0666 if somebody else than this process's user and root, who needs no
    /// mode, is listed. It is the lists that keep others out then.
    #[must_use]
    pub fn file_mode(&self) -> Mode {
        let own = rustix::process::geteuid().as_raw();
        let others = self.uids.iter().flatten().any(|uid| ![0, own].contains(uid))
            || self.gids.iter().flatten().any(|_| true);
        Mode::from_raw_mode(if others { 0o666 } else { 0o600 })
    }

    /// Gives the file that a listening socket has just made its [mode](Self::file_mode). It was made with 0600.
    /// `made`: its device and its inode number, so that no other file is opened to anybody that has taken its place.
    ///
    /// # Errors
    /// What the system says; `ESTALE` if the file is another one, no socket, or not of this process's user. `/proc` must be there if others are listed.
    pub fn open_file(&self, path: &Path, made: (u64, u64)) -> io::Result<()> {
        let mode = self.file_mode();
        if mode == Mode::RUSR | Mode::WUSR {
            return Ok(());
        }
        let file =
            rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let found = rustix::fs::fstat(&file)?;
        // What was made was looked up by its name; whoever may write to the directory can have been quicker.
        let is_socket = FileType::from_raw_mode(found.st_mode) == FileType::Socket;
        let is_own = found.st_uid == rustix::process::geteuid().as_raw();
        if (found.st_dev, found.st_ino) != made || !is_socket || !is_own {
            return Err(Errno::STALE.into());
        }
        // Such a descriptor takes no `fchmod`; its name under /proc stands for the very file.
        Ok(rustix::fs::chmod(format!("/proc/self/fd/{}", file.as_raw_fd()), mode)?)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    fn own() -> (UnixStream, UnixStream, Credentials) {
        let (a, b) = UnixStream::pair().unwrap();
        let peer = Credentials::of(&a).unwrap();
        (a, b, peer)
    }

    #[test]
    fn a_socket_pair_has_its_makers_credentials() {
        let (_, _, peer) = own();
        assert_eq!(peer.pid, Some(i32::try_from(std::process::id()).unwrap()));
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
        assert_eq!(peer.gid, rustix::process::getegid().as_raw());
    }

    #[test]
    fn other_sockets_have_none() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(Credentials::of(&client), None);
        assert!(Allowed::ANYBODY.admits(&client, None));
        assert!(!Allowed::new(Some(vec![0, 65534]), Some(vec![0, 65534])).admits(&client, None));
    }

    #[test]
    fn either_list_suffices_and_an_empty_one_names_nobody() {
        let (socket, _peer, Credentials { uid, gid, .. }) = own();
        // A group that this process is not in, whatever it is.
        let strange = u32::MAX - 7;
        for (uids, gids, admitted) in [
            (None, None, true),
            (Some(vec![uid]), None, true),
            (Some(vec![uid + 1, uid]), Some(vec![]), true),
            (Some(vec![uid + 1]), None, false),
            (Some(vec![]), None, false),
            (None, Some(vec![gid]), true),
            (None, Some(vec![strange]), false),
            (None, Some(vec![]), false),
            (Some(vec![uid + 1]), Some(vec![gid]), true),
            (Some(vec![uid]), Some(vec![strange]), true),
            (Some(vec![]), Some(vec![]), false),
        ] {
            let allowed = Allowed::new(uids, gids);
            assert_eq!(allowed.admits(&socket, Credentials::of(&socket)), admitted, "{allowed:?}");
        }
    }

    #[test]
    fn supplementary_groups_are_the_kernels() {
        let (socket, _peer, _) = own();
        let mut ours: Vec<_> =
            rustix::process::getgroups().unwrap().into_iter().map(|gid| gid.as_raw()).collect();
        let mut theirs = supplementary_groups(&socket).unwrap();
        ours.sort_unstable();
        theirs.sort_unstable();
        assert_eq!(ours, theirs);
        for gid in ours {
            assert!(Allowed::new(None, Some(vec![gid])).admits(&socket, Credentials::of(&socket)));
        }
    }

    #[test]
    fn a_file_is_open_to_others_only_if_they_are_listed() {
        let own = rustix::process::geteuid().as_raw();
        let mode = |uids, gids| Allowed::new(uids, gids).file_mode().as_raw_mode();
        assert_eq!(mode(None, None), 0o600);
        assert_eq!(mode(Some(vec![own]), None), 0o600);
        assert_eq!(mode(Some(vec![0]), None), 0o600, "root needs no mode");
        assert_eq!(mode(Some(vec![]), Some(vec![])), 0o600);
        assert_eq!(mode(Some(vec![own, own + 1]), None), 0o666);
        assert_eq!(mode(None, Some(vec![5])), 0o666);
    }
}
