//! A chardev's connection, as hyper wants to read and write it.
//!
//! Descriptors that come with the bytes are closed where nobody waits: nothing here has a use for them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use vmm_control::chardev::Connection;

/// How much is read at once, in bytes.
const CHUNK: usize = 2048;

/// A connection.
#[derive(Debug)]
pub(super) struct Io(pub(super) Connection);

impl Read for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut chunk = [0; CHUNK];
        let most = buf.remaining().min(CHUNK);
        if most == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            match self.0.try_recv_plain(&mut chunk[..most]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.poll_read_ready(cx))?;
                }
                Err(error) => return Poll::Ready(Err(error)),
                Ok(count) => {
                    buf.put_slice(&chunk[..count]);
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl Write for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.0.try_send(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.0.poll_write_ready(cx))?;
                }
                done => return Poll::Ready(done),
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.shutdown_write();
        Poll::Ready(Ok(()))
    }
}
