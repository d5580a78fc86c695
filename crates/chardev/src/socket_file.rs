//! The file of a listening unix socket: made private, removed only if it is still ours.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use peer_admission::Allowed;

use crate::error::OpenError;

/// The file that a listener made. Dropping it unlinks the file, unless another has taken its place.
#[derive(Debug)]
pub(crate) struct SocketFile {
    /// Absolute: the process may change its directory meanwhile.
    path: PathBuf,
    dev: u64,
    ino: u64,
}

impl SocketFile {
    /// To be called right after `bind` has made the file.
    pub(crate) fn made(path: &Path) -> io::Result<Self> {
        let path = std::path::absolute(path)?;
        let meta = path.symlink_metadata()?;
        // Whoever may write to the directory can have been quicker.
        if !meta.file_type().is_socket() {
            return Err(rustix::io::Errno::STALE.into());
        }
        Ok(Self { path, dev: meta.dev(), ino: meta.ino() })
    }

    /// Lets those reach it that are listed.
    pub(crate) fn open_to(&self, allowed: &Allowed) -> io::Result<()> {
        allowed.open_file(&self.path, (self.dev, self.ino))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Between the look and the unlink another could still take the place; Linux has no call that does both.
        let ours = |meta: std::fs::Metadata| meta.dev() == self.dev && meta.ino() == self.ino;
        if self.path.symlink_metadata().is_ok_and(ours)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot unlink the socket");
        }
    }
}

/// Makes room for a new socket: an old one, stale or not, is unlinked, as QEMU does. Anything else stays.
pub(crate) fn make_room(path: &Path) -> Result<(), OpenError> {
    // If there is nothing, or nothing can be seen, bind knows better what to say.
    let Ok(meta) = path.symlink_metadata() else { return Ok(()) };
    if !meta.file_type().is_socket() {
        return Err(OpenError::NotASocket { path: path.to_owned() });
    }
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(OpenError::Unlink { path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn unlinks_only_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let first = UnixListener::bind(&path).unwrap();
        let file = SocketFile::made(&path).unwrap();
        // The first stays open, so the second cannot get its inode number.
        make_room(&path).unwrap();
        let second = UnixListener::bind(&path).unwrap();
        let file2 = SocketFile::made(&path).unwrap();
        drop(file);
        assert!(path.exists());
        drop(file2);
        assert!(!path.exists());
        drop((first, second));
    }

    /// Whoever may write to the directory can have put something there before it was looked at.
    #[test]
    fn what_is_no_socket_is_neither_opened_to_others_nor_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        std::fs::write(&path, "precious").unwrap();
        let look = || path.metadata().unwrap();
        let before = look();
        let somebody = Allowed::new(Some(vec![u32::MAX - 7]), None);
        SocketFile::made(&path).unwrap_err();
        somebody.open_file(&path, (before.dev(), before.ino())).unwrap_err();
        assert_eq!(look().mode(), before.mode());
        std::fs::remove_file(&path).unwrap();
        let _socket = UnixListener::bind(&path).unwrap();
        let file = SocketFile::made(&path).unwrap();
        file.open_to(&somebody).unwrap();
        assert_eq!(look().mode() & 0o777, 0o666);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(make_room(&path), Err(OpenError::NotASocket { .. })));
        assert!(matches!(make_room(dir.path()), Err(OpenError::NotASocket { .. })));
        assert!(path.exists());
        make_room(&dir.path().join("nothing")).unwrap();
    }
}
