//! The backends that are files: `file`, which is written (and read, when it has an input), and `pipe`, two fifos.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;
use thread_start::Starter;

use crate::backend::FileOptions;
use crate::duplex::{Duplex, duplicate};
use crate::error::OpenError;
use crate::opener::{OpenedFile, Opener};

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
        None => (duplicate(output.fd.as_fd()).map_err(unusable)?.into(), None),
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
        let flags = OFlags::WRONLY | OFlags::CREATE | mode;
        let opened = opener.open(&path, flags).and_then(|file| not_shared(file, flags));
        opened.map_err(|source| OpenError::Create { path, source })
    })
    .await
}

fn open(opener: &Opener, path: &Path, flags: OFlags) -> Result<OpenedFile, OpenError> {
    let opened = opener.open(path, flags).and_then(|file| not_shared(file, flags));
    opened.map_err(|source| OpenError::Open { path: path.to_owned(), source })
}

/// The file system of pipes without a name (`PIPEFS_MAGIC` of Linux).
const PIPES: u64 = 0x5049_5045;

/// Opens a fifo once more, so that its flags are ours alone. It may be a client's, passed for an fd set, who can make it block at
/// any moment; and the kernel cannot be told to overlook that for a fifo, unlike for a pipe without a name (see
/// [`nowait`](crate::nowait)). Everything else stays as it is.
///
/// What has no type at all (an epoll's, event's or timer's descriptor, one of `userfaultfd`) is no file. An epoll's is watched by taking
/// its lock, which whoever passed it can hold for as long as he likes: and it would be the runtime's own epoll that waits.
///
/// # Errors
/// What the system says of a fifo that cannot be opened, and for what is no file. Without `/proc` a fifo stays as it is.
fn not_shared(file: OpenedFile, flags: OFlags) -> io::Result<OpenedFile> {
    let OpenedFile { fd, keep } = file;
    match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
        FileType::Fifo => {}
        FileType::Unknown => return Err(io::Error::other("it is no file, fifo, socket or device")),
        _ => return Ok(OpenedFile { fd, keep }),
    }
    let name = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    let flags = (flags & OFlags::ACCMODE) | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match rustix::fs::open(name, flags, Mode::empty()) {
        Ok(own) => Ok(OpenedFile { fd: own.into(), keep }),
        Err(Errno::NOENT) => Ok(OpenedFile { fd, keep }),
        Err(_) if u64::try_from(rustix::fs::fstatfs(&fd)?.f_type) == Ok(PIPES) => Ok(OpenedFile { fd, keep }),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs what may block on a thread of its own, as what opens may be the user's.
async fn apart<T: Send + 'static>(
    starter: &Starter,
    open: impl FnOnce() -> Result<T, OpenError> + Send + 'static,
) -> Result<T, OpenError> {
    starter.clone().apart_name("open").apart(open).await.unwrap_or_else(|error| Err(unusable(error)))
}

fn unusable(source: io::Error) -> OpenError {
    OpenError::Unusable { source }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    fn is_nonblocking(fd: impl AsFd) -> bool {
        rustix::fs::fcntl_getfl(fd).unwrap().contains(OFlags::NONBLOCK)
    }

    #[test]
    fn what_has_no_type_is_no_file() {
        let made: [fn() -> OwnedFd; 2] = [
            || rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC).unwrap(),
            || rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
        ];
        for make in made {
            let opener = Opener::new(move |_: &Path, _| Ok(make().into()));
            for flags in [OFlags::RDWR, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, OFlags::RDONLY] {
                let refused = open(&opener, Path::new("/dev/fdset/1"), flags).unwrap_err();
                assert!(refused.to_string().contains("it is no file, fifo, socket or device"), "{refused}");
            }
        }
    }

    /// Whoever passed a fifo can say what they like of theirs.
    #[test]
    fn the_flags_of_a_fifo_are_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, mode, 0).unwrap();
        let theirs = rustix::fs::open(&path, OFlags::RDWR, Mode::empty()).unwrap();
        let passed = rustix::io::dup(&theirs).unwrap();
        let opener = Opener::new(move |_: &Path, _| Ok(rustix::io::dup(&passed)?.into()));
        for flags in [OFlags::RDWR, OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC, OFlags::RDONLY] {
            let file = open(&opener, Path::new("/dev/fdset/1"), flags).unwrap();
            assert_eq!(rustix::fs::fcntl_getfl(&file.fd).unwrap() & OFlags::ACCMODE, flags & OFlags::ACCMODE);
            rustix::io::ioctl_fionbio(&theirs, false).unwrap();
            assert!(is_nonblocking(&file.fd));
        }
        // It is the same fifo.
        let file = open(&opener, Path::new("/dev/fdset/1"), OFlags::RDWR).unwrap();
        rustix::io::write(&theirs, b"x").unwrap();
        assert_eq!(rustix::io::read(&file.fd, &mut [0; 2]).unwrap(), 1);
    }

    #[test]
    fn what_is_no_fifo_stays_the_open_file_that_it_is() {
        let passed = tempfile::tempfile().unwrap();
        let theirs = passed.try_clone().unwrap();
        let opener = Opener::new(move |_: &Path, _| Ok(rustix::io::dup(&passed)?.into()));
        let file = open(&opener, Path::new("/dev/fdset/1"), OFlags::RDWR).unwrap();
        rustix::io::write(&theirs, b"moved").unwrap();
        assert_eq!(rustix::fs::tell(&file.fd).unwrap(), 5);
    }
}
