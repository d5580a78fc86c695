//! The log of a chardev: everything that it sends, in a file.
//!
//! It is written on the task of whoever sends, so a write must not wait: the file may be a client's, passed for an fd set, who
//! can fill it and make it blocking. So nothing is relied on that its flags say: see [`nowait`]. Files of a file system are
//! the exception: they cannot be asked, and a local one does not make anybody wait for another's sake.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use fd_closer::Received;
use rustix::fs::FileType;
use rustix::io::retry_on_intr;

use crate::duplex::Keep;
use crate::opener::OpenedFile;
use crate::{nowait, scm};

/// A log. What cannot be written at once (a full disk, a fifo that nobody reads) is lost, and the log says so once in the
/// process's own.
pub(crate) struct Log {
    fd: Received,
    kind: FileType,
    failed: AtomicBool,
    /// Last: it ends when the file is closed.
    _keep: Option<Keep>,
}

impl Log {
    pub(crate) fn new(OpenedFile { fd, keep }: OpenedFile) -> Self {
        let kind =
            rustix::fs::fstat(&fd).map_or(FileType::Unknown, |stat| FileType::from_raw_mode(stat.st_mode));
        Self { fd, kind, failed: AtomicBool::new(false), _keep: keep }
    }

    /// Notes bytes that have been sent.
    pub(crate) fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.write_some(bytes) {
                Ok(written) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
                Ok(_) => return self.fail(&io::ErrorKind::WriteZero.into()),
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            FileType::Socket => scm::transmit(self.fd.as_fd(), bytes),
            FileType::RegularFile | FileType::BlockDevice => {
                Ok(retry_on_intr(|| rustix::io::write(&self.fd, bytes))?)
            }
            _ => nowait::write(self.fd.as_fd(), bytes),
        }
    }

    fn fail(&self, error: &io::Error) {
        if !self.failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "the log of a chardev is incomplete");
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("fd", &self.fd).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    /// These block: nothing has been told them. More is written than they hold.
    fn never_waits(output: impl Into<OwnedFd>) {
        let log = Log::new(output.into().into());
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            log.write(b"first");
            (0..1000).for_each(|_| log.write(&[b'x'; 4096]));
            sender.send(log).unwrap();
        });
        let log = receiver.recv_timeout(Duration::from_secs(20)).unwrap();
        assert!(log.failed.load(Ordering::Relaxed), "it says that something is missing");
    }

    #[test]
    fn what_nobody_reads_makes_nobody_wait() {
        let mut first = [0; 5];
        let (mut input, output) = io::pipe().unwrap();
        never_waits(output);
        input.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"first");
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        never_waits(ours);
        theirs.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"first");
    }

    #[test]
    fn a_file_gets_all_of_it() {
        let mut file = tempfile::tempfile().unwrap();
        let log = Log::new(OwnedFd::from(file.try_clone().unwrap()).into());
        (0..100).for_each(|_| log.write(&[b'x'; 4096]));
        assert!(!log.failed.load(Ordering::Relaxed));
        io::Seek::rewind(&mut file).unwrap();
        assert_eq!(file.read_to_end(&mut Vec::new()).unwrap(), 409_600);
    }
}
