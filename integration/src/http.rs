//! HTTP over a unix socket, byte by byte, as a client of `vmmd -metrics` writes and reads it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::LIMIT;

/// What a client of Prometheus's sends, more or less.
pub const SCRAPE: &str =
    "GET /metrics HTTP/1.1\r\nHost: localhost\r\nAccept: text/plain;version=0.0.4\r\n\r\n";

/// An answer, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The number in the first line.
    pub status: u16,
    /// The first line and the fields, as they came.
    pub head: String,
    /// What is behind them.
    pub body: String,
}

impl Answer {
    /// Reads one to its end, which is the connection's.
    ///
    /// # Errors
    /// The connection ends before the head does, or nothing comes for [`LIMIT`].
    pub fn read(mut socket: &UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(LIMIT))?;
        let mut all = String::new();
        socket.read_to_string(&mut all)?;
        let (head, body) = all.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok(Self { status, head: head.to_owned(), body: body.to_owned() })
    }

    /// A field's value. The name in any case.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the sample that is called so, its labels in braces behind the name.
    #[must_use]
    pub fn sample(&self, name: &str) -> Option<f64> {
        let samples = self.body.lines().filter_map(|line| line.rsplit_once(' '));
        samples.into_iter().find(|(sample, _)| *sample == name).and_then(|(_, value)| value.parse().ok())
    }
}

/// Connects, sends a request and reads the answer.
///
/// # Errors
/// Nobody listens there, or [`Answer::read`]'s.
pub fn ask(path: &Path, request: &str) -> io::Result<Answer> {
    let mut socket = UnixStream::connect(path)?;
    socket.write_all(request.as_bytes())?;
    Answer::read(&socket)
}

/// Asks for the metrics.
///
/// # Panics
/// They do not come.
#[track_caller]
pub fn scrape(path: &Path) -> Answer {
    let answer = ask(path, SCRAPE).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert_eq!(answer.status, 200, "{}", answer.head);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_apart() {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"HTTP/1.1 200 OK\r\nAllow: GET, HEAD\r\n\r\na{b=\"c d\"} 3\ne 0.5\n").unwrap();
        drop(there);
        let answer = Answer::read(&here).unwrap();
        assert_eq!((answer.status, answer.field("allow"), answer.field("b")), (200, Some("GET, HEAD"), None));
        assert_eq!((answer.sample("a{b=\"c d\"}"), answer.sample("e")), (Some(3.0), Some(0.5)));
        assert_eq!(answer.sample("a"), None);
    }

    #[test]
    fn half_a_head_is_none() {
        let (here, mut there) = UnixStream::pair().unwrap();
        there.write_all(b"HTTP/1.1 200 OK\r\n").unwrap();
        drop(there);
        assert_eq!(Answer::read(&here).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
