//! Many connections on one thread: what a management process with hundreds of monitors does.
//!
//! A level-triggered epoll set over sockets that were opened and negotiated one by one; reads are `recv` with
//! `MSG_DONTWAIT`, one per ready socket, and sends are small enough never to wait.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::RecvFlags;

use super::poll::Poller;
use super::session::{Line, Session, check};
use super::{Doing, Error, Result};
use crate::harness::PATIENCE;

/// An epoll set of negotiated sessions.
#[derive(Debug)]
pub struct Swarm {
    poller: Poller,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    stream: UnixStream,
    /// A line of which the end has not come.
    partial: Vec<u8>,
}

impl Swarm {
    /// Takes over negotiated sessions that have no reply outstanding.
    ///
    /// # Errors
    ///
    /// When the epoll set cannot be made.
    pub fn new(sessions: Vec<Session>) -> Result<Self> {
        let poller = Poller::new()?;
        let mut members = Vec::with_capacity(sessions.len());
        for session in sessions {
            let stream = session.into_stream();
            poller.add(&stream, members.len(), EventFlags::IN)?;
            members.push(Member { stream, partial: Vec::new() });
        }
        Ok(Self { poller, members })
    }

    /// Keeps one `command` in flight on every session for `budget` and counts the replies; per second.
    ///
    /// The count begins after a tenth of the budget.
    ///
    /// # Errors
    ///
    /// An error reply, or silence on all sessions.
    pub fn busy(&mut self, command: &[u8], budget: Duration) -> Result<f64> {
        for index in 0..self.members.len() {
            self.send(index, command)?;
        }
        let warm = Instant::now() + budget / 10;
        while Instant::now() < warm {
            self.answer_replies(command)?;
        }
        let (mut replies, start) = (0_u32, Instant::now());
        let mut elapsed = Duration::ZERO;
        while elapsed < budget {
            replies += self.answer_replies(command)?;
            elapsed = start.elapsed();
        }
        Ok(f64::from(replies) / elapsed.as_secs_f64())
    }

    /// Sends `command` on the first session and returns once every session has had an event, and the first its reply.
    ///
    /// # Errors
    ///
    /// An error reply, or an event that does not come.
    pub fn fan_out(&mut self, command: &[u8]) -> Result<()> {
        self.send(0, command)?;
        let (mut replies, mut events) = (0, 0);
        while replies < 1 || events < self.members.len() {
            self.turn(|_, line| {
                match line {
                    Line::Reply => replies += 1,
                    Line::Event => events += 1,
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// One turn of [`busy`](Self::busy): each reply is followed by the session's next command.
    fn answer_replies(&mut self, command: &[u8]) -> Result<u32> {
        let mut replies = 0;
        self.turn(|member, line| {
            if line == Line::Reply {
                replies += 1;
                member.stream.write_all(command).doing("sending a command")?;
            }
            Ok(())
        })?;
        Ok(replies)
    }

    fn send(&mut self, index: usize, command: &[u8]) -> Result<()> {
        self.members[index].stream.write_all(command).doing("sending a command")
    }

    /// Waits once, reads each ready session once, hands its complete lines to `on_line`.
    fn turn(&mut self, mut on_line: impl FnMut(&mut Member, Line) -> Result<()>) -> Result<()> {
        self.poller.wait(PATIENCE)?;
        let ready = self.poller.take();
        if ready.is_empty() {
            return Err(Error::Silent);
        }
        let mut buffer = [0; 4096];
        for &index in &ready {
            let member = &mut self.members[index];
            let length = match rustix::net::recv(&member.stream, &mut buffer, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => return Err(Error::Closed),
                Ok((_, length)) => length,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).doing("reading from a monitor"),
            };
            member.lines(&buffer[..length], &mut on_line)?;
        }
        self.poller.give(ready);
        Ok(())
    }
}

impl Member {
    fn lines(&mut self, read: &[u8], on_line: &mut impl FnMut(&mut Self, Line) -> Result<()>) -> Result<()> {
        for piece in read.split_inclusive(|&byte| byte == b'\n') {
            let line = if !piece.ends_with(b"\n") {
                self.partial.extend_from_slice(piece);
                continue;
            } else if self.partial.is_empty() {
                check(piece)?
            } else {
                self.partial.extend_from_slice(piece);
                let line = check(&self.partial)?;
                self.partial.clear();
                line
            };
            on_line(self, line)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_split_over_reads_are_put_together() {
        let (stream, _server) = UnixStream::pair().unwrap();
        let mut member = Member { stream, partial: Vec::new() };
        let bytes = b"{\"return\": {}}\r\n{\"timestamp\": {}, \"event\": \"STOP\"}\r\n{\"return\": {}}\r\n";
        for split in 0..bytes.len() {
            let mut lines = Vec::new();
            let mut on_line = |_: &mut Member, line| {
                lines.push(line);
                Ok(())
            };
            member.lines(&bytes[..split], &mut on_line).unwrap();
            member.lines(&bytes[split..], &mut on_line).unwrap();
            assert_eq!(lines, [Line::Reply, Line::Event, Line::Reply]);
        }
    }
}
