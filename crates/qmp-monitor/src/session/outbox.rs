//! Lines on their way to the client.

use std::io;
use std::task::{Context, Poll};

/// What an idle session keeps of its buffer, in bytes.
const KEPT: usize = 512;

/// Bytes that are to be written, in order.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    bytes: Vec<u8>,
    written: usize,
}

/// The most that is written at once. The kernel frees a piece that was written when the peer has read all of it, so small
/// pieces show that a slow peer reads at all.
const PIECE: usize = 16 * 1024;

/// Where the bytes go: a [`chardev::Connection`], or a test.
pub(crate) trait Sink {
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize>;
    /// As `try_send`, without asking first whether the socket has room.
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize>;
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Sink for chardev::Connection {
    fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_send(self, bytes)
    }

    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::send_now(self, bytes)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_write_ready(self, cx)
    }
}

/// How far [`Outbox::poll_flush`] came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything is written.
    All,
    /// The peer takes no more for now; the task will be woken. `progress`: it took something this time.
    Blocked { progress: bool },
}

impl Outbox {
    /// Where lines are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// What the buffer takes up.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Forgets what waits: nobody will read it.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Writes as much as the peer takes.
    pub(crate) fn poll_flush(&mut self, sink: &impl Sink, cx: &mut Context<'_>) -> io::Result<Flushed> {
        let mut progress = false;
        while self.written < self.bytes.len() {
            match sink.try_send(self.piece()) {
                Ok(sent) => {
                    self.written += sent;
                    progress |= sent > 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => match sink.poll_write_ready(cx) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => {
                        self.compact();
                        return Ok(Flushed::Blocked { progress });
                    }
                },
                Err(error) => return Err(error),
            }
        }
        self.release();
        Ok(Flushed::All)
    }

    /// Writes once more though the socket has not said that it takes anything; says whether it did.
    pub(crate) fn push(&mut self, sink: &impl Sink) -> io::Result<bool> {
        loop {
            match sink.send_now(self.piece()) {
                Ok(sent) => {
                    self.written += sent;
                    return Ok(sent > 0);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    fn piece(&self) -> &[u8] {
        let waiting = &self.bytes[self.written..];
        &waiting[..waiting.len().min(PIECE)]
    }

    /// Moves what waits to the front when most of the buffer is written, so that a slow reader of an endless stream
    /// does not make it grow for ever. Each byte is moved at most about once per doubling.
    fn compact(&mut self) {
        if self.written > self.bytes.len() / 2 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    fn release(&mut self) {
        self.written = 0;
        self.bytes.clear();
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::task::Waker;

    /// Takes as many bytes a call as it is told, then blocks.
    struct Slow {
        takes: RefCell<Vec<usize>>,
        got: RefCell<Vec<u8>>,
    }

    impl Sink for Slow {
        fn try_send(&self, bytes: &[u8]) -> io::Result<usize> {
            let n = self.takes.borrow_mut().pop().ok_or(io::ErrorKind::WouldBlock)?.min(bytes.len());
            self.got.borrow_mut().extend_from_slice(&bytes[..n]);
            Ok(n)
        }
        fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
            self.try_send(bytes)
        }
        fn poll_write_ready(&self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    #[test]
    fn a_slow_peer_gets_every_byte_in_order() {
        let sink = Slow { takes: RefCell::default(), got: RefCell::default() };
        let mut outbox = Outbox::default();
        let mut cx = Context::from_waker(Waker::noop());
        outbox.buffer().extend_from_slice(b"0123456789");
        assert_eq!(outbox.poll_flush(&sink, &mut cx).unwrap(), Flushed::Blocked { progress: false });
        sink.takes.borrow_mut().extend([4, 3]);
        assert_eq!(outbox.poll_flush(&sink, &mut cx).unwrap(), Flushed::Blocked { progress: true });
        outbox.buffer().extend_from_slice(b"abc");
        assert_eq!(outbox.len(), 6);
        sink.takes.borrow_mut().push(100);
        assert_eq!(outbox.poll_flush(&sink, &mut cx).unwrap(), Flushed::All);
        assert_eq!(&*sink.got.borrow(), b"0123456789abc");
        assert!(outbox.is_empty());
    }

    #[test]
    fn an_empty_outbox_keeps_next_to_nothing() {
        let sink = Slow { takes: RefCell::new(vec![usize::MAX; 64]), got: RefCell::default() };
        let mut outbox = Outbox::default();
        outbox.buffer().resize(1 << 20, 0);
        let mut cx = Context::from_waker(Waker::noop());
        assert_eq!(outbox.poll_flush(&sink, &mut cx).unwrap(), Flushed::All);
        assert!(outbox.bytes.capacity() <= KEPT);
    }
}
