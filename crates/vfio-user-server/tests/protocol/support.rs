//! A client's side of the protocol, and a device, for the tests of the protocol.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use fd_closer::Received;
use vfio_user_server::Errno;
use vfio_user_server::protocol::*;

pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const REGION_INFO: u16 = 5;
pub(crate) const IO_FDS: u16 = 6;
pub(crate) const IRQ_INFO: u16 = 7;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const DMA_WRITE: u16 = 12;
pub(crate) const RESET: u16 = 13;

pub(crate) const REPLY: u32 = 1;
pub(crate) const NO_REPLY: u32 = 0x10;
pub(crate) const ERROR: u32 = 0x20;

/// What QEMU says of itself.
pub(crate) const QEMU: &str = r#"{"max_msg_fds":16,"max_data_xfer_size":1048576,"pgsizes":4096,"max_dma_maps":65535,"write_multiple":true,"migration":{"pgsize":4096,"max_bitmap_size":268435456}}"#;

/// Integers and bytes, one after another.
macro_rules! bytes {
    ($($value:expr),* $(,)?) => {{
        #[allow(unused_mut)]
        let mut bytes: Vec<u8> = Vec::new();
        $( bytes.extend_from_slice(&$value.to_ne_bytes()); )*
        bytes
    }};
}

/// A whole message.
pub(crate) fn message(id: u16, command: u16, flags: u32, payload: &[u8]) -> Vec<u8> {
    let size = u32::try_from(16 + payload.len()).unwrap();
    let mut message = bytes![id, command, size, flags, 0_u32];
    message.extend_from_slice(payload);
    message
}

/// `VERSION` with this JSON; without any if it is empty.
pub(crate) fn version(json: &str) -> Vec<u8> {
    let mut payload = bytes![0_u16, 1_u16];
    if !json.is_empty() {
        payload.extend_from_slice(json.as_bytes());
        payload.push(0);
    }
    message(1, VERSION, 0, &payload)
}

pub(crate) fn read(id: u16, region: u32, offset: u64, count: u32) -> Vec<u8> {
    message(id, REGION_READ, 0, &bytes![offset, region, count])
}

pub(crate) fn write(id: u16, flags: u32, region: u32, offset: u64, data: &[u8]) -> Vec<u8> {
    let mut payload = bytes![offset, region, u32::try_from(data.len()).unwrap()];
    payload.extend_from_slice(data);
    message(id, REGION_WRITE, flags, &payload)
}

pub(crate) fn map(id: u16, flags: u32, offset: u64, iova: u64, size: u64) -> Vec<u8> {
    message(id, DMA_MAP, 0, &bytes![32_u32, flags, offset, iova, size])
}

pub(crate) fn set_irqs(id: u16, flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let mut payload = bytes![20_u32, flags, index, start, count];
    payload.extend_from_slice(data);
    message(id, SET_IRQS, 0, &payload)
}

/// A descriptor that can be told from others by its [`name`].
pub(crate) fn file() -> Received {
    use rustix::fs::{MemfdFlags, memfd_create};
    Received::from(memfd_create("test", MemfdFlags::CLOEXEC).unwrap())
}

/// Which file a descriptor is of.
pub(crate) fn name(fd: &impl std::os::fd::AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

/// A message that has come from the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: u32,
    pub(crate) payload: Vec<u8>,
    /// How many descriptors came with it.
    pub(crate) fds: usize,
}

impl Message {
    pub(crate) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    pub(crate) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.payload[at..at + 8].try_into().unwrap())
    }

    /// The errno of an error reply, which has no payload.
    pub(crate) fn errno(&self) -> Errno {
        assert_eq!(self.flags, REPLY | ERROR, "{self:?}");
        assert!(self.payload.is_empty() && self.fds == 0, "an error reply is a header and nothing else");
        assert_ne!(self.error, 0, "an error without an errno");
        Errno::from_raw_os_error(self.error.cast_signed())
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.flags == REPLY && self.error == 0
    }
}

/// What the device was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Call {
    Map(DmaMap, Option<u64>),
    Unmap(DmaUnmap),
    Irqs {
        index: IrqIndex,
        start: u32,
        count: u32,
        action: IrqAction,
        bools: Option<Vec<u8>>,
        fds: Option<Vec<u64>>,
    },
    Read(u32, u64, usize),
    Write(u32, u64, Vec<u8>),
    Reset,
    Reply(u16, Result<Vec<u8>, Errno>),
}

/// A device that remembers what it was told. Region 0 has 2 MiB, region 1 can only be read, region 2 only be written,
/// region 3 and up can be mapped in different ways, region 7 has 256 bytes, 6 and 8 are absent.
pub(crate) struct Device {
    pub(crate) calls: Vec<Call>,
    /// How the next accesses end; done if there are none.
    pub(crate) outcomes: VecDeque<Outcome>,
    pub(crate) tokens: Vec<AccessToken>,
    /// What commands other than accesses end with.
    pub(crate) error: Option<Errno>,
    pub(crate) file: OwnedFd,
    pub(crate) event: OwnedFd,
    pub(crate) areas: Vec<Area>,
    pub(crate) twin: Option<OwnedFd>,
    /// Whether calls are remembered.
    pub(crate) quiet: bool,
}

impl Default for Device {
    fn default() -> Self {
        use rustix::event::{EventfdFlags, eventfd};
        Self {
            calls: Vec::new(),
            outcomes: VecDeque::new(),
            tokens: Vec::new(),
            error: None,
            file: file().into_fd(),
            event: eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
            areas: vec![Area { offset: 0, size: 4096 }, Area { offset: 8192, size: 4096 }],
            twin: None,
            quiet: false,
        }
    }
}

/// What a read of the device returns.
pub(crate) fn pattern(region: u32, offset: u64) -> u8 {
    offset.to_le_bytes()[0].wrapping_mul(31).wrapping_add(region.to_le_bytes()[0])
}

impl Device {
    fn outcome(&mut self, access: Access) -> Outcome {
        let outcome = self.outcomes.pop_front().unwrap_or(Outcome::Done);
        if outcome == Outcome::Deferred {
            self.tokens.push(access.token);
        }
        outcome
    }

    fn done(&mut self, call: Call) -> Result<(), Errno> {
        if !self.quiet {
            self.calls.push(call);
        }
        self.error.map_or(Ok(()), Err)
    }
}

impl Target for Device {
    fn device_info(&self) -> DeviceInfo {
        DeviceInfo { reset: true, regions: PCI_REGIONS, irqs: PCI_IRQS }
    }

    fn region(&self, index: u32) -> RegionDescription<'_> {
        use std::os::fd::AsFd;
        let both = RegionDescription { readable: true, writable: true, ..RegionDescription::default() };
        let fd = self.file.as_fd();
        match index {
            0 => RegionDescription { size: 2 << 20, ..both },
            1 => RegionDescription { size: 4096, writable: false, ..both },
            2 => RegionDescription { size: 4096, readable: false, ..both },
            3 => RegionDescription {
                size: 16384,
                mmap: Some(Mmap { fd, offset: 65536, areas: &self.areas }),
                ..both
            },
            4 => RegionDescription { size: 16384, mmap: Some(Mmap { fd, offset: 0, areas: &[] }), ..both },
            5 => RegionDescription {
                size: 16384,
                mmap: Some(Mmap { fd, offset: 4096, areas: &self.areas }),
                msix_mappable: true,
                ..both
            },
            7 => RegionDescription { size: 256, ..both },
            _ => RegionDescription::default(),
        }
    }

    fn io_fds(&self, index: u32) -> Vec<IoFd<'_>> {
        use std::os::fd::AsFd;
        let entry = IoFd { offset: 0, size: 4, fd: self.event.as_fd(), flags: 0, datamatch: 0 };
        match index {
            0 => vec![
                entry,
                IoFd { offset: 8, size: 8, flags: 1, datamatch: 77, ..entry },
                IoFd { offset: 16, fd: self.file.as_fd(), ..entry },
            ],
            _ => Vec::new(),
        }
    }

    fn irq_info(&self, index: u32) -> IrqInfo {
        match index {
            0 | 3 => IrqInfo { flags: 1, count: 1 },
            2 => IrqInfo { flags: 9, count: 64 },
            _ => IrqInfo::default(),
        }
    }

    fn set_irqs(&mut self, command: SetIrqs<'_>) -> Result<(), Errno> {
        let SetIrqs { index, start, count, action, data } = command;
        let (bools, fds) = match data {
            IrqData::None => (None, None),
            IrqData::Bool(bools) => (Some(bools.to_vec()), None),
            IrqData::Eventfds(fds) => (None, Some(fds.iter().map(name).collect())),
        };
        self.done(Call::Irqs { index, start, count, action, bools, fds })
    }

    fn dma_map(&mut self, map: DmaMap, fd: Option<Received>) -> Result<(), Errno> {
        self.done(Call::Map(map, fd.as_ref().map(name)))
    }

    fn dma_unmap(&mut self, unmap: DmaUnmap) -> Result<(), Errno> {
        self.done(Call::Unmap(unmap))
    }

    fn region_read(&mut self, access: Access, data: &mut [u8]) -> Outcome {
        assert!(data.iter().all(|byte| *byte == 0), "the buffer is not zeroed");
        for (at, byte) in (access.offset..).zip(data.iter_mut()) {
            *byte = pattern(access.region, at);
        }
        if !self.quiet {
            self.calls.push(Call::Read(access.region, access.offset, data.len()));
        }
        self.outcome(access)
    }

    fn region_write(&mut self, access: Access, data: &[u8]) -> Outcome {
        if !self.quiet {
            self.calls.push(Call::Write(access.region, access.offset, data.to_vec()));
        }
        self.outcome(access)
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.done(Call::Reset)
    }

    fn dma_reply(&mut self, id: u16, result: Result<&[u8], Errno>) {
        self.calls.push(Call::Reply(id, result.map(<[u8]>::to_vec)));
    }

    fn twin_socket(&mut self) -> Option<OwnedFd> {
        self.twin.take()
    }
}

/// The messages in these bytes, without descriptors.
pub(crate) fn parse(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while !bytes.is_empty() {
        let u16_at = |at: usize| u16::from_ne_bytes(bytes[at..at + 2].try_into().unwrap());
        let u32_at = |at: usize| u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap());
        let size = u32_at(4) as usize;
        messages.push(Message {
            id: u16_at(0),
            command: u16_at(2),
            flags: u32_at(8),
            error: u32_at(12),
            payload: bytes[16..size].to_vec(),
            fds: 0,
        });
        bytes = &bytes[size..];
    }
    messages
}

fn pop_at(marks: &mut VecDeque<(usize, usize)>, at: usize) -> Option<usize> {
    if marks.front()?.0 == at { marks.pop_front().map(|mark| mark.1) } else { None }
}

/// Output not yet parsed, and the descriptors by where their message starts.
type Taken = (Vec<u8>, VecDeque<(usize, usize)>);

/// A client, a session and a device.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) session: Session,
    pub(crate) device: Device,
    output: [Taken; 2],
}

fn index(channel: Channel) -> usize {
    match channel {
        Channel::Main => 0,
        Channel::Twin => 1,
    }
}

impl Link {
    /// A client that has negotiated, with these capabilities.
    pub(crate) fn with(capabilities: &str) -> Self {
        Self::limited(capabilities, SessionLimits::default())
    }

    /// The same, with limits.
    pub(crate) fn limited(capabilities: &str, limits: SessionLimits) -> Self {
        let mut link = Self { session: Session::new(limits), ..Self::default() };
        link.send(&version(&format!(r#"{{"capabilities":{capabilities}}}"#)));
        assert!(link.one().is_ok());
        link
    }

    /// A client that has negotiated as QEMU does.
    pub(crate) fn new() -> Self {
        Self::with(QEMU)
    }

    /// Sends bytes as one write with these descriptors, in as many reads as the session has room for.
    pub(crate) fn put(&mut self, channel: Channel, mut bytes: &[u8], fds: Vec<Received>) {
        let mut fds = Some(fds);
        while !bytes.is_empty() {
            let spare = self.session.spare(channel);
            assert!(!spare.is_empty(), "no room for {} bytes", bytes.len());
            let count = spare.len().min(bytes.len());
            spare[..count].copy_from_slice(&bytes[..count]);
            self.session.received(channel, count, fds.take().unwrap_or_default());
            bytes = &bytes[count..];
            if !bytes.is_empty() {
                self.work().unwrap();
            }
        }
    }

    /// Executes what is there.
    pub(crate) fn work(&mut self) -> Result<Step, Violation> {
        loop {
            match self.session.step(&mut self.device)? {
                Step::Executed { .. } => {}
                other => return Ok(other),
            }
        }
    }

    /// Sends and executes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.send_fds(bytes, Vec::new());
    }

    /// Sends with descriptors and executes.
    pub(crate) fn send_fds(&mut self, bytes: &[u8], fds: Vec<Received>) {
        self.put(Channel::Main, bytes, fds);
        self.work().unwrap();
    }

    /// Sends, and returns what ends the connection.
    pub(crate) fn send_bad(&mut self, bytes: &[u8]) -> Violation {
        self.put(Channel::Main, bytes, Vec::new());
        let violation = self.work().unwrap_err();
        assert_eq!(self.work(), Err(violation.clone()), "a violation is final");
        assert!(self.session.spare(Channel::Main).is_empty());
        violation
    }

    /// All messages that have come from the server.
    pub(crate) fn all(&mut self, channel: Channel) -> Vec<Message> {
        let (bytes, marks) = &mut self.output[index(channel)];
        loop {
            let output = self.session.output(channel);
            if output.bytes.is_empty() {
                assert!(output.fds.is_empty(), "descriptors without bytes");
                break;
            }
            if !output.fds.is_empty() {
                marks.push_back((bytes.len(), output.fds.len()));
            }
            bytes.extend_from_slice(output.bytes);
            let count = output.bytes.len();
            self.session.sent(channel, count);
        }
        let mut messages = parse(bytes);
        let mut at = 0;
        for message in &mut messages {
            if let Some(fds) = pop_at(marks, at) {
                message.fds = fds;
            }
            at += 16 + message.payload.len();
        }
        assert!(marks.is_empty(), "descriptors in the middle of a message");
        bytes.clear();
        messages
    }

    /// All messages on the main socket.
    pub(crate) fn replies(&mut self) -> Vec<Message> {
        self.all(Channel::Main)
    }

    /// The only message on the main socket.
    pub(crate) fn one(&mut self) -> Message {
        let mut replies = self.replies();
        assert_eq!(replies.len(), 1, "{replies:?}");
        replies.remove(0)
    }

    /// Sends a command and returns its reply.
    pub(crate) fn ask(&mut self, bytes: &[u8]) -> Message {
        self.send(bytes);
        self.one()
    }

    /// Sends a command with descriptors and returns its reply.
    pub(crate) fn ask_fds(&mut self, bytes: &[u8], fds: Vec<Received>) -> Message {
        self.send_fds(bytes, fds);
        self.one()
    }

    /// What the device was told since the last look.
    pub(crate) fn calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.device.calls)
    }
}
