//! A device that shows what happens to it, and a client that speaks in bytes.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use iothread::IoThread;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tempfile::TempDir;
use vfio_user_server::context::{Builder, Context, Event, Exported, Limits, Listen};
use vfio_user_server::pci::{Bar, Doorbell, Msix, PciSpec};
use vfio_user_server::protocol::AccessToken;
use vfio_user_server::{DeviceContext, DmaDone, Errno, PciDevice};

/// Registers of BAR 0, 4 bytes each.
pub(crate) const VALUE: u64 = 0;
/// A write is answered when `later` is called.
pub(crate) const DEFERRED: u64 = 8;
/// A write starts DMA of 16 bytes from there; it is answered when that has ended.
pub(crate) const DMA: u64 = 16;
/// A write starts DMA of 1 MiB to there; it is answered when that has ended.
pub(crate) const DMA_OUT: u64 = 64;
/// A write fires that MSI-X vector.
pub(crate) const FIRE: u64 = 24;
/// A write sets the pin's level.
pub(crate) const LEVEL: u64 = 32;
/// A write sets a timer of 1 ms.
pub(crate) const TIMER: u64 = 40;
/// A write panics.
pub(crate) const PANIC: u64 = 48;
/// A doorbell.
pub(crate) const BELL: u64 = 56;

/// A write counts.
pub(crate) const COUNT: u64 = 72;

/// What the device tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Told {
    Attached,
    Hangup,
    Reset,
    Deferred,
    Dma(bool),
    Timer,
    Work,
    Bell(u64),
}

pub(crate) struct Device {
    pub(crate) value: u64,
    pub(crate) token: Option<AccessToken>,
    tell: Sender<Told>,
}

impl Device {
    fn say(&self, told: Told) {
        let _ = self.tell.send(told);
    }
}

impl PciDevice for Device {
    fn spec(&self) -> PciSpec {
        PciSpec::builder(0x1234, 0x5678)
            .class(0xff_00_00)
            .interrupt_pin()
            .bar(
                0,
                Bar::registers(4096).doorbell(Doorbell { offset: BELL, size: 4, datamatch: None, tag: 7 }),
            )
            .bar(1, Bar::memory(4096))
            .bar(2, Bar::shared(8192))
            .msix(Msix { vectors: 4, table: (1, 0), pba: (1, 0x800) })
            .build()
            .unwrap()
    }

    fn read(&mut self, _: &mut DeviceContext<'_>, _: u8, offset: u64, data: &mut [u8]) -> Result<(), Errno> {
        if offset != VALUE {
            return Err(Errno::NXIO);
        }
        let length = data.len().min(8);
        data[..length].copy_from_slice(&self.value.to_le_bytes()[..length]);
        Ok(())
    }

    fn write(&mut self, cx: &mut DeviceContext<'_>, _: u8, offset: u64, data: &[u8]) -> Result<(), Errno> {
        let mut value = [0; 8];
        value[..data.len().min(8)].copy_from_slice(&data[..data.len().min(8)]);
        let value = u64::from_le_bytes(value);
        match offset {
            VALUE => self.value = value,
            COUNT => self.value += 1,
            DEFERRED => {
                self.token = Some(cx.defer());
                self.say(Told::Deferred);
            }
            DMA => {
                self.token = Some(cx.defer());
                cx.start_dma_read(value, vec![0; 16], 1);
            }
            DMA_OUT => {
                self.token = Some(cx.defer());
                cx.start_dma_write(value, vec![0x5a; 1 << 20], 2);
            }
            FIRE => cx.raise_msix(u16::try_from(value).unwrap()),
            LEVEL => cx.set_intx(value != 0),
            TIMER => cx.set_timer(3, cx.now() + Duration::from_millis(1)),
            PANIC => panic!("a device's mistake"),
            _ => return Err(Errno::NXIO),
        }
        Ok(())
    }

    fn reset(&mut self, _: &mut DeviceContext<'_>) {
        self.value = 0;
        self.say(Told::Reset);
    }

    fn attached(&mut self, _: &mut DeviceContext<'_>) {
        self.say(Told::Attached);
    }

    fn hangup(&mut self, _: &mut DeviceContext<'_>) {
        self.say(Told::Hangup);
    }

    fn timer(&mut self, cx: &mut DeviceContext<'_>, _: u64) {
        self.say(Told::Timer);
        cx.work_later(4);
    }

    fn work(&mut self, _: &mut DeviceContext<'_>, _: u64) {
        self.say(Told::Work);
    }

    fn dma_done(&mut self, cx: &mut DeviceContext<'_>, done: DmaDone) {
        self.say(Told::Dma(done.result.is_ok()));
        let Some(token) = self.token.take() else { return };
        match done.result {
            Ok(()) => {
                self.value = u64::from_le_bytes(done.buffer[..8].try_into().unwrap());
                cx.complete_write(token);
            }
            Err(_) => cx.fail(token, Errno::FAULT),
        }
    }

    fn doorbell(&mut self, _: &mut DeviceContext<'_>, tag: u64, count: u64) {
        assert_eq!(tag, 7);
        self.say(Told::Bell(count));
    }
}

/// A device on an iothread, with its socket in a folder of its own.
pub(crate) struct House {
    pub(crate) iothread: IoThread,
    pub(crate) exported: Option<Exported>,
    pub(crate) path: PathBuf,
    pub(crate) told: Receiver<Told>,
    pub(crate) events: Receiver<Event>,
    folder: TempDir,
}

pub(crate) fn device() -> (Box<Device>, Receiver<Told>) {
    let (tell, told) = channel();
    (Box::new(Device { value: 0, token: None, tell }), told)
}

/// Short deadlines, for clients that pass them.
pub(crate) fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.negotiation = Duration::from_millis(50);
    limits.stall = Duration::from_millis(50);
    limits.reply = Duration::from_millis(50);
    limits
}

impl House {
    pub(crate) fn new(set_up: impl FnOnce(Builder) -> Builder) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.sock");
        let (device, told) = device();
        let (tell, events) = channel();
        let builder = Context::builder(device).on_event(move |event| _ = tell.send(event));
        let context = set_up(builder).listen(Listen::Path(path.clone())).map_err(|(error, _)| error).unwrap();
        let iothread = IoThread::builder("IO test").start().unwrap();
        let exported = Some(context.spawn(&iothread.handle()).unwrap());
        Self { iothread, exported, path, told, events, folder }
    }

    pub(crate) fn exported(&self) -> &Exported {
        self.exported.as_ref().unwrap()
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn next_told(&self) -> Told {
        self.told.recv_timeout(Duration::from_secs(10)).unwrap()
    }

    pub(crate) fn next_event(&self) -> Event {
        self.events.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// A client in bytes.
pub(crate) struct Client {
    pub(crate) stream: UnixStream,
    next_id: u16,
}

/// A message as it was received.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) body: Vec<u8>,
}

pub(crate) fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(id.to_ne_bytes());
    bytes.extend(command.to_ne_bytes());
    bytes.extend(u32::try_from(16 + body.len()).unwrap().to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(0_u32.to_ne_bytes());
    bytes.extend(body);
    bytes
}

pub(crate) fn region(index: u32, offset: u64, count: u32) -> Vec<u8> {
    [&offset.to_ne_bytes()[..], &index.to_ne_bytes(), &count.to_ne_bytes()].concat()
}

pub(crate) fn write_body(index: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    [region(index, offset, u32::try_from(data.len()).unwrap()), data.to_vec()].concat()
}

impl Client {
    /// Sends many commands at once.
    pub(crate) fn flood(&mut self, command: u16, flags: u32, body: &[u8], times: usize) {
        self.stream.write_all(&message(7, command, flags, body).repeat(times)).unwrap();
    }

    /// Connects and says nothing.
    pub(crate) fn silent(path: &Path) -> Self {
        Self::over(UnixStream::connect(path).unwrap())
    }

    /// Over a socket that is connected.
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, next_id: 1 }
    }

    /// Connects and negotiates.
    pub(crate) fn connect(path: &Path) -> Self {
        let mut client = Self::silent(path);
        client.negotiate();
        client
    }

    /// Negotiates, and takes the socket for the server's commands.
    pub(crate) fn negotiate_twin(&mut self) -> UnixStream {
        use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
        let json = b"\0\0\0\0{\"capabilities\":{\"max_msg_fds\":1,\"twin_socket\":{\"supported\":true}}}\0";
        self.send(1, 0, json);
        let mut bytes = [0; 512];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let slices = &mut [std::io::IoSliceMut::new(&mut bytes)];
        recvmsg(&self.stream, slices, &mut control, RecvFlags::empty()).unwrap();
        let fds = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        let twin = UnixStream::from(fds.unwrap());
        twin.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        twin
    }

    pub(crate) fn negotiate(&mut self) {
        let reply = self.ask(1, &[0, 0, 0, 0]);
        assert_eq!((reply.error, &reply.body[..4]), (0, &[0, 0, 0, 0][..]));
    }

    pub(crate) fn send(&mut self, command: u16, flags: u32, body: &[u8]) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        self.stream.write_all(&message(id, command, flags, body)).unwrap();
        id
    }

    pub(crate) fn send_with_fds(&mut self, command: u16, body: &[u8], fds: &[BorrowedFd<'_>]) -> u16 {
        let id = self.next_id;
        self.next_id += 1;
        let bytes = message(id, command, 0, body);
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        let slices = [std::io::IoSlice::new(&bytes)];
        assert_eq!(sendmsg(&self.stream, &slices, &mut control, SendFlags::empty()).unwrap(), bytes.len());
        id
    }

    pub(crate) fn receive(&mut self) -> Message {
        let mut header = [0; 16];
        self.stream.read_exact(&mut header).unwrap();
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let half = |at: usize| u16::from_ne_bytes(header[at..at + 2].try_into().unwrap());
        let mut body = vec![0; word(4) as usize - 16];
        self.stream.read_exact(&mut body).unwrap();
        Message { id: half(0), command: half(2), flags: word(8), error: word(12), body }
    }

    /// Sends a command and takes its reply.
    pub(crate) fn ask(&mut self, command: u16, body: &[u8]) -> Message {
        let id = self.send(command, 0, body);
        let reply = self.receive();
        assert_eq!((reply.id, reply.command), (id, command));
        reply
    }

    pub(crate) fn write(&mut self, bar: u32, offset: u64, value: u64) -> Message {
        self.ask(10, &write_body(bar, offset, &value.to_le_bytes()))
    }

    pub(crate) fn read(&mut self, bar: u32, offset: u64) -> u64 {
        let reply = self.ask(9, &region(bar, offset, 8));
        assert_eq!(reply.error, 0);
        u64::from_le_bytes(reply.body[16..24].try_into().unwrap())
    }

    pub(crate) fn map(&mut self, iova: u64, size: u64, fd: Option<BorrowedFd<'_>>) -> Message {
        let numbers = [0_u64, iova, size];
        let mut body = [32_u32.to_ne_bytes(), 3_u32.to_ne_bytes()].concat();
        numbers.iter().for_each(|number| body.extend(number.to_ne_bytes()));
        match fd {
            None => self.ask(2, &body),
            Some(fd) => {
                self.send_with_fds(2, &body, &[fd]);
                self.receive()
            }
        }
    }

    pub(crate) fn set_irqs(
        &mut self,
        flags: u32,
        index: u32,
        start: u32,
        count: u32,
        fds: &[BorrowedFd<'_>],
    ) -> Message {
        let body: Vec<u8> =
            [20, flags, index, start, count].iter().flat_map(|n: &u32| n.to_ne_bytes()).collect();
        match fds {
            [] => self.ask(8, &body),
            fds => {
                self.send_with_fds(8, &body, fds);
                self.receive()
            }
        }
    }

    /// Waits until the server has closed the connection.
    pub(crate) fn wait_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }
}

pub(crate) fn eventfd() -> OwnedFd {
    rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap()
}

/// Waits until an eventfd is signalled, and how often it was.
pub(crate) fn signalled(fd: impl AsFd) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(10);
    let wait = rustix::event::PollFd::new(&fd, rustix::event::PollFlags::IN);
    let left = rustix::event::Timespec::try_from(deadline - Instant::now()).unwrap();
    assert_eq!(rustix::event::poll(&mut [wait], Some(&left)).unwrap(), 1);
    let mut count = [0; 8];
    rustix::io::read(&fd, &mut count).unwrap();
    u64::from_ne_bytes(count)
}

/// Whether an eventfd was not signalled. What a command does is done when its reply has come.
pub(crate) fn is_silent(fd: impl AsFd) -> bool {
    rustix::io::read(&fd, &mut [0; 8]) == Err(Errno::AGAIN)
}

/// A socket whose close waits until its peer reads, a minute at most; and that peer.
pub(crate) fn lingering() -> (OwnedFd, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(60))).unwrap();
    socket.set_nonblocking(true).unwrap();
    while socket.write(&[7; 65536]).is_ok() {}
    socket.set_nonblocking(false).unwrap();
    (socket.into(), peer)
}
