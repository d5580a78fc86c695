//! Reading and writing what is no socket without ever waiting, whatever its `O_NONBLOCK` says.
//!
//! That flag is a property of the open file, and all who have the file can change it. The kernel can be told so for one
//! call instead (`RWF_NOWAIT`): for pipes without a name since Linux 6.4. A fifo is opened once more instead, so that its
//! flags are ours. For all else (terminals, other devices, pipes of older kernels) the flag is set again, and it is looked
//! first whether the call would wait at all. That is as much as can be had there; whoever wins the race between that and
//! the call makes it wait.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2, retry_on_intr};

/// Where the file is at, or for a pipe what comes next.
const HERE: u64 = u64::MAX;

/// Reads what is there.
pub(crate) fn read(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    match retry_on_intr(|| preadv2(fd, &mut [IoSliceMut::new(buf)], HERE, ReadWriteFlags::NOWAIT)) {
        Err(error) if cannot_be_told(error) => {
            look(fd, PollFlags::IN)?;
            Ok(retry_on_intr(|| rustix::io::read(fd, &mut *buf))?)
        }
        done => Ok(done?),
    }
}

/// Writes what fits.
pub(crate) fn write(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    match retry_on_intr(|| pwritev2(fd, &[IoSlice::new(buf)], HERE, ReadWriteFlags::NOWAIT)) {
        Err(error) if cannot_be_told(error) => {
            look(fd, PollFlags::OUT)?;
            Ok(retry_on_intr(|| rustix::io::write(fd, buf))?)
        }
        done => Ok(done?),
    }
}

/// Whether the kernel, or this kind of file, does not know the flag, or has no place to read and write at.
fn cannot_be_told(error: Errno) -> bool {
    matches!(error, Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS | Errno::SPIPE)
}

fn look(fd: BorrowedFd<'_>, what: PollFlags) -> io::Result<()> {
    // A terminal that has some room is ready, and would have a longer write wait for the rest of it.
    rustix::io::ioctl_fionbio(fd, true)?;
    match poll(&mut [PollFd::from_borrowed_fd(fd, what)], Some(&Timespec::default()))? {
        0 => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, OwnedFd};

    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

    use super::*;

    fn would_block<T: std::fmt::Debug>(outcome: io::Result<T>) {
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    /// These block: nothing has been told them.
    fn never_waits(input: impl AsFd, output: impl AsFd) {
        would_block(read(input.as_fd(), &mut [0; 8]));
        assert_eq!(write(output.as_fd(), b"ab\n").unwrap(), 3);
        assert_eq!(read(input.as_fd(), &mut [0; 8]).unwrap(), 3);
        let chunk = [b'x'; 4096];
        let full = (0..10_000).find_map(|_| write(output.as_fd(), &chunk).err());
        would_block::<()>(Err(full.unwrap()));
    }

    #[test]
    fn pipes() {
        let (input, output) = io::pipe().unwrap();
        never_waits(&input, &output);
        drop(input);
        assert_eq!(write(output.as_fd(), b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
        let (input, output) = io::pipe().unwrap();
        drop(output);
        assert_eq!(read(input.as_fd(), &mut [0; 8]).unwrap(), 0);
    }

    #[test]
    fn fifos() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let fifo = std::fs::File::options().read(true).write(true).open(path).unwrap();
        never_waits(&fifo, &fifo);
    }

    #[test]
    fn terminals() {
        let keyboard: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let name = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY;
        let screen = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).unwrap();
        would_block(read(screen.as_fd(), &mut [0; 8]));
        rustix::io::write(&keyboard, b"ab\n").unwrap();
        assert_eq!(read(screen.as_fd(), &mut [0; 8]).unwrap(), 3);
        let chunk = [b'x'; 4096];
        let full = (0..10_000).find_map(|_| write(screen.as_fd(), &chunk).err());
        would_block::<()>(Err(full.unwrap()));
    }
}
