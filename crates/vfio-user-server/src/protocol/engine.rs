//! Executes commands and answers them.

use fd_closer::Received;
use rustix::io::Errno;

use super::deferred::{DeferredTable, SLOTS};
use super::header::{HEADER, Header, command};
use super::info::Answer;
use super::outbox::Outbox;
use super::pending::Pending;
use super::{Counters, Peer, SessionLimits, Target, Violation, dma, info, irqs, version};

/// While more descriptors than these wait to be sent, no command is executed: each takes one of this process's.
const MAX_WAITING_FDS: usize = 32;

/// A session without its input.
#[derive(Debug, Default)]
pub(super) struct Engine {
    pub(super) limits: SessionLimits,
    /// What was agreed on, once it was.
    pub(super) peer: Option<Peer>,
    /// Output of the main socket.
    pub(super) out: Outbox,
    /// Output of the socket for our commands, if there is one.
    pub(super) twin: Outbox,
    pub(super) deferred: DeferredTable,
    pub(super) pending: Pending,
    pub(super) counters: Counters,
}

impl Engine {
    /// Whether commands must wait.
    pub(super) fn blocked(&self) -> bool {
        self.out.waiting() > self.limits.output
            || self.out.waiting_fds() > MAX_WAITING_FDS
            || self.deferred.orders()
            || self.deferred.len() >= self.limits.deferred.min(SLOTS)
            || self.deferred.bytes() > self.limits.deferred_bytes
    }

    /// Whether our commands go over a socket of their own.
    pub(super) fn has_twin(&self) -> bool {
        self.peer.is_some_and(|peer| peer.twin_socket)
    }

    /// Executes a command. `message` is all of it.
    pub(super) fn execute<T: Target + ?Sized>(
        &mut self,
        target: &mut T,
        header: Header,
        message: &[u8],
        fds: Vec<Received>,
    ) -> Result<(), Violation> {
        self.counters.commands += 1;
        let payload = &message[HEADER..];
        let Some(peer) = self.peer else { return self.negotiate(target, header, payload) };
        let answer = match header.command {
            command::REGION_READ => {
                self.region_read(target, header, payload);
                return Ok(());
            }
            command::REGION_WRITE => {
                self.region_write(target, header, payload);
                return Ok(());
            }
            command::DMA_MAP => dma::map(target, payload, fds),
            command::DMA_UNMAP => dma::unmap(target, payload),
            command::DEVICE_GET_INFO => info::device(target, payload),
            command::DEVICE_GET_REGION_INFO => info::region(target, &peer, payload),
            command::DEVICE_GET_REGION_IO_FDS => info::io_fds(target, &peer, payload),
            command::DEVICE_GET_IRQ_INFO => info::irq(target, payload),
            command::DEVICE_SET_IRQS => irqs::set(target, payload, fds),
            command::DEVICE_RESET if payload.is_empty() => target.reset().map(|()| Answer::default()),
            command::DEVICE_RESET | command::VERSION => Err(Errno::INVAL),
            // REGION_WRITE_MULTI and migration are not agreed to, DMA_READ and DMA_WRITE are ours, the rest is unknown.
            _ => Err(Errno::OPNOTSUPP),
        };
        match answer {
            Ok(answer) => self.answer(&header, answer),
            Err(errno) => self.fail_command(&header, errno),
        }
        Ok(())
    }

    /// The first command, which is `VERSION`.
    fn negotiate<T: Target + ?Sized>(
        &mut self,
        target: &mut T,
        header: Header,
        payload: &[u8],
    ) -> Result<(), Violation> {
        let mut peer = match version::parse(payload) {
            Ok(_) if header.no_reply() => Err(Violation::Version("no reply is wanted".to_owned())),
            parsed => parsed,
        }
        .inspect_err(|_| self.fail_command(&header, Errno::INVAL))?;
        let twin = if peer.twin_socket { target.twin_socket() } else { None };
        peer.twin_socket = twin.is_some();
        let payload = version::reply(&self.limits, peer.twin_socket);
        self.peer = Some(peer);
        self.answer(&header, Answer { payload, fds: twin.into_iter().collect() });
        Ok(())
    }

    fn answer(&mut self, header: &Header, answer: Answer) {
        if header.no_reply() {
            return;
        }
        match u32::try_from(HEADER + answer.payload.len()) {
            Ok(size) => self.out.push(header.reply(size), &[&answer.payload], answer.fds),
            Err(_) => self.fail_command(header, Errno::TOOBIG),
        }
    }

    /// Counts a command as failed, and says so if a reply is wanted: the header and nothing else.
    pub(super) fn fail_command(&mut self, header: &Header, errno: Errno) {
        self.counters.errors += 1;
        if !header.no_reply() {
            self.out.push(header.error_reply(errno.raw_os_error()), &[], Vec::new());
        }
    }

    /// Adds a command of ours to the output.
    pub(super) fn send_dma(&mut self, command: u16, address: u64, count: u64, data: &[u8]) -> Option<u16> {
        let most = self.max_dma();
        let twin = self.has_twin();
        let out = if twin { &mut self.twin } else { &mut self.out };
        // What waits is bounded, but one command of any size always passes.
        if count == 0 || count > most || out.waiting() > self.limits.max_data_xfer_size as usize {
            return None;
        }
        let size = u32::try_from(HEADER + 16 + data.len()).ok()?;
        let id = self.pending.insert(command, count, self.limits.pending)?;
        let header = Header::command(id, command, size);
        out.push(header, &[&address.to_ne_bytes(), &count.to_ne_bytes(), data], Vec::new());
        self.counters.dma_messages += 1;
        Some(id)
    }

    /// The largest `count` of a command of ours; 0 before there is a client.
    pub(super) fn max_dma(&self) -> u64 {
        let ours = u64::from(self.limits.max_data_xfer_size);
        self.peer.map_or(0, |peer| peer.max_data_xfer_size.min(ours))
    }

    /// A reply to a command of ours.
    pub(super) fn take_reply<T: Target + ?Sized>(&mut self, target: &mut T, header: &Header, message: &[u8]) {
        if let Some(result) = self.pending.reply(header, &message[HEADER..]) {
            target.dma_reply(header.id, result);
        }
    }
}
