//! A device on an iothread, and a client that speaks in bytes and is the memory that messages reach.

use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use iothread::IoThread;
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use vfio_user_server::PciDevice;
use vfio_user_server::context::{Context, Exported, Listen};

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const RESET: u16 = 13;

pub(crate) const INTX: u32 = 0;
pub(crate) const MSI: u32 = 1;
pub(crate) const MSIX: u32 = 2;

/// A device that listens again after each client.
pub(crate) struct House {
    pub(crate) path: PathBuf,
    pub(crate) exported: Exported,
    _folder: TempDir,
}

impl House {
    pub(crate) fn new(device: impl PciDevice, iothread: &IoThread) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock");
        let context = Context::builder(Box::new(device)).reconnect(true).listen(Listen::Path(path.clone()));
        let exported = context.map_err(|(error, _)| error).unwrap().spawn(&iothread.handle()).unwrap();
        Self { path, exported, _folder: folder }
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut client =
            Client { stream, next_id: 1, memory: vec![0; 0x4000], refuse: None, asked: Vec::new() };
        assert_eq!(client.ask(1, &[0; 4]).unwrap()[..4], [0; 4]);
        client
    }
}

pub(crate) fn iothread() -> IoThread {
    IoThread::builder("IO test").start().unwrap()
}

/// A sealed memfd, as QEMU's memory-backend-memfd gives it.
pub(crate) fn memory(size: u64) -> OwnedFd {
    let fd = memfd_create("memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, size).unwrap();
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW).unwrap();
    fd
}

pub(crate) fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

/// Waits until an eventfd is signalled, and how often it was.
pub(crate) fn signalled(fd: &OwnedFd) -> u64 {
    let limit = Timespec::try_from(LIMIT).unwrap();
    assert_eq!(poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&limit)).unwrap(), 1, "no interrupt");
    let mut count = [0; 8];
    rustix::io::read(fd, &mut count).unwrap();
    u64::from_ne_bytes(count)
}

/// Whether it is signalled now.
pub(crate) fn silent(fd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&Timespec::default())).unwrap() == 0
}

/// Asks until it is so.
#[track_caller]
pub(crate) fn until(mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < LIMIT, "it does not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A client in bytes.
pub(crate) struct Client {
    stream: UnixStream,
    next_id: u16,
    /// What messages reach, from address 0 on.
    pub(crate) memory: Vec<u8>,
    /// The error that DMA by messages is answered with.
    pub(crate) refuse: Option<u32>,
    /// DMA by messages: command, address, bytes.
    pub(crate) asked: Vec<(u16, u64, u64)>,
}

struct Message {
    id: u16,
    command: u16,
    flags: u32,
    error: u32,
    body: Vec<u8>,
}

impl Client {
    /// Sends a command; its number.
    pub(crate) fn send(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        let bytes = message(id, command, 0, 0, body);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || control.push(SendAncillaryMessage::ScmRights(fds)));
        // The rest of what does not fit at once needs no descriptors.
        let sent = sendmsg(&self.stream, &[IoSlice::new(&bytes)], &mut control, SendFlags::empty()).unwrap();
        self.stream.write_all(&bytes[sent..]).unwrap();
        id
    }

    /// The same in two writes, the first of so many bytes.
    pub(crate) fn send_in_two(&mut self, command: u16, body: &[u8], first: usize) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        let bytes = message(id, command, 0, 0, body);
        self.stream.write_all(&bytes[..first]).unwrap();
        self.stream.write_all(&bytes[first..]).unwrap();
        id
    }

    /// The next reply: its number, and its body or its error. Serves DMA meanwhile.
    pub(crate) fn reply(&mut self) -> (u16, Result<Vec<u8>, u32>) {
        loop {
            let message = self.receive();
            if message.flags & 0xf == 0 {
                self.serve(&message);
                continue;
            }
            let failed = message.flags & 0x20 != 0;
            return (message.id, if failed { Err(message.error) } else { Ok(message.body) });
        }
    }

    fn receive(&mut self) -> Message {
        let mut header = [0; 16];
        self.stream.read_exact(&mut header).unwrap();
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_ne_bytes(header[at..at + 2].try_into().unwrap());
        let mut body = vec![0; word(4) as usize - 16];
        self.stream.read_exact(&mut body).unwrap();
        Message { id: half(0), command: half(2), flags: word(8), error: word(12), body }
    }

    /// DMA by a message.
    fn serve(&mut self, message: &Message) {
        let number = |at: usize| u64::from_ne_bytes(message.body[at..at + 8].try_into().unwrap());
        let (address, count) = (number(0), number(8));
        self.asked.push((message.command, address, count));
        let range = usize::try_from(address).unwrap()..usize::try_from(address + count).unwrap();
        let mut body = message.body[..16].to_vec();
        let (flags, error) = self.refuse.map_or((1, 0), |error| (0x21, error));
        match message.command {
            _ if error != 0 => body.clear(),
            DMA_READ => body.extend_from_slice(&self.memory[range]),
            DMA_WRITE => self.memory[range].copy_from_slice(&message.body[16..]),
            other => panic!("a command of the server's: {other}"),
        }
        self.stream.write_all(&self::message(message.id, message.command, flags, error, &body)).unwrap();
    }

    /// Sends a command and takes its reply.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: u16, body: &[u8]) -> Result<Vec<u8>, u32> {
        let id = self.send(command, body, &[]);
        let (replied, result) = self.reply();
        assert_eq!(replied, id);
        result
    }

    /// Maps memory from address 0 on.
    pub(crate) fn map(&mut self, size: u64, fd: Option<&OwnedFd>) {
        let mut body = [32_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
        [0, 0, size].iter().for_each(|number: &u64| body.extend(number.to_ne_bytes()));
        let fds: Vec<_> = fd.into_iter().map(AsFd::as_fd).collect();
        self.send(DMA_MAP, &body, &fds);
        assert_eq!(self.reply().1, Ok(Vec::new()));
    }

    /// Gives interrupts their eventfds.
    pub(crate) fn set_irqs(&mut self, index: u32, fds: &[OwnedFd]) {
        let count = u32::try_from(fds.len()).unwrap();
        let body: Vec<u8> = [20, 0x24, index, 0, count].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        self.send(SET_IRQS, &body, &fds);
        assert_eq!(self.reply().1, Ok(Vec::new()));
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, u32> {
        self.ask(REGION_READ, &access(region, offset, count)).map(|body| body[16..].to_vec())
    }

    #[track_caller]
    pub(crate) fn read32(&mut self, region: u32, offset: u64) -> u32 {
        u32::from_le_bytes(self.read(region, offset, 4).unwrap().try_into().unwrap())
    }

    #[track_caller]
    pub(crate) fn read64(&mut self, region: u32, offset: u64) -> u64 {
        u64::from_le_bytes(self.read(region, offset, 8).unwrap().try_into().unwrap())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), u32> {
        self.ask(REGION_WRITE, &write_body(region, offset, data)).map(|_| ())
    }
}

pub(crate) fn write_body(region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    [&access(region, offset, u32::try_from(data.len()).unwrap()), data].concat()
}

fn access(region: u32, offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &region.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

fn message(id: u16, command: u16, flags: u32, error: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(16 + body.len()).unwrap();
    let numbers = [size, flags, error];
    let mut bytes = [id.to_ne_bytes(), command.to_ne_bytes()].concat();
    numbers.iter().for_each(|number| bytes.extend(number.to_ne_bytes()));
    bytes.extend_from_slice(body);
    bytes
}
