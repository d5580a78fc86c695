//! A vfio-user client that measures: plain `send` and `recv`, nothing between the bench and the kernel.
//!
//! Every answer is looked at: its id, its command, its size, and that it is no error. A measurement that meets anything
//! else fails.

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

use super::wire::{self, ACCESS, DMA_MAP_SIZE, HEADER, Header, NO_REPLY, REPLY};
use crate::harness::{Doing, Error, PATIENCE, Result};

/// Bytes received at a time, at most: more than all answers to a batch.
const BUFFER: usize = 256 * 1024;
/// What the client says of itself. Version 0.0, as QEMU's.
const CAPABILITIES: &[u8] =
    b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":16,\"max_data_xfer_size\":1048576}}\0";
/// How often a busy client tries before it looks at the time.
const TRIES: u32 = 1 << 14;

/// How a client waits for answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It sleeps in `recv`, as a VMM's vCPU thread does.
    Blocking,
    /// It tries to receive until there is something: what is measured then is the server and the socket alone.
    Busy,
}

impl Kind {
    /// What the table calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Blocking => "blocking",
            Self::Busy => "busy",
        }
    }
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    kind: Kind,
    buffer: Box<[u8]>,
    /// `buffer[..filled]` was received and not consumed.
    filled: usize,
}

impl Client {
    /// Connects, waiting for the server to listen, and negotiates.
    ///
    /// # Errors
    ///
    /// When the socket refuses, or the server answers something else than a version.
    pub fn open(path: &Path, kind: Kind) -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Err(error) if is_not_yet(&error) && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                result => break result.doing("connecting to a server")?,
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).doing("setting a timeout")?;
        stream.set_write_timeout(Some(PATIENCE)).doing("setting a timeout")?;
        let mut client = Self { stream, kind, buffer: vec![0; BUFFER].into_boxed_slice(), filled: 0 };
        client.negotiate()?;
        Ok(client)
    }

    fn negotiate(&mut self) -> Result<()> {
        let header = Header::command(0, wire::VERSION, HEADER + CAPABILITIES.len());
        let mut message = vec![0; HEADER];
        header.write(&mut message);
        message.extend_from_slice(CAPABILITIES);
        self.send(&message)?;
        self.receive(HEADER)?;
        let length = Header::read(&self.buffer).length();
        if length > BUFFER {
            return Err(Error::Answer(format!("a version of {length} bytes")));
        }
        self.receive(length)?;
        self.check(0, header, length)?;
        self.consume(length);
        Ok(())
    }

    /// Maps memory for DMA, with or without a file.
    ///
    /// # Errors
    ///
    /// When the server refuses.
    pub fn map(&mut self, iova: u64, size: u64, file: Option<BorrowedFd<'_>>) -> Result<()> {
        const READ_WRITE: u32 = 3;
        let header = Header::command(1, wire::DMA_MAP, DMA_MAP_SIZE);
        let mut message = [0; DMA_MAP_SIZE];
        header.write(&mut message);
        message[16..20].copy_from_slice(&32_u32.to_ne_bytes());
        message[20..24].copy_from_slice(&READ_WRITE.to_ne_bytes());
        message[32..40].copy_from_slice(&iova.to_ne_bytes());
        message[40..48].copy_from_slice(&size.to_ne_bytes());
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds: Vec<_> = file.into_iter().collect();
        if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&fds)) {
            return Err(Error::Answer("no room for one fd in a message".into()));
        }
        let iov = [IoSlice::new(&message)];
        let sent = rustix::net::sendmsg(&self.stream, &iov, &mut control, SendFlags::NOSIGNAL)
            .doing("sending a map")?;
        self.send(&message[sent..])?;
        self.receive(HEADER)?;
        self.check(0, header, HEADER)?;
        self.consume(HEADER);
        Ok(())
    }

    /// Sends `batch` and awaits its answers.
    ///
    /// # Errors
    ///
    /// When an answer is an error or none to what was sent.
    pub fn call(&mut self, batch: &Batch) -> Result<()> {
        self.send(&batch.bytes)?;
        self.answers(batch)
    }

    /// As [`call`](Self::call), for a message whose body is beside it: one `sendmsg`, and more where that was short.
    ///
    /// # Errors
    ///
    /// As [`call`](Self::call).
    pub fn call_with_body(&mut self, batch: &Batch, body: &[u8]) -> Result<()> {
        let (mut head, mut body) = (&batch.bytes[..], body);
        while !head.is_empty() || !body.is_empty() {
            let iov = [IoSlice::new(head), IoSlice::new(body)];
            let flags = self.send_flags();
            match rustix::net::sendmsg(&self.stream, &iov, &mut SendAncillaryBuffer::default(), flags) {
                Ok(sent) => {
                    let of_head = sent.min(head.len());
                    (head, body) = (&head[of_head..], &body[sent - of_head..]);
                }
                Err(Errno::AGAIN) if self.kind == Kind::Busy => {}
                Err(error) => return Err(error).doing("sending to a server"),
            }
        }
        self.answers(batch)
    }

    /// Sends without awaiting anything: for writes that want no answer.
    ///
    /// # Errors
    ///
    /// When the socket fails.
    pub fn post(&mut self, batch: &Batch) -> Result<()> {
        self.send(&batch.bytes)
    }

    /// Sends `batch`, a write that starts DMA, and answers each `DMA_READ` with bytes until the write's answer is in.
    /// Gives how many there were.
    ///
    /// # Errors
    ///
    /// When the server asks for something else, or fails the write.
    pub fn call_serving_dma(&mut self, batch: &Batch, answer: &mut [u8]) -> Result<usize> {
        self.send(&batch.bytes)?;
        let mut served = 0;
        loop {
            self.receive(HEADER)?;
            let header = Header::read(&self.buffer);
            if header.flags & REPLY != 0 {
                self.answers(batch)?;
                return Ok(served);
            }
            if (header.command, header.length()) != (wire::DMA_READ, ACCESS) {
                return Err(Error::Answer(format!("{header:?} in place of DMA_READ")));
            }
            self.receive(ACCESS)?;
            let length = usize::try_from(wire::u64_at(&self.buffer, 24)).unwrap_or(usize::MAX);
            let Some(answer) = answer.get_mut(..ACCESS.saturating_add(length)) else {
                return Err(Error::Answer(format!("DMA_READ of {length} bytes")));
            };
            let address = wire::u64_at(&self.buffer, 16);
            let head = wire::dma(header.reply(answer.len()), address, length);
            answer[..ACCESS].copy_from_slice(&head);
            self.consume(ACCESS);
            self.send(answer)?;
            served += 1;
        }
    }

    /// The socket, for a flood.
    #[must_use]
    pub fn into_stream(self) -> UnixStream {
        self.stream
    }

    fn answers(&mut self, batch: &Batch) -> Result<()> {
        let mut at = 0;
        for (command, length) in &batch.answers {
            self.receive(at + length)?;
            self.check(at, *command, *length)?;
            at += length;
        }
        self.consume(at);
        Ok(())
    }

    /// That `buffer[at..]` is a successful answer of `length` bytes to `command`.
    fn check(&self, at: usize, command: Header, length: usize) -> Result<()> {
        let header = Header::read(&self.buffer[at..]);
        if header == command.reply(length) {
            Ok(())
        } else {
            Err(Error::Answer(format!("{header:?} in answer to {command:?}")))
        }
    }

    /// Receives until `length` bytes are there, and whatever else comes with them.
    fn receive(&mut self, length: usize) -> Result<()> {
        let mut tries = 0_u32;
        let mut deadline = None;
        while self.filled < length {
            let flags = match self.kind {
                Kind::Blocking => RecvFlags::empty(),
                Kind::Busy => RecvFlags::DONTWAIT,
            };
            match rustix::net::recv(&self.stream, &mut self.buffer[self.filled..], flags) {
                Ok((0, _)) => return Err(Error::Closed),
                Ok((received, _)) => self.filled += received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.kind == Kind::Busy => {
                    tries += 1;
                    if tries.is_multiple_of(TRIES) {
                        let deadline = *deadline.get_or_insert_with(|| Instant::now() + PATIENCE);
                        if Instant::now() > deadline {
                            return Err(Error::Silent);
                        }
                    }
                }
                Err(error) => return Err(error).doing("receiving from a server"),
            }
        }
        Ok(())
    }

    fn consume(&mut self, length: usize) {
        self.buffer.copy_within(length..self.filled, 0);
        self.filled -= length;
    }

    fn send(&self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            match rustix::net::send(&self.stream, bytes, self.send_flags()) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if self.kind == Kind::Busy => {}
                Err(error) => return Err(error).doing("sending to a server"),
            }
        }
        Ok(())
    }

    fn send_flags(&self) -> SendFlags {
        match self.kind {
            Kind::Blocking => SendFlags::NOSIGNAL,
            Kind::Busy => SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// Messages that are sent together, and the answers that they are to get.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    answers: Vec<(Header, usize)>,
}

impl Batch {
    /// Adds a read of `count` bytes.
    #[must_use]
    pub fn read(mut self, region: u32, offset: u64, count: usize) -> Self {
        let header = Header::command(self.id(), wire::REGION_READ, ACCESS);
        self.bytes.extend_from_slice(&wire::access(header, region, offset, count));
        self.answers.push((header, ACCESS + count));
        self
    }

    /// Adds a write.
    #[must_use]
    pub fn write(self, region: u32, offset: u64, data: &[u8]) -> Self {
        let mut batch = self.write_head(region, offset, data.len());
        batch.bytes.extend_from_slice(data);
        batch
    }

    /// Adds a write without its data, which the caller sends.
    #[must_use]
    pub fn write_head(mut self, region: u32, offset: u64, count: usize) -> Self {
        let header = Header::command(self.id(), wire::REGION_WRITE, ACCESS + count);
        self.bytes.extend_from_slice(&wire::access(header, region, offset, count));
        self.answers.push((header, ACCESS));
        self
    }

    /// Adds a write that wants no answer.
    #[must_use]
    pub fn posted_write(mut self, region: u32, offset: u64, data: &[u8]) -> Self {
        let header = Header::command(self.id(), wire::REGION_WRITE, ACCESS + data.len());
        let header = Header { flags: NO_REPLY, ..header };
        self.bytes.extend_from_slice(&wire::access(header, region, offset, data.len()));
        self.bytes.extend_from_slice(data);
        self
    }

    /// The bytes to send.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes of all answers together.
    #[must_use]
    pub fn answer_bytes(&self) -> usize {
        self.answers.iter().map(|(_, length)| length).sum()
    }

    /// Messages of one batch have different ids, as far as they are answered.
    fn id(&self) -> u16 {
        u16::try_from(self.answers.len() + 0x100).unwrap_or_default()
    }
}

/// The server has not come as far as listening.
fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused)
}
