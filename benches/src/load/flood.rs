//! The noisy neighbours: a thread with many sessions that send as hard as a [`Kind`] of client does.
//!
//! It runs beside a measured session and shares the client's core with it, which is part of what is measured; the
//! floor's figure says how much.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;
use rustix::net::{RecvFlags, SendFlags};

use super::poll::Poller;
use super::session::{QUERY_NAME, Session};
use super::{Doing, Error, Result};

/// How the flooding clients behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Each keeps this many commands in flight: it sends as many in one write whenever the last ones are answered.
    InFlight(usize),
    /// Each sends until its socket takes no more, for ever, and reads nothing. A server that presses back leaves
    /// them waiting; one that does not collects their replies in its memory.
    Unread,
}

/// A running flood. It ends when it is stopped or dropped.
#[derive(Debug)]
pub struct Flood {
    stop: Arc<AtomicBool>,
    started: Instant,
    thread: Option<JoinHandle<Result<f64>>>,
}

impl Flood {
    /// Starts flooding on negotiated sessions that have no reply outstanding.
    ///
    /// # Errors
    ///
    /// When the epoll set cannot be made.
    pub fn start(sessions: Vec<Session>, kind: Kind) -> Result<Self> {
        let mut flooders = Flooders::new(sessions, kind)?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::Builder::new()
            .name("flood".into())
            .spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    flooders.turn()?;
                }
                Ok(flooders.replies())
            })
            .doing("starting the flood")?;
        Ok(Self { stop, started: Instant::now(), thread: Some(thread) })
    }

    /// Ends the flood, closes its sessions and gives its rate: commands answered per second; 0 where no answer is
    /// read.
    ///
    /// # Errors
    ///
    /// What made it end before: a session that the server closed, for one.
    pub fn stop(mut self) -> Result<f64> {
        let elapsed = self.started.elapsed();
        Ok(self.end()? / elapsed.as_secs_f64())
    }

    fn end(&mut self) -> Result<f64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(0.0),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Answer("the flood panicked".into())),
        }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // An error was or will be reported by the measured session, which sees the same server.
        let _ = self.end();
    }
}

struct Flooders {
    poller: Poller,
    members: Vec<Flooder>,
    /// Commands to send: one batch, or a socket buffer's worth.
    batch: Vec<u8>,
    kind: Kind,
}

struct Flooder {
    stream: UnixStream,
    /// Replies that the batch under way still lacks.
    awaited: usize,
    /// How much of `batch` was sent last; short of the whole only when nothing is read.
    sent: usize,
    /// Replies had in all.
    replies: usize,
}

impl Flooders {
    fn new(sessions: Vec<Session>, kind: Kind) -> Result<Self> {
        let poller = Poller::new()?;
        let (batch, flags) = match kind {
            Kind::InFlight(depth) => (QUERY_NAME.repeat(depth), EventFlags::IN),
            Kind::Unread => (QUERY_NAME.repeat(64), EventFlags::OUT),
        };
        let mut members = Vec::with_capacity(sessions.len());
        for session in sessions {
            let stream = session.into_stream();
            poller.add(&stream, members.len(), flags)?;
            let mut flooder = Flooder { stream, awaited: 0, sent: batch.len(), replies: 0 };
            if let Kind::InFlight(depth) = kind {
                flooder.awaited = depth;
                flooder.send(&batch)?;
            }
            members.push(flooder);
        }
        Ok(Self { poller, members, batch, kind })
    }

    fn replies(&self) -> f64 {
        self.members.iter().map(|member| member.replies).sum::<usize>() as f64
    }

    fn turn(&mut self) -> Result<()> {
        // Short, so that a stop is seen soon when nothing is ready.
        self.poller.wait(Duration::from_millis(5))?;
        let ready = self.poller.take();
        for &index in &ready {
            let member = &mut self.members[index];
            match self.kind {
                Kind::InFlight(depth) => member.receive(depth, &self.batch)?,
                Kind::Unread => member.send(&self.batch)?,
            }
        }
        self.poller.give(ready);
        Ok(())
    }
}

impl Flooder {
    fn receive(&mut self, depth: usize, batch: &[u8]) -> Result<()> {
        let mut buffer = [0; 4096];
        let length = match rustix::net::recv(&self.stream, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Err(Error::Closed),
            Ok((_, length)) => length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).doing("reading from a monitor"),
        };
        let lines = buffer[..length].iter().filter(|&&byte| byte == b'\n').count();
        self.replies += lines;
        self.awaited = self.awaited.saturating_sub(lines);
        if self.awaited == 0 {
            self.awaited = depth;
            self.send(batch)?;
        }
        Ok(())
    }

    /// Goes on where the last send stopped, or begins the batch again.
    fn send(&mut self, batch: &[u8]) -> Result<()> {
        let from = if self.sent == batch.len() { 0 } else { self.sent };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&self.stream, &batch[from..], flags) {
            Ok(length) => self.sent = from + length,
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).doing("flooding a monitor"),
        }
        Ok(())
    }
}
