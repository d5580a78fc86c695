//! What the client has sent, message by message, and what may therefore come back.

use std::collections::BTreeMap;

use crate::protocol::SessionLimits;
use crate::protocol::header::{HEADER, Header, Kind, command, u32_at, u64_at};

/// A command that has come.
#[derive(Debug)]
struct Command {
    header: Header,
    /// The first bytes of its payload.
    front: [u8; 16],
    answered: bool,
}

/// The streams of both directions.
#[derive(Debug)]
pub(super) struct Model {
    limits: SessionLimits,
    /// Received and no whole message yet.
    input: Vec<u8>,
    /// What comes after cannot be trusted.
    broken: bool,
    negotiated: bool,
    commands: Vec<Command>,
    /// Sent on each socket, and no whole message yet.
    output: [Vec<u8>; 2],
    sent: usize,
}

impl Model {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            limits,
            input: Vec::new(),
            broken: false,
            negotiated: false,
            commands: Vec::new(),
            output: [const { Vec::new() }; 2],
            sent: 0,
        }
    }

    /// Changes whenever something has happened.
    pub(super) fn progress(&self) -> (usize, usize, usize) {
        (self.commands.len(), self.input.len(), self.sent)
    }

    /// Whether the command that was executed as number `index` wants no reply.
    pub(super) fn no_reply(&self, index: u64) -> bool {
        usize::try_from(index).is_ok_and(|index| self.commands[index].header.no_reply())
    }

    /// The session has been given these bytes.
    pub(super) fn received(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        while !self.broken
            && let Some(header) = Header::parse(&self.input)
        {
            let size = header.size as usize;
            let Some(kind) = header.kind() else { return self.broken = true };
            let version = kind == Kind::Command && header.command == command::VERSION;
            let most = if version { 20 + 16 * 1024 } else { self.limits.max_data_xfer_size as usize + 4128 };
            if size < HEADER || size > most {
                return self.broken = true;
            }
            if !self.negotiated && !version {
                if kind == Kind::Command {
                    self.commands.push(Command { header, front: [0; 16], answered: false });
                }
                return self.broken = true;
            }
            if self.input.len() < size {
                return;
            }
            if kind == Kind::Command {
                let mut front = [0; 16];
                let payload = &self.input[HEADER..size.min(HEADER + 16)];
                front[..payload.len()].copy_from_slice(payload);
                self.commands.push(Command { header, front, answered: false });
            }
            self.negotiated = true;
            self.input.drain(..size);
        }
    }

    /// The session has sent these bytes, the first of them with `fds` descriptors, after it has executed so many commands.
    pub(super) fn sent(
        &mut self,
        index: usize,
        bytes: &[u8],
        fds: usize,
        executed: u64,
        asked: &BTreeMap<u16, Option<usize>>,
    ) {
        assert!(fds == 0 || self.output[index].is_empty(), "descriptors in the middle of a message");
        self.sent += bytes.len();
        self.output[index].extend_from_slice(bytes);
        let mut fds = fds;
        let mut at = 0;
        while let Some(header) = Header::parse(&self.output[index][at..]) {
            let size = header.size as usize;
            assert!((HEADER..=HEADER + 16 + (1 << 20)).contains(&size), "{header:?}");
            if self.output[index].len() - at < size {
                break;
            }
            let message: Vec<u8> = self.output[index][at..at + size].to_vec();
            match header.kind() {
                Some(Kind::Reply) => {
                    assert_eq!(index, 0, "a reply on the socket for our commands");
                    self.answered(&header, &message[HEADER..], std::mem::take(&mut fds), executed);
                }
                Some(Kind::Command) => our_command(&header, &message, asked),
                None => panic!("{header:?}"),
            }
            at += size;
        }
        self.output[index].drain(..at);
    }

    fn answered(&mut self, header: &Header, payload: &[u8], fds: usize, executed: u64) {
        let executed = usize::try_from(executed).unwrap_or(usize::MAX).min(self.commands.len());
        let same = |command: &&mut Command| {
            (command.header.id, command.header.command) == (header.id, header.command)
                && !command.header.no_reply()
        };
        let mut candidates: Vec<_> = self.commands[..executed].iter_mut().filter(same).collect();
        if header.is_error() {
            assert!(payload.is_empty() && fds == 0, "an error is a header and nothing else: {header:?}");
            assert!((1..4096).contains(&header.error), "{header:?}");
        } else {
            assert_eq!(header.error, 0);
            let fits = candidates.iter().any(|command| command.fits(payload, fds));
            assert!(fits, "not a reply to any of {candidates:?}: {header:?} {payload:?}");
        }
        let Some(command) = candidates.iter_mut().find(|command| !command.answered) else {
            panic!("a reply to nothing, or the second to one: {header:?}")
        };
        command.answered = true;
    }

    /// Everything has been delivered, completed and taken.
    pub(super) fn finish(&self, ended: bool, executed: u64) {
        assert!(self.output.iter().all(Vec::is_empty), "half a message was sent");
        let executed = usize::try_from(executed).unwrap_or(usize::MAX);
        assert!(executed <= self.commands.len());
        // The last may wait for the bytes after it: whether descriptors are its own depends on them.
        let all = ended || executed == self.commands.len() || !self.input.is_empty();
        assert!(all, "{executed} of {} commands were executed", self.commands.len());
        assert!(
            ended || !self.broken || executed < self.commands.len(),
            "the session goes on after a violation"
        );
        for command in &self.commands[..executed] {
            assert_eq!(command.answered, !command.header.no_reply(), "{command:?}");
        }
    }
}

impl Command {
    /// Whether this may be its reply.
    fn fits(&self, payload: &[u8], fds: usize) -> bool {
        let argsz = u32_at(&self.front, 0) as usize;
        let (least, most, most_fds) = match self.header.command {
            command::VERSION => (4, 184, 1),
            command::DMA_MAP | command::DEVICE_SET_IRQS | command::DEVICE_RESET => (0, 0, 0),
            command::DMA_UNMAP => (24, 24, 0),
            command::DEVICE_GET_INFO | command::DEVICE_GET_IRQ_INFO => (16, 16, 0),
            command::DEVICE_GET_REGION_INFO => (32, argsz, 1),
            command::DEVICE_GET_REGION_IO_FDS => (16, argsz, 16),
            command::REGION_READ => {
                let count = u32_at(&self.front, 12) as usize;
                (16 + count, 16 + count, 0)
            }
            command::REGION_WRITE => (16, 16, 0),
            _ => return false,
        };
        let echoed = !matches!(self.header.command, command::REGION_READ | command::REGION_WRITE)
            || payload.get(..16) == Some(&self.front[..]);
        (least..=most).contains(&payload.len()) && fds <= most_fds && echoed
    }
}

/// A command of ours.
fn our_command(header: &Header, message: &[u8], asked: &BTreeMap<u16, Option<usize>>) {
    assert_eq!((header.flags, header.error), (0, 0));
    assert!(message.len() >= 32);
    let count = u64_at(message, 24);
    match header.command {
        command::DMA_READ => {
            assert_eq!(message.len(), 32);
            // It may have been abandoned before it was sent.
            if let Some(read) = asked.get(&header.id) {
                assert_eq!(read.map(|read| read as u64), Some(count));
            }
        }
        command::DMA_WRITE => assert_eq!(message.len() as u64, 32 + count),
        _ => panic!("{header:?}"),
    }
}
