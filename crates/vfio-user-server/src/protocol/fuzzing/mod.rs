//! The protocol's promises as one function, which the fuzz target and a test call with hostile scripts.
//!
//! A script is any bytes. They say what the client sends, how it is cut, which reads carry descriptors, what the device
//! answers, when output is taken, and what we ask of the client. A model of the stream says what may come out.
#![allow(clippy::cast_possible_truncation, reason = "numbers of chance: any bits of them will do")]

mod device;
mod model;

use std::os::fd::OwnedFd;

use fd_closer::Received;
use rustix::io::Errno;

use super::header::command;
use super::{Channel, Session, SessionLimits, Step};
use device::{Device, Waiting};
use model::Model;

/// Runs a script, and panics if a promise is broken:
///
/// * no panic, whatever comes;
/// * a command has at most one reply, one without reply has none, and in the end, unless the client has broken the rules,
///   each has been executed and answered;
/// * every reply is well-formed, belongs to a command that was executed, and is as long as it should be;
/// * no command is executed while a deferred one without reply waits;
/// * replies to our commands reach the device once each, with the right length, unless they were abandoned;
/// * memory and descriptors held are bounded, and in the end all descriptors are closed.
pub fn check(data: &[u8]) {
    let Ok((reader, writer)) = rustix::pipe::pipe() else { return };
    let mut world = World::new(Script(data), writer);
    world.run();
    world.finish();
    drop(world);
    // All copies of the writing end were descriptors of messages, which others close.
    let mut ends = [rustix::event::PollFd::new(&reader, rustix::event::PollFlags::IN)];
    let patience = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
    let _ = rustix::event::poll(&mut ends, Some(&patience));
    assert!(ends[0].revents().contains(rustix::event::PollFlags::HUP), "a descriptor is left open");
}

/// What to do, taken from the front.
#[derive(Debug)]
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    /// The next byte; 0 at the end.
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn below(&mut self, bound: usize) -> usize {
        (usize::from(self.byte()) << 8 | usize::from(self.byte())) % bound
    }

    /// Mostly what makes sense, else something else.
    fn or(&mut self, sense: u32) -> u32 {
        match self.byte() {
            0..=239 => sense,
            240..=247 => sense.wrapping_add(1),
            248..=251 => sense.wrapping_sub(1),
            252 => 0,
            253 => u32::MAX,
            254 => 1 << 31,
            255 => u32::from(self.byte()),
        }
    }
}

/// A client, a session, a device, and what each has sent and not sent.
struct World<'a> {
    script: Script<'a>,
    session: Session,
    device: Device,
    model: Model,
    writer: OwnedFd,
    /// Sent by the client and not yet read, for both sockets.
    input: [Vec<u8>; 2],
    /// Not yet executed: the session has ended.
    ended: bool,
    /// Limits are small, and so is what may be held.
    small: bool,
    /// Of the next command.
    id: u16,
}

const CHANNELS: [Channel; 2] = [Channel::Main, Channel::Twin];

impl<'a> World<'a> {
    fn new(mut script: Script<'a>, writer: OwnedFd) -> Self {
        let start = script.byte();
        let small = start & 1 != 0;
        let mut limits = SessionLimits { pieces: 100, ..SessionLimits::default() };
        if small {
            limits.max_data_xfer_size = 4096;
            (limits.output, limits.held) = (1024, 1024);
            (limits.deferred, limits.deferred_bytes, limits.pending) = (4, 4096, 4);
        }
        let mut world = Self {
            script,
            model: Model::new(limits.clone()),
            session: Session::new(limits),
            device: Device::new(start & 2 != 0, &writer),
            writer,
            input: Default::default(),
            ended: false,
            small,
            id: 0,
        };
        if start & 4 == 0 {
            world.version();
        }
        world
    }

    fn run(&mut self) {
        while !self.script.0.is_empty() {
            match self.script.byte() % 16 {
                0..=3 => self.send_command(),
                4 => self.send_bytes(),
                5 | 6 => self.deliver(),
                7 | 8 => {
                    for _ in 0..self.script.byte() % 16 {
                        self.step();
                    }
                }
                9 => {
                    let most = self.script.below(5000);
                    self.take(0, most);
                    self.take(1, most);
                }
                10 | 11 => self.complete(),
                12 => self.ask(),
                13 => self.reply(),
                14 => self.version(),
                _ => self.session.trim(),
            }
            self.check_bounds();
        }
    }

    /// Everything is delivered, completed and taken: then everything is answered.
    fn finish(&mut self) {
        self.script.0 = &[];
        loop {
            let before = (self.model.progress(), self.session.counters());
            for index in 0..2 {
                while self.read(index, usize::MAX, 0) > 0 {
                    while self.step() {}
                    self.take(index, usize::MAX);
                }
                self.take(index, usize::MAX);
            }
            while self.step() {}
            let idle = self.device.waiting.is_empty();
            while let Some(waiting) = self.device.waiting.pop() {
                self.complete_one(&waiting, 0);
            }
            self.check_bounds();
            if idle && before == (self.model.progress(), self.session.counters()) {
                break;
            }
        }
        self.model.finish(self.ended, self.session.counters().commands);
    }

    fn check_bounds(&self) {
        let (bytes, fds) = self.session.holds();
        assert!(bytes <= if self.small { 1 << 20 } else { 24 << 20 }, "{bytes} bytes are held");
        assert!(fds <= 1000, "{fds} descriptors are held");
    }

    /// The client sends a command that makes sense, or nearly.
    fn send_command(&mut self) {
        let kind = match self.script.byte() {
            0..=79 => command::REGION_READ,
            80..=159 => command::REGION_WRITE,
            other => u16::from(other) % 24,
        };
        let flags = self.script.byte();
        let count = match self.script.byte() {
            0..=199 => self.script.below(256),
            200..=249 => self.script.below(3000),
            _ => self.script.below(70_000),
        };
        let (length, count) = (count, word(count));
        let offset = self.script.or(u32::from(flags) * 8);
        let index = self.script.or(u32::from(flags >> 4));
        let mut payload: Vec<u8> = Vec::new();
        let mut put = |words: &[u32]| payload.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        match kind {
            command::DMA_MAP => {
                put(&[32, 1 + count % 3, 0, 0, 4096_u32.wrapping_mul(index), 0, self.script.or(4096), 0])
            }
            command::DMA_UNMAP => {
                put(&[24, self.script.or(0), 4096 * (index & 15), 0, self.script.or(4096), 0])
            }
            command::DEVICE_GET_INFO | command::DEVICE_GET_IRQ_INFO => {
                put(&[self.script.or(16), 0, index, 0])
            }
            command::DEVICE_GET_REGION_INFO => {
                put(&[self.script.or(32 + 8 * (count % 10)), 0, index, 0, 0, 0, 0, 0])
            }
            command::DEVICE_GET_REGION_IO_FDS => put(&[self.script.or(16 + 40 * (count % 4)), 0, index, 0]),
            command::DEVICE_SET_IRQS => {
                put(&[
                    20,
                    self.script.or(1 << (flags % 3) | 8 << (count % 3)),
                    2,
                    self.script.or(0),
                    count % 20,
                ]);
                payload.resize(payload.len() + if flags % 3 == 1 { length % 20 } else { 0 }, 1);
            }
            command::REGION_READ => put(&[offset, 0, index & 3, self.script.or(count)]),
            command::REGION_WRITE => {
                put(&[offset, 0, index & 3, self.script.or(count)]);
                payload.resize(payload.len() + length, 7);
            }
            command::DEVICE_RESET => {}
            _ => put(&[count, 0, offset]),
        }
        let no_reply = if flags & 3 == 3 { 0x10 } else { 0 };
        self.id = self.id.wrapping_add(1);
        let kind = if kind == command::VERSION && flags != 0 { 99 } else { kind };
        self.send(0, self.id, kind, no_reply, &payload);
    }

    fn send(&mut self, index: usize, id: u16, command: u16, flags: u32, payload: &[u8]) {
        let size = word(16 + payload.len());
        // Few streams survive a wrong size.
        let size = if self.script.byte() == 255 { self.script.or(size) } else { size };
        let input = &mut self.input[index];
        input.extend_from_slice(&id.to_ne_bytes());
        input.extend_from_slice(&command.to_ne_bytes());
        input.extend_from_slice(&size.to_ne_bytes());
        input.extend_from_slice(&flags.to_ne_bytes());
        input.extend_from_slice(&[0; 4]);
        input.extend_from_slice(payload);
    }

    fn version(&mut self) {
        let json: &[u8] = match self.script.byte() % 8 {
            0 => b"",
            1 => b"{\"capabilities\":{\"max_msg_fds\":0,\"max_data_xfer_size\":100}}\0",
            2 | 3 => b"{\"capabilities\":{\"max_msg_fds\":16,\"twin_socket\":{\"supported\":true}}}\0",
            4 => b"{\"capabilities\":{\"max_msg_fds\":\"\"}}\0",
            _ => b"{\"capabilities\":{\"max_msg_fds\":16}}\0",
        };
        let payload = [&[0; 4], json].concat();
        self.send(0, 1, command::VERSION, 0, &payload);
    }

    /// Bytes of no meaning: the payload of a command, or (few streams survive that) on their own.
    fn send_bytes(&mut self) {
        let (kind, count) = (self.script.byte(), usize::from(self.script.byte() % 64));
        let bytes: Vec<u8> = (0..count).map(|_| self.script.byte()).collect();
        if kind >= 250 {
            self.input[usize::from(kind & 1)].extend_from_slice(&bytes);
        } else {
            self.id = self.id.wrapping_add(1);
            self.send(0, self.id, u16::from(kind % 20).max(2), 0, &bytes);
        }
    }

    fn deliver(&mut self) {
        let (count, fds) = (self.script.below(600), self.script.byte());
        let fds = if fds > 250 { 20 } else { usize::from(fds % 4) };
        self.read(usize::from(fds == 3), count + 1, fds);
    }

    /// One read of at most `count` bytes. Returns how many came.
    fn read(&mut self, index: usize, count: usize, fds: usize) -> usize {
        let spare = self.session.spare(CHANNELS[index]);
        let count = count.min(spare.len()).min(self.input[index].len());
        if count == 0 {
            return 0;
        }
        spare[..count].copy_from_slice(&self.input[index][..count]);
        let fds = (0..fds).filter_map(|_| self.writer.try_clone().ok()).map(Received::from);
        self.session.received(CHANNELS[index], count, fds);
        let bytes: Vec<u8> = self.input[index].drain(..count).collect();
        if index == 0 {
            self.model.received(&bytes);
        }
        count
    }

    /// Whether a message was executed.
    fn step(&mut self) -> bool {
        self.device.decision = self.script.byte();
        let before = self.session.counters().commands;
        let held_up = self.device.waiting.iter().any(|waiting| waiting.no_reply);
        let deferred = self.device.waiting.len();
        let step = self.session.step(&mut self.device);
        let after = self.session.counters().commands;
        assert!(after - before <= 1, "one at a time");
        assert!(!held_up || after == before, "a command overtook one without reply");
        if self.device.waiting.len() > deferred
            && let Some(waiting) = self.device.waiting.last_mut()
        {
            waiting.no_reply = self.model.no_reply(before);
        }
        assert_eq!(self.session.deferred(), self.device.waiting.len());
        match step {
            Ok(Step::Executed { .. }) => {
                assert!(!self.ended, "a violation is final");
                true
            }
            Ok(Step::NeedInput | Step::Blocked) => false,
            Err(_) => {
                self.ended = true;
                assert!(self.session.spare(Channel::Main).is_empty());
                false
            }
        }
    }

    /// Takes at most `most` bytes of output.
    fn take(&mut self, index: usize, mut most: usize) {
        loop {
            let output = self.session.output(CHANNELS[index]);
            assert!(output.fds.len() <= 16 && (output.fds.is_empty() || !output.bytes.is_empty()));
            let count = output.bytes.len().min(most);
            if count == 0 {
                break;
            }
            let executed = self.session.counters().commands;
            self.model.sent(index, &output.bytes[..count], output.fds.len(), executed, &self.device.asked);
            self.session.sent(CHANNELS[index], count);
            most -= count;
        }
    }

    /// The device completes what it has deferred.
    fn complete(&mut self) {
        if self.device.waiting.is_empty() {
            return;
        }
        let at = self.script.below(self.device.waiting.len());
        let waiting = self.device.waiting.swap_remove(at);
        let how = self.script.byte();
        self.complete_one(&waiting, how);
    }

    fn complete_one(&mut self, waiting: &Waiting, how: u8) {
        match (how % 8, waiting.read) {
            (0..=4, Some(count)) => self.session.complete_read(waiting.token, &vec![3; count]),
            (0..=4, None) | (5, Some(_)) => self.session.complete_write(waiting.token),
            (5, None) | (6, _) => self.session.complete_read(waiting.token, &[1]),
            _ => self.session.fail(waiting.token, Errno::IO),
        }
        // Twice does no harm.
        self.session.fail(waiting.token, Errno::IO);
    }

    /// We ask something of the client, or give up.
    fn ask(&mut self) {
        let count = self.script.below(5000);
        match self.script.byte() % 4 {
            0 | 1 => {
                if let Some(id) = self.session.dma_read(0x1000, count as u64) {
                    assert!(self.device.asked.insert(id, Some(count)).is_none(), "an id is in use");
                }
            }
            2 => {
                if let Some(id) = self.session.dma_write(0x1000, &vec![5; count]) {
                    assert!(self.device.asked.insert(id, None).is_none(), "an id is in use");
                }
            }
            _ => {
                if let Some(id) = self.device.any_asked(count) {
                    self.session.abandon(id);
                    self.device.asked.remove(&id);
                }
            }
        }
    }

    /// The client answers what we have asked.
    fn reply(&mut self) {
        let pick = self.script.below(1000);
        let Some(id) = self.device.any_asked(pick) else { return };
        let (command, count) = match self.device.asked[&id] {
            Some(count) => (command::DMA_READ, count),
            None => (command::DMA_WRITE, 0),
        };
        let told = self.script.or(word(count));
        let mut payload = [[0; 8], u64::from(told).to_ne_bytes()].concat();
        if command == command::DMA_READ {
            payload.resize(16 + count, 9);
        } else {
            payload.truncate([0, 12, 16, 16][usize::from(self.script.byte() % 4)]);
        }
        let flags = if self.script.byte() > 200 { 0x21 } else { 1 };
        let index = usize::from(self.session.peer().is_some_and(|peer| peer.twin_socket));
        self.send(index, id, command, flags, &payload);
    }
}

/// What is put into messages is small.
fn word(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
