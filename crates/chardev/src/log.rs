//! The log of a chardev: everything that it sends, in a file.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use fd_closer::Received;
use rustix::io::retry_on_intr;

use crate::duplex::Keep;
use crate::opener::OpenedFile;

/// A log. What cannot be written (a full disk, a fifo that nobody reads) is lost, and the log says so once in the
/// process's own.
pub(crate) struct Log {
    fd: Received,
    failed: AtomicBool,
    /// Last: it ends when the file is closed.
    _keep: Option<Keep>,
}

impl Log {
    pub(crate) fn new(OpenedFile { fd, keep }: OpenedFile) -> Self {
        Self { fd: fd.into(), failed: AtomicBool::new(false), _keep: keep }
    }

    /// Notes bytes that have been sent.
    pub(crate) fn write(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match retry_on_intr(|| rustix::io::write(&self.fd, bytes)) {
                Ok(written) if written > 0 => bytes = bytes.get(written..).unwrap_or_default(),
                Ok(_) => return self.fail(&io::ErrorKind::WriteZero.into()),
                Err(errno) => return self.fail(&errno.into()),
            }
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
