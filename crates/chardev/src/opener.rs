//! How a chardev comes to the files that it names.

use std::any::Any;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use fd_closer::Received;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::duplex::Keep;

/// Opens the files of chardevs, and may give others than those of that name: `/dev/fdset/3`, say.
///
/// It is called on a thread that may block, with the access mode and `O_CREAT`, `O_TRUNC`, `O_APPEND` as the chardev
/// needs them, and always `O_NONBLOCK`, so that a fifo without a peer makes nobody wait.
#[derive(Clone)]
pub struct Opener(Arc<Open>);

type Open = dyn Fn(&Path, OFlags) -> io::Result<OpenedFile> + Send + Sync;

impl Opener {
    /// An opener that calls a function.
    pub fn new(open: impl Fn(&Path, OFlags) -> io::Result<OpenedFile> + Send + Sync + 'static) -> Self {
        Self(Arc::new(open))
    }

    /// Opens the file of that name, close-on-exec; a terminal does not become the process's own. A file that is made
    /// can be read and written by everybody, less the umask, as QEMU's can.
    ///
    /// # Errors
    /// What the system says.
    pub fn open_path(path: &Path, flags: OFlags) -> io::Result<OpenedFile> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(0o666))?.into())
    }

    /// The same, but a name that leads to an open descriptor of a process (`/proc/self/fd/3`, `/dev/stdin`) is refused: it
    /// would give what was never opened by name.
    ///
    /// # Errors
    /// What the system says; `ELOOP` for such a name.
    pub fn open_without_magic(path: &Path, flags: OFlags) -> io::Result<OpenedFile> {
        let flags = flags | OFlags::CLOEXEC | OFlags::NOCTTY;
        // The kernel takes a mode only with O_CREAT.
        let mode = if flags.contains(OFlags::CREATE) { Mode::from_raw_mode(0o666) } else { Mode::empty() };
        Ok(rustix::fs::openat2(CWD, path, flags, mode, ResolveFlags::NO_MAGICLINKS)?.into())
    }

    /// Opens a file, on this thread.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OpenedFile> {
        (self.0)(path, flags | OFlags::NONBLOCK)
    }
}

impl Default for Opener {
    /// Opens files by their names and nothing else.
    fn default() -> Self {
        Self::new(Self::open_path)
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// A file, opened.
pub struct OpenedFile {
    /// Whatever is wrong with it, its close may block.
    pub(crate) fd: Received,
    pub(crate) keep: Option<Keep>,
}

impl OpenedFile {
    /// Keeps a value until the file has been closed.
    #[must_use]
    pub fn keeping(mut self, value: impl Any + Send + Sync) -> Self {
        self.keep = Some(Box::new((self.keep.take(), value)));
        self
    }
}

impl From<OwnedFd> for OpenedFile {
    fn from(fd: OwnedFd) -> Self {
        Self { fd: fd.into(), keep: None }
    }
}

impl fmt::Debug for OpenedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenedFile").field("fd", &self.fd).finish_non_exhaustive()
    }
}
