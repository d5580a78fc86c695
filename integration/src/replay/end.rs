//! One end that lines arrive on: a connection to the server, or the kept half of something that was passed to it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::wire;

/// A descriptor that is read in lines. Never blocks.
#[derive(Debug)]
pub(super) struct End {
    fd: OwnedFd,
    buffer: Vec<u8>,
    /// Nothing more will come.
    pub(super) eof: bool,
}

impl AsFd for End {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl End {
    /// Reads what comes on `fd`, which must be non-blocking.
    pub(super) fn new(fd: OwnedFd) -> Self {
        Self { fd, buffer: Vec::new(), eof: false }
    }

    /// Connects to a socket that may be about to appear.
    pub(super) fn connect(path: &Path, limit: Duration) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(socket) => {
                    socket.set_nonblocking(true)?;
                    return Ok(Self::new(socket.into()));
                }
                Err(e) if start.elapsed() >= limit => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// Reads once. A connection that broke has ended, as one that was closed has.
    pub(super) fn pump(&mut self) {
        let mut chunk = [0; 1 << 16];
        match rustix::io::read(&self.fd, &mut chunk) {
            Ok(0) => self.eof = true,
            Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.eof = true,
        }
    }

    /// The complete lines that have come, without CR LF; a line without CR says so.
    pub(super) fn take_lines(&mut self) -> Vec<String> {
        let Some(end) = self.buffer.iter().rposition(|&b| b == b'\n') else { return Vec::new() };
        let rest = self.buffer.split_off(end + 1);
        let complete = std::mem::replace(&mut self.buffer, rest);
        let lines = complete[..end].split(|&b| b == b'\n');
        lines
            .map(|line| match line.strip_suffix(b"\r") {
                Some(line) => String::from_utf8_lossy(line).into_owned(),
                None => String::from_utf8_lossy(line).into_owned() + "<LF-without-CR>",
            })
            .collect()
    }

    /// Whether there is text that no newline has ended.
    pub(super) fn has_tail(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Takes the text that no newline has ended.
    pub(super) fn take_tail(&mut self) -> Option<String> {
        let tail = std::mem::take(&mut self.buffer);
        (!tail.is_empty()).then(|| String::from_utf8_lossy(&tail).into_owned())
    }

    /// Sends all of `bytes`, `fds` attached to the first, and reads meanwhile what would keep the server from reading.
    /// Gives up when the server has closed the connection, or takes nothing for `limit`.
    pub(super) fn send(&mut self, mut bytes: &[u8], fds: &[BorrowedFd<'_>], limit: Duration) {
        let (start, mut fds) = (Instant::now(), fds);
        while !bytes.is_empty() {
            match wire::send(&self.fd, bytes, fds) {
                Ok(sent) => {
                    bytes = &bytes[sent..];
                    fds = &[];
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock && start.elapsed() < limit => {
                    self.wait_for_room()
                }
                Err(_) => return,
            }
        }
    }

    fn wait_for_room(&mut self) {
        let mut entry = [PollFd::new(&self.fd, PollFlags::IN | PollFlags::OUT)];
        let half_second = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };
        if poll(&mut entry, Some(&half_second)).is_ok() && entry[0].revents().contains(PollFlags::IN) {
            self.pump();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_tails_and_the_end() {
        let (mut there, here) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let mut end = End::new(here.into());
        end.pump();
        assert!(!end.eof && end.take_lines().is_empty());
        there.write_all(b"a\r\n\r\nb\nhalf").unwrap();
        drop(there);
        end.pump();
        assert_eq!(end.take_lines(), ["a", "", "b<LF-without-CR>"]);
        assert_eq!(end.take_tail().as_deref(), Some("half"));
        end.pump();
        assert!(end.eof && !end.has_tail());
    }

    #[test]
    fn sending_to_nobody_returns() {
        let (here, there) = UnixStream::pair().unwrap();
        drop(there);
        End::new(here.into()).send(b"x", &[], Duration::from_secs(1));
    }
}
