//! The backends that are files: `file`, which is written (and read, when it has an input), and `pipe`, two fifos.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::fs::OFlags;
use thread_start::{Starter, ThreadKind};
use tokio::sync::oneshot;

use crate::backend::FileOptions;
use crate::duplex::{Duplex, duplicate};
use crate::error::OpenError;
use crate::opener::{OpenedFile, Opener};

/// Opening needs little stack, but the opener is the user's.
const STACK: usize = 1 << 20;

/// Opens a `file` chardev's files.
pub(crate) async fn open_file(
    options: FileOptions,
    opener: Opener,
    starter: &Starter,
) -> Result<Duplex, OpenError> {
    let (input, output) = apart(starter, move || {
        let mode = if options.append { OFlags::APPEND } else { OFlags::TRUNC };
        let output = open(&opener, &options.path, OFlags::WRONLY | OFlags::CREATE | mode)?;
        let input = options.input.map(|path| open(&opener, &path, OFlags::RDONLY)).transpose()?;
        Ok((input, output))
    })
    .await?;
    let (input, kept) = input.map(|file| (file.fd, file.keep)).unzip();
    let keep = Box::new((kept, output.keep));
    Duplex::new(input, output.fd, Some(keep)).map_err(unusable)
}

/// Opens a `pipe` chardev: the fifos `PATH.in` and `PATH.out`, and when they are not both there, `PATH` for both.
///
/// Both are opened for reading and writing, so that peers may come and go.
pub(crate) async fn open_pipe(path: PathBuf, opener: Opener, starter: &Starter) -> Result<Duplex, OpenError> {
    let (input, output) = apart(starter, move || {
        let named = |end: &str| {
            let mut name = OsString::from(path.as_os_str());
            name.push(end);
            open(&opener, Path::new(&name), OFlags::RDWR)
        };
        match (named(".in"), named(".out")) {
            (Ok(input), Ok(output)) => Ok((Some(input), output)),
            _ => Ok((None, open(&opener, &path, OFlags::RDWR)?)),
        }
    })
    .await?;
    let (input, kept) = match input {
        Some(file) => (file.fd, file.keep),
        None => (duplicate(output.fd.as_fd()).map_err(unusable)?, None),
    };
    Duplex::new(Some(input), output.fd, Some(Box::new((kept, output.keep)))).map_err(unusable)
}

/// Opens what a chardev's output is noted in.
pub(crate) async fn open_log(
    path: PathBuf,
    append: bool,
    opener: Opener,
    starter: &Starter,
) -> Result<OpenedFile, OpenError> {
    apart(starter, move || {
        let mode = if append { OFlags::APPEND } else { OFlags::TRUNC };
        opener
            .open(&path, OFlags::WRONLY | OFlags::CREATE | mode)
            .map_err(|source| OpenError::Create { path, source })
    })
    .await
}

fn open(opener: &Opener, path: &Path, flags: OFlags) -> Result<OpenedFile, OpenError> {
    opener.open(path, flags).map_err(|source| OpenError::Open { path: path.to_owned(), source })
}

/// Runs what may block on a thread where it may: one of its own, as the runtime's panic where none can be started.
async fn apart<T: Send + 'static>(
    starter: &Starter,
    open: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    let (sender, receiver) = oneshot::channel();
    let run = move || {
        // An error says that nobody wants it any more, and closes it.
        let _ = sender.send(open());
    };
    let builder = thread::Builder::new().stack_size(STACK);
    starter.start_with(builder, ThreadKind::Blocking, "open", run).map_err(unusable)?;
    receiver.await.unwrap_or_else(|_| Err(unusable(io::Error::other("the thread that opens it has ended"))))
}

fn unusable(source: io::Error) -> OpenError {
    OpenError::Unusable { source }
}
