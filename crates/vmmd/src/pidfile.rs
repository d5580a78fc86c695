//! The file that holds the process's id.
//!
//! It is locked as QEMU locks it (`fcntl` record lock on the whole file), so of two processes given the same file
//! the second one refuses to start, whichever of the two programs it is. The lock lasts as long as the
//! [`PidFile`]; the file goes with it. A file that is there already, left over from a process that was killed, is
//! taken over with the mode it has; a new one has mode 0600.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, fcntl_lock};

use crate::errno;

/// Why there is no pid file. The texts are QEMU's.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// It cannot be opened.
    #[error("cannot create PID file: Could not create '{path}': {reason}", path = .path.display())]
    Create {
        /// The file as given.
        path: PathBuf,
        /// The operating system's word for it.
        reason: String,
    },
    /// Another process holds it.
    #[error("cannot create PID file: Cannot lock pid file: {reason}")]
    Lock {
        /// The operating system's word for it.
        reason: String,
    },
    /// It cannot be written.
    #[error("cannot create PID file: Failed to write pid file: {reason}")]
    Write {
        /// The operating system's word for it.
        reason: String,
    },
}

/// A locked pid file. Dropping it removes the file, if it is still the same one, and the lock.
#[derive(Debug)]
pub struct PidFile {
    /// Absolute and without links, so that a change of directory in between does no harm.
    path: PathBuf,
    file: File,
}

impl PidFile {
    /// Writes this process's id and a newline to `path`. To be called by the process that stays, so after
    /// [`crate::daemonize::launch`].
    ///
    /// # Errors
    /// The file cannot be created, is locked, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, PidFileError> {
        let write = |error: io::Error| PidFileError::Write { reason: errno::text(&error) };
        let mut file = open_and_lock(path)?;
        file.set_len(0).map_err(write)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes()).map_err(write)?;
        let path = path.canonicalize().map_err(write)?;
        Ok(Self { path, file })
    }

    /// Where it is, absolute and without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody may have put another file in its place: that one is not ours to remove.
        if is_same(&self.file, &self.path).unwrap_or(false) {
            // Nobody is left to be told of a failure.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Opens and locks `path`. Its former owner may remove it between the two, hence the loop: what is locked in the
/// end is what the path names.
fn open_and_lock(path: &Path) -> Result<File, PidFileError> {
    let create =
        |error: io::Error| PidFileError::Create { path: path.to_owned(), reason: errno::text(&error) };
    loop {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(create)?;
        fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(|error| PidFileError::Lock { reason: errno::text(&error.into()) })?;
        match is_same(&file, path) {
            Ok(true) => return Ok(file),
            Ok(false) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(create(error)),
        }
    }
}

/// Whether `path` names the file that is open as `file`.
fn is_same(file: &File, path: &Path) -> io::Result<bool> {
    let (open, named) = (file.metadata()?, path.metadata()?);
    Ok((open.dev(), open.ino()) == (named.dev(), named.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_the_id_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        std::fs::write(&path, "a line that is longer than any number\n").unwrap();
        let pid = PidFile::create(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(pid);
        assert!(!path.exists());
    }

    #[test]
    fn a_new_one_is_private() {
        let dir = tempfile::tempdir().unwrap();
        let pid = PidFile::create(&dir.path().join("pid")).unwrap();
        assert_eq!(pid.path().metadata().unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn somebody_elses_file_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pid");
        let pid = PidFile::create(&path).unwrap();
        std::fs::rename(&path, dir.path().join("away")).unwrap();
        std::fs::write(&path, "other").unwrap();
        drop(pid);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
    }

    #[test]
    fn the_errors_are_those_of_qemu() {
        assert_eq!(
            PidFile::create(Path::new("/nonexistent/x")).unwrap_err().to_string(),
            "cannot create PID file: Could not create '/nonexistent/x': No such file or directory"
        );
        let dir = tempfile::tempdir().unwrap();
        let error = PidFile::create(dir.path()).unwrap_err().to_string();
        assert!(error.ends_with(": Is a directory"), "{error}");
    }
}
