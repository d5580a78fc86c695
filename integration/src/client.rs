//! A small blocking QMP client.
//!
//! It shares no code with the server under test, shows every line as it came, and says what it was waiting for when
//! something does not come: its methods panic, as a test's assertions do. Events that arrive while it waits for a
//! reply are kept for [`Client::event`].

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{LIMIT, wire};

/// What the server answers instead of a return value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpError {
    /// The error class.
    pub class: String,
    /// The description.
    pub desc: String,
}

impl fmt::Display for QmpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.desc)
    }
}

/// A connection to a QMP monitor.
#[derive(Debug)]
pub struct Client {
    socket: UnixStream,
    unread: Vec<u8>,
    events: VecDeque<Value>,
}

impl Client {
    /// Connects to a socket that may be about to appear, at most [`LIMIT`] from now. Reads and says nothing.
    ///
    /// # Errors
    /// When nobody listens there in time.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let start = Instant::now();
        loop {
            match UnixStream::connect(path) {
                Ok(socket) => return Self::over(socket),
                Err(e) if start.elapsed() >= LIMIT => return Err(e),
                Err(_) => std::thread::sleep(Duration::from_millis(2)),
            }
        }
    }

    /// A client over a connection that exists already.
    ///
    /// # Errors
    /// When the socket takes no time-outs.
    pub fn over(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        Ok(Self { socket, unread: Vec::new(), events: VecDeque::new() })
    }

    /// Reads the greeting.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn greeting(&mut self) -> Value {
        let greeting = self.value();
        assert!(greeting.get("QMP").is_some(), "expected a greeting, got {greeting}");
        greeting
    }

    /// Reads the greeting and ends the negotiation.
    ///
    /// # Panics
    /// When the server does not go along.
    #[track_caller]
    pub fn negotiate(&mut self) {
        self.greeting();
        let reply = self.call("qmp_capabilities", json!({}));
        assert_eq!(reply, Ok(json!({})), "negotiation");
    }

    /// The connection itself.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// Sends these bytes.
    ///
    /// # Panics
    /// When the server does not take them within [`LIMIT`].
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.send_with_fds(bytes, &[]);
    }

    /// Sends these bytes in one message, `fds` attached to its first byte.
    ///
    /// # Panics
    /// When the server does not take them within [`LIMIT`].
    #[track_caller]
    pub fn send_with_fds(&mut self, bytes: impl AsRef<[u8]>, fds: &[BorrowedFd<'_>]) {
        self.try_send(bytes.as_ref(), fds).unwrap_or_else(|e| panic!("the server takes no bytes: {e}"));
    }

    /// Sends these bytes, as far as the server takes them.
    ///
    /// # Errors
    /// When it has closed the connection, or takes nothing for [`LIMIT`].
    pub fn try_send(&mut self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = wire::send(&self.socket, bytes, fds)?;
            bytes = &bytes[sent..];
            fds = &[];
        }
        Ok(())
    }

    /// Reads a line, without its CR LF. `None` at the end of the connection.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`].
    #[track_caller]
    pub fn next_line(&mut self) -> Option<String> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.unread[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.unread.split_off(searched + at + 1);
                let line = std::mem::replace(&mut self.unread, rest);
                return Some(String::from_utf8_lossy(line.trim_ascii_end()).into_owned());
            }
            searched = self.unread.len();
            let mut chunk = [0; 1 << 16];
            match self.socket.read(&mut chunk) {
                Ok(0) => return None,
                Ok(n) => self.unread.extend_from_slice(&chunk[..n]),
                Err(e) if e.kind() == io::ErrorKind::ConnectionReset => return None,
                Err(e) => panic!("no line came: {e}; so far {:?}", String::from_utf8_lossy(&self.unread)),
            }
        }
    }

    /// Reads a line, without its CR LF.
    ///
    /// # Panics
    /// When none comes within [`LIMIT`], or the connection ends.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.next_line().unwrap_or_else(|| panic!("the connection ended"))
    }

    /// Reads a line and parses it.
    ///
    /// # Panics
    /// When it is not JSON.
    #[track_caller]
    pub fn value(&mut self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e} in {line:?}"))
    }

    /// Reads on to the next reply; events before it are kept.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn reply(&mut self) -> Value {
        loop {
            let value = self.value();
            if value.get("event").is_none() {
                return value;
            }
            self.events.push_back(value);
        }
    }

    /// Runs a command.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn call(&mut self, command: &str, arguments: Value) -> Result<Value, QmpError> {
        self.call_with_fds(command, arguments, &[])
    }

    /// Runs a command without arguments that cannot fail.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn run(&mut self, command: &str) -> Value {
        self.call(command, json!({})).unwrap_or_else(|e| panic!("{command}: {e}"))
    }

    /// Runs a command, `fds` attached to its first byte.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn call_with_fds(
        &mut self,
        command: &str,
        arguments: Value,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Value, QmpError> {
        let request = json!({"execute": command, "arguments": arguments});
        self.send_with_fds(format!("{request}\n"), fds);
        outcome(self.reply())
    }

    /// Passes a descriptor under a name.
    ///
    /// # Errors
    /// What the server answers.
    ///
    /// # Panics
    /// When it does not answer.
    #[track_caller]
    pub fn getfd(&mut self, name: &str, fd: &OwnedFd) -> Result<Value, QmpError> {
        self.call_with_fds("getfd", json!({"fdname": name}), &[fd.as_fd()])
    }

    /// The next event: one that was kept, or the next line.
    ///
    /// # Panics
    /// When something else comes, or it is not called `name`.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let event = self.events.pop_front().unwrap_or_else(|| self.value());
        assert_eq!(event["event"], name, "got {event}");
        event
    }

    /// The events that came beside replies and were not asked for.
    pub fn kept_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Whether nothing arrives for this long.
    ///
    /// # Panics
    /// When the socket fails.
    pub fn is_silent_for(&mut self, time: Duration) -> bool {
        if !self.unread.is_empty() {
            return false;
        }
        let mut chunk = [0; 4096];
        let set = self.socket.set_read_timeout(Some(time));
        let read = self.socket.read(&mut chunk);
        let reset = self.socket.set_read_timeout(Some(LIMIT));
        assert!(set.is_ok() && reset.is_ok(), "the socket takes time-outs");
        match read {
            Ok(n) => {
                self.unread.extend_from_slice(&chunk[..n]);
                false
            }
            Err(_) => true,
        }
    }

    /// Reads to the end of the connection and returns the lines before it.
    ///
    /// # Panics
    /// When it does not end.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }
}

/// A reply as a result.
///
/// # Errors
/// When it is an error reply.
///
/// # Panics
/// When it is no reply at all.
#[track_caller]
pub fn outcome(reply: Value) -> Result<Value, QmpError> {
    match (reply.get("return"), reply.get("error")) {
        (Some(value), None) => Ok(value.clone()),
        (None, Some(error)) => {
            let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
            Err(QmpError { class: text("class"), desc: text("desc") })
        }
        _ => panic!("expected a reply, got {reply}"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn pair() -> (Client, UnixStream) {
        let (here, there) = UnixStream::pair().unwrap();
        (Client::over(here).unwrap(), there)
    }

    #[test]
    fn events_beside_a_reply_are_kept() {
        let (mut client, mut there) = pair();
        there.write_all(b"{\"event\": \"STOP\"}\r\n{\"return\": 1}\r\n{\"event\": \"RESUME\"}\r\n").unwrap();
        assert_eq!(client.call("stop", json!({})), Ok(json!(1)));
        client.event("STOP");
        client.event("RESUME");
        assert!(client.is_silent_for(Duration::from_millis(1)));
        drop(there);
        assert_eq!(client.next_line(), None);
    }

    #[test]
    fn errors_are_results() {
        let (mut client, mut there) = pair();
        there.write_all(b"{\"error\": {\"class\": \"C\", \"desc\": \"d\"}}\r\nhalf").unwrap();
        let error = client.call("x", json!({})).unwrap_err();
        assert_eq!(error.to_string(), "C: d");
        assert!(!client.is_silent_for(Duration::from_millis(1)));
        drop(there);
        assert_eq!(client.rest(), Vec::<String>::new());
    }
}
