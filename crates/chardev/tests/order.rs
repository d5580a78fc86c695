//! Which message a descriptor belongs to, over all orders of five writes.
//!
//! A message sees the newest write with descriptors that began at or before its last byte. A reader that looks first, reads
//! in bulk what carries nothing and one message at a time what does, gets that right whatever its buffer's size.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod common;

use std::io::{ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use chardev::Connection;
use common::send_fds;

/// One write: a message ends in it or not, it carries descriptors or not.
#[derive(Debug, Clone, Copy)]
struct Piece {
    ends: bool,
    fds: bool,
}

impl Piece {
    fn bytes(self) -> &'static [u8] {
        if self.ends { b"ab\n" } else { b"ab" }
    }
}

/// The number of descriptors that each message sees. Write n carries n + 1 of them, which tells the writes apart.
fn expected(pieces: &[Piece]) -> Vec<usize> {
    let (mut newest, mut messages) = (0, Vec::new());
    for (at, piece) in pieces.iter().enumerate() {
        if piece.fds {
            newest = at + 1;
        }
        if piece.ends {
            messages.push(newest);
        }
    }
    messages
}

struct Reader {
    fds: Vec<OwnedFd>,
    messages: Vec<usize>,
}

impl Reader {
    fn run(connection: &Connection, size: usize) -> Vec<usize> {
        let mut reader = Self { fds: Vec::new(), messages: Vec::new() };
        let mut buf = vec![0; size];
        loop {
            let peeked = match connection.try_peek(&mut buf) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return reader.messages,
                peeked => peeked.unwrap(),
            };
            let read = if peeked.fds {
                let end = buf[..peeked.len].iter().position(|byte| *byte == b'\n');
                let mut fds = Vec::new();
                let read =
                    connection.try_recv(&mut buf[..end.map_or(peeked.len, |at| at + 1)], &mut fds).unwrap();
                assert_eq!(read.fds, !fds.is_empty());
                if read.fds {
                    reader.fds = fds;
                }
                read.len
            } else {
                connection.try_recv_plain(&mut buf[..peeked.len]).unwrap()
            };
            let ended = buf[..read].iter().filter(|byte| **byte == b'\n').count();
            reader.messages.extend(std::iter::repeat_n(reader.fds.len(), ended));
        }
    }
}

#[tokio::test]
async fn every_order_of_writes() {
    let null: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let copies: Vec<_> = (0..5).map(|_| null.try_clone().unwrap()).collect();
    let (server, mut client) = UnixStream::pair().unwrap();
    server.set_nonblocking(true).unwrap();
    let server = tokio::net::UnixStream::from_std(server).unwrap();
    let connection = Connection::from_unix_stream(server).unwrap();
    for order in 0..4_usize.pow(5) {
        let piece = |at: u32| order / 4_usize.pow(at) % 4;
        let pieces: Vec<_> =
            (0..5).map(piece).map(|kind| Piece { ends: kind & 1 > 0, fds: kind & 2 > 0 }).collect();
        for size in [1, 3, 4, 64] {
            for (at, piece) in pieces.iter().enumerate() {
                if piece.fds {
                    send_fds(&client, piece.bytes(), &copies[..=at]).unwrap();
                } else {
                    client.write_all(piece.bytes()).unwrap();
                }
            }
            std::future::poll_fn(|cx| connection.poll_read_ready(cx)).await.unwrap();
            assert_eq!(
                Reader::run(&connection, size),
                expected(&pieces),
                "{pieces:?}, {size} bytes at a time"
            );
        }
    }
}
