//! One blocking connection to a monitor: plain `write` and `read`, nothing between the bench and the kernel.
//!
//! Every line that a server sends is looked at: an error reply ends the measurement. The common case, one read that
//! returns exactly the awaited reply, costs one comparison.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::{Doing, Error, Result};
use crate::harness::PATIENCE;

/// The command that most measurements repeat. Like all commands here it ends with the only newline in it.
pub const QUERY_NAME: &[u8] = b"{\"execute\": \"query-name\"}\n";
/// The command that ends capabilities negotiation.
pub const QMP_CAPABILITIES: &[u8] = b"{\"execute\": \"qmp_capabilities\"}\n";

const REPLY_START: &[u8] = b"{\"return\"";
const EVENT_START: &[u8] = b"{\"timestamp\"";

/// A connected client of a monitor.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
    buffer: Box<[u8]>,
    /// `buffer[start..end]` was read and not consumed.
    start: usize,
    end: usize,
}

impl Session {
    /// Connects, reads the greeting and negotiates: the way of every client.
    ///
    /// # Errors
    ///
    /// When the socket refuses, or the server says something else than a monitor would.
    pub fn open(path: &Path) -> Result<Self> {
        let mut session = Self::connect(path)?;
        session.greeting()?;
        session.call(QMP_CAPABILITIES)?;
        Ok(session)
    }

    /// As [`open`](Self::open), but waits up to [`PATIENCE`] for the server to listen.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_when_ready(path: &Path) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::open(path) {
                Err(Error::Io { source, .. }) if is_not_yet(&source) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => return result,
            }
        }
    }

    /// Connects, and reads nothing yet.
    ///
    /// # Errors
    ///
    /// When the socket refuses.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).doing("connecting to a monitor")?;
        stream.set_read_timeout(Some(PATIENCE)).doing("setting a timeout")?;
        Ok(Self { stream, buffer: vec![0; 4096].into_boxed_slice(), start: 0, end: 0 })
    }

    /// Waits for less than [`PATIENCE`] from now on.
    ///
    /// # Errors
    ///
    /// Only for a duration of zero.
    pub fn set_patience(&mut self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience)).doing("setting a timeout")
    }

    /// Reads the greeting and gives it back without its line end.
    ///
    /// # Errors
    ///
    /// When the first line is none.
    pub fn greeting(&mut self) -> Result<String> {
        let line = String::from_utf8_lossy(self.line()?).trim_end().to_owned();
        if line.starts_with("{\"QMP\"") { Ok(line) } else { Err(Error::Answer(line)) }
    }

    /// Sends one command and waits for its reply. Events that come first are dropped.
    ///
    /// # Errors
    ///
    /// When the reply is an error or does not come.
    pub fn call(&mut self, command: &[u8]) -> Result<()> {
        self.stream.write_all(command).doing("sending a command")?;
        self.reply()
    }

    /// As [`call`](Self::call), with an fd attached to the command's bytes.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_with_fd(&mut self, command: &[u8], fd: BorrowedFd<'_>) -> Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Error::Answer("no room for one fd in a message".into()));
        }
        let iov = [IoSlice::new(command)];
        let sent = rustix::net::sendmsg(&self.stream, &iov, &mut control, SendFlags::NOSIGNAL)
            .doing("sending an fd")?;
        self.stream.write_all(&command[sent..]).doing("sending a command")?;
        self.reply()
    }

    /// Sends `batch`, which holds `count` commands, in one write and waits until all replies are in.
    ///
    /// Replies are counted by their line ends; `reply_length`, that of one reply of the kind, shows an error among
    /// them, since all commands of a batch are alike.
    ///
    /// # Errors
    ///
    /// When the replies are not `count` of `reply_length` bytes each.
    pub fn call_batch(&mut self, batch: &[u8], count: usize, reply_length: usize) -> Result<()> {
        self.stream.write_all(batch).doing("sending commands")?;
        let (mut lines, mut bytes) = (0, 0);
        while lines < count {
            let chunk = self.fill()?;
            lines += chunk.iter().filter(|&&byte| byte == b'\n').count();
            bytes += chunk.len();
            self.start = self.end;
        }
        if (lines, bytes) == (count, count * reply_length) {
            Ok(())
        } else {
            Err(Error::Answer(format!("{lines} lines, {bytes} bytes for {count} commands")))
        }
    }

    /// The length of a command's reply, line end included.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn reply_length(&mut self, command: &[u8]) -> Result<usize> {
        self.stream.write_all(command).doing("sending a command")?;
        let line = self.line()?;
        check(line)?;
        Ok(line.len())
    }

    /// The socket, for callers that wait for many at once.
    #[must_use]
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    fn reply(&mut self) -> Result<()> {
        while check(self.line()?)? == Line::Event {}
        Ok(())
    }

    /// Takes the next line, its end included, reading as often as it takes.
    fn line(&mut self) -> Result<&[u8]> {
        let mut seen = 0;
        loop {
            let unread = &self.buffer[self.start..self.end];
            if let Some(at) = unread[seen..].iter().position(|&byte| byte == b'\n') {
                let line = self.start..self.start + seen + at + 1;
                self.start = line.end;
                return Ok(&self.buffer[line]);
            }
            seen = unread.len();
            self.fill()?;
        }
    }

    /// One `read`; gives what it added.
    fn fill(&mut self) -> Result<&[u8]> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.buffer.len() {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
            if self.end == self.buffer.len() {
                return Err(Error::Answer("a line of more than 4 KiB".into()));
            }
        }
        let length = self.stream.read(&mut self.buffer[self.end..]).doing("reading from a monitor")?;
        if length == 0 {
            return Err(Error::Closed);
        }
        self.end += length;
        Ok(&self.buffer[self.end - length..self.end])
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// What a line was, when it was none that fails a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    Reply,
    Event,
}

/// Tells a reply from an event; an error reply is an error.
pub(crate) fn check(line: &[u8]) -> Result<Line> {
    if line.starts_with(REPLY_START) {
        return Ok(Line::Reply);
    }
    if line.starts_with(EVENT_START) {
        return Ok(Line::Event);
    }
    // Another order of members is as good.
    match serde_json::from_slice::<serde_json::Value>(line) {
        Ok(value) if value.get("return").is_some() => Ok(Line::Reply),
        Ok(value) if value.get("event").is_some() => Ok(Line::Event),
        _ => Err(Error::Answer(String::from_utf8_lossy(line).trim_end().to_owned())),
    }
}

/// The server has not come as far as listening.
fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Session, UnixStream) {
        let (stream, server) = UnixStream::pair().unwrap();
        (Session { stream, buffer: vec![0; 64].into_boxed_slice(), start: 0, end: 0 }, server)
    }

    #[test]
    fn events_before_a_reply_are_skipped() {
        let (mut session, mut server) = pair();
        server.write_all(b"{\"timestamp\": {}, \"event\": \"STOP\"}\r\n{\"return\": {}}\r\n").unwrap();
        session.call(b"{}\n").unwrap();
        server.write_all(b"{\"id\": 1, \"return\": {}}\r\n").unwrap();
        session.call(b"{}\n").unwrap();
    }

    #[test]
    fn an_error_reply_fails() {
        let (mut session, mut server) = pair();
        server.write_all(b"{\"error\": {\"class\": \"GenericError\"}}\r\n").unwrap();
        assert!(matches!(session.call(b"{}\n"), Err(Error::Answer(_))));
    }

    #[test]
    fn a_batch_counts_lines_over_several_reads() {
        let (mut session, mut server) = pair();
        server.write_all(&b"{\"return\": {}}\r\n".repeat(64)).unwrap();
        session.call_batch(&b"{}\n".repeat(64), 64, 16).unwrap();
        server.write_all(b"{\"error\": {}}\r\n{\"return\": {}}\r\n").unwrap();
        assert!(matches!(session.call_batch(b"{}\n{}\n", 2, 16), Err(Error::Answer(_))));
    }

    #[test]
    fn a_lost_server_is_an_error() {
        let (mut session, server) = pair();
        drop(server);
        assert!(matches!(session.call(b"{}\n"), Err(Error::Closed)));
    }

    #[test]
    fn lines_move_down_when_the_buffer_is_full() {
        let (mut session, mut server) = pair();
        server.write_all(&b"{\"timestamp\": {}, \"event\": \"EVENT\"}\r\n".repeat(9)).unwrap();
        server.write_all(b"{\"return\": {}}\r\n").unwrap();
        session.call(b"{}\n").unwrap();
    }
}
