//! The floor: a server that does a vfio-user server's socket work and nothing else.
//!
//! # What it does
//!
//! One thread, one connection. In this order, again and again:
//!
//! * **it waits**: the epoll floor blocks in `epoll_wait`; the busy floor does not wait, it tries the next step until
//!   there is something;
//! * **one `recvmsg`** takes what is there, up to [`CHUNK`], with room for the 16 descriptors that QEMU's client may
//!   send with a message; those that arrive are closed;
//! * of each message the header is looked at: where it ends, and how long its answer is (a read: 32 bytes and the
//!   data; a write: 32; one that wants no reply: nothing). Bodies are passed over, not copied;
//! * **one `send`** answers everything that was complete in the chunk. The data of reads is whatever the output buffer
//!   holds: it is not written either.
//!
//! A 16-byte write to region 2 makes it ask for memory first, as the `scratch` device does: it sends as many `DMA_READ`
//! commands as the write says, each after the answer to the one before, and then answers the write.
//!
//! # Why it is fair
//!
//! It has the duties that cost system calls, and nothing that a server could not have: no shared memory, no batching
//! that the client did not do first. It has no region, no checks and no second client. A server that has all of that
//! and is within a few percent of it has nothing left to win but by other system calls.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvFlags, SendFlags};

use super::wire::{self, ACCESS, DMA_MAP_SIZE, HEADER, Header, NO_REPLY, u32_at, u64_at};

/// Bytes taken from the socket at a time, at most.
pub const CHUNK: usize = 256 * 1024;
/// Room for answers to one chunk; more than the largest answer, so that it is only sent early when it is well filled.
const ANSWERS: usize = 4 * 1024 * 1024;
/// The most descriptors that QEMU's client sends with a message.
const MAX_FDS: usize = 16;
/// The answer's payload to `VERSION`: 0.0 and no capabilities beyond the defaults.
const VERSION_DATA: &[u8] = b"\0\0\0\0{\"capabilities\":{}}\0";

/// How a floor waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Blocks in `epoll_wait`.
    Epoll,
    /// Tries to receive until there is something.
    Busy,
}

/// Listens at `path` and serves one client after the other until the process is ended.
///
/// # Errors
///
/// When it cannot listen or accept. A client that sends nonsense is dropped.
pub fn serve(path: &Path, waiting: Waiting) -> io::Result<()> {
    let listener = UnixListener::bind(path)?;
    loop {
        let (stream, _) = listener.accept()?;
        // Whatever is wrong with a client ends that client.
        let _ = Connection::new(stream, waiting)?.run();
    }
}

struct Connection {
    stream: UnixStream,
    epoll: OwnedFd,
    waiting: Waiting,
    /// `input[..filled]` was received; what of it was not consumed is moved to the front before the next receive.
    input: Box<[u8]>,
    filled: usize,
    /// What is left of the body of a message that has begun, and the answer that is due when it is complete.
    body: usize,
    due: Option<[u8; DMA_MAP_SIZE]>,
    /// `output[..answered]` is to be sent.
    output: Box<[u8]>,
    answered: usize,
}

impl Connection {
    fn new(stream: UnixStream, waiting: Waiting) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &stream, EventData::new_u64(0), EventFlags::IN)?;
        let (input, output) = (vec![0; CHUNK].into_boxed_slice(), vec![0; ANSWERS].into_boxed_slice());
        Ok(Self { stream, epoll, waiting, input, filled: 0, body: 0, due: None, output, answered: 0 })
    }

    fn run(&mut self) -> io::Result<()> {
        while self.receive()? {
            self.consume()?;
            self.flush()?;
        }
        Ok(())
    }

    /// Waits, and takes what is there. `false` when the client has gone.
    fn receive(&mut self) -> io::Result<bool> {
        loop {
            if self.waiting == Waiting::Epoll {
                let mut events = [MaybeUninit::uninit()];
                match epoll::wait(&self.epoll, &mut events, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut room = [IoSliceMut::new(&mut self.input[self.filled..])];
            let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
            // Dropping `control` closes what arrived.
            match rustix::net::recvmsg(&self.stream, &mut room, &mut control, flags) {
                Ok(received) => {
                    self.filled += received.bytes;
                    return Ok(received.bytes > 0);
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Goes from message to message and notes the answers.
    fn consume(&mut self) -> io::Result<()> {
        let mut at = 0;
        loop {
            let there = self.filled - at;
            if self.body > 0 {
                let taken = self.body.min(there);
                at += taken;
                self.body -= taken;
                if self.body > 0 {
                    break;
                }
            }
            if let Some(start) = self.due.take() {
                self.answer(&start)?;
                // DMA has used the input buffer.
                at = at.min(self.filled);
                continue;
            }
            let there = self.filled - at;
            if there < HEADER {
                break;
            }
            let length = Header::read(&self.input[at..]).length();
            let needed = length.min(DMA_MAP_SIZE);
            if length < HEADER {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if there < needed {
                break;
            }
            let mut start = [0; DMA_MAP_SIZE];
            start[..needed].copy_from_slice(&self.input[at..at + needed]);
            at += needed;
            self.body = length - needed;
            self.due = Some(start);
        }
        self.input.copy_within(at..self.filled, 0);
        self.filled -= at;
        Ok(())
    }

    /// Notes the answer to the message that starts with `start`.
    fn answer(&mut self, start: &[u8; DMA_MAP_SIZE]) -> io::Result<()> {
        let header = Header::read(start);
        if header.command == wire::REGION_WRITE && u32_at(start, 24) == 2 && header.length() == ACCESS + 16 {
            self.dma(u64_at(start, 32), u32_at(start, 40), u32_at(start, 44) as usize)?;
        }
        if header.flags & NO_REPLY != 0 {
            return Ok(());
        }
        let (head, data) = match header.command {
            wire::VERSION => (HEADER, VERSION_DATA.len()),
            wire::REGION_READ => (ACCESS, u32_at(start, 28) as usize),
            wire::REGION_WRITE => (ACCESS, 0),
            _ => (HEADER, 0),
        };
        if self.answered + head + data > self.output.len() {
            self.flush()?;
        }
        let room = self
            .output
            .get_mut(self.answered..self.answered + head + data)
            .ok_or(io::ErrorKind::InvalidData)?;
        room[HEADER..head].copy_from_slice(&start[HEADER..head]);
        header.reply(head + data).write(room);
        if header.command == wire::VERSION {
            room[head..].copy_from_slice(VERSION_DATA);
        }
        self.answered += head + data;
        Ok(())
    }

    /// Reads the client's memory `times`, one after the other.
    fn dma(&mut self, address: u64, times: u32, length: usize) -> io::Result<()> {
        self.flush()?;
        // What was received so far has been consumed: the client waits for the answer to its write.
        self.filled = 0;
        for id in 0..times {
            let header =
                Header::command(u16::try_from(id % 0x1_0000).unwrap_or_default(), wire::DMA_READ, ACCESS);
            let command = wire::dma(header, address, length);
            self.output[..ACCESS].copy_from_slice(&command);
            self.answered = ACCESS;
            self.flush()?;
            while self.filled < ACCESS + length {
                if !self.receive()? {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
            self.filled = 0;
        }
        Ok(())
    }

    /// Sends the answers.
    fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.answered {
            let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
            match rustix::net::send(&self.stream, &self.output[sent..self.answered], flags) {
                Ok(length) => sent += length,
                Err(Errno::AGAIN) if self.waiting == Waiting::Epoll => {
                    rustix::event::poll(&mut [PollFd::new(&self.stream, PollFlags::OUT)], None)?;
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.answered = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::vfio::client::{Batch, Client, Kind};

    /// A floor on a thread of its own, with one client; it ends when that one goes.
    fn pair(waiting: Waiting) -> UnixStream {
        let (client, server) = UnixStream::pair().unwrap();
        std::thread::spawn(move || Connection::new(server, waiting).unwrap().run());
        client
    }

    #[test]
    fn messages_cut_anywhere_are_answered_once_each() {
        let batch =
            Batch::default().read(0, 0, 4).write(0, 0, &[1; 100]).posted_write(0, 8, &[2; 4]).read(0, 0, 9);
        for waiting in [Waiting::Epoll, Waiting::Busy] {
            let mut client = pair(waiting);
            for size in [1, 7, 31, 33, 1000] {
                for piece in batch.bytes().chunks(size) {
                    client.write_all(piece).unwrap();
                }
                let mut answers = vec![0; batch.answer_bytes()];
                client.read_exact(&mut answers).unwrap();
                let sizes = [36, 32, 41];
                let mut at = 0;
                for size in sizes {
                    let header = Header::read(&answers[at..]);
                    assert_eq!((header.length(), header.flags), (size, wire::REPLY));
                    at += size;
                }
                assert_eq!(at, answers.len());
            }
        }
    }

    #[test]
    fn the_client_gets_version_long_writes_and_dma() {
        let dir = tempfile::tempdir().unwrap();
        for (waiting, kind) in [(Waiting::Epoll, Kind::Blocking), (Waiting::Busy, Kind::Busy)] {
            let path = dir.path().join(kind.name());
            let at = path.clone();
            std::thread::spawn(move || serve(&at, waiting));
            let mut client = Client::open(&path, kind).unwrap();
            client.map(0x1000, 0x1000, None).unwrap();
            client.call_with_body(&Batch::default().write_head(0, 0, 1 << 20), &vec![0; 1 << 20]).unwrap();
            let mut command = [0; 16];
            command[8..12].copy_from_slice(&5_u32.to_ne_bytes());
            command[12..].copy_from_slice(&4096_u32.to_ne_bytes());
            let start = Batch::default().write(2, 0, &command);
            assert_eq!(client.call_serving_dma(&start, &mut vec![0; 32 + 4096]).unwrap(), 5);
            client.call(&Batch::default().read(0, 0, 64 * 1024)).unwrap();
        }
    }

    #[test]
    fn nonsense_ends_the_connection() {
        let mut client = pair(Waiting::Epoll);
        client.write_all(&[0; 16]).unwrap();
        assert_eq!(client.read(&mut [0; 16]).unwrap(), 0);
    }
}
