//! The files behind the maps of one client: each is kept open once, however often the client has sent it.
//!
//! A map keeps its file open, and a client may make many maps of few files: a descriptor for each would use up those of this
//! process. Only files that are in memory, or those of a trusted client, come here: to ask what they are asks nobody who
//! could let us wait.

use std::os::fd::AsFd;
use std::sync::{Arc, Weak};

use fd_closer::Received;
use rustix::fs::{OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

/// Files at once. A machine's memory is one, or one a NUMA node, and a few more for firmware and devices.
pub(super) const MAX_FILES: usize = 128;

/// A file: its device and number, and how it was opened.
type Identity = (u64, u64, OFlags);

/// The files that are open.
#[derive(Debug, Default)]
pub(super) struct Files(Vec<(Identity, Weak<Received>)>);

impl Files {
    /// A descriptor of the same file that is there already, or this one.
    ///
    /// # Errors
    /// `ENOSPC` if there are too many files.
    pub(super) fn share(&mut self, fd: Received) -> Result<Arc<Received>, Errno> {
        let stat = fstat(&fd)?;
        let identity = (stat.st_dev, stat.st_ino, fcntl_getfl(fd.as_fd())? & OFlags::ACCMODE);
        self.0.retain(|(_, file)| file.strong_count() > 0);
        let known = self.0.iter().find(|(known, _)| *known == identity);
        if let Some(file) = known.and_then(|(_, file)| file.upgrade()) {
            return Ok(file);
        }
        if self.0.len() >= MAX_FILES {
            return Err(Errno::NOSPC);
        }
        let file = Arc::new(fd);
        self.0.push((identity, Arc::downgrade(&file)));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{MemfdFlags, memfd_create};

    #[test]
    fn a_file_is_kept_once_and_files_are_limited() {
        let file = || memfd_create("test", MemfdFlags::CLOEXEC).unwrap();
        let mut files = Files::default();
        let first = file();
        let again = || Received::from(rustix::io::fcntl_dupfd_cloexec(&first, 0).unwrap());
        let kept: Vec<_> = (0..1000).map(|_| files.share(again()).unwrap()).collect();
        assert!(kept.iter().all(|fd| Arc::ptr_eq(fd, &kept[0])));
        let others: Vec<_> = (1..MAX_FILES).map(|_| files.share(file().into()).unwrap()).collect();
        assert!(matches!(files.share(file().into()), Err(Errno::NOSPC)));
        assert!(files.share(again()).is_ok());
        drop(others);
        assert!(files.share(file().into()).is_ok());
    }
}
