//! A connection of a client.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags,
    SocketType, recvmsg, socket_with,
};

use super::message::{Header, Message, command, flags};
use super::payload;
use crate::{LIMIT, wire};

/// What came of a message about which the protocol leaves a server the choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The connection was closed.
    Ended,
    /// It was answered, and the connection goes on.
    Answered(Result<Vec<u8>, u32>),
    /// It was not answered, and the connection goes on.
    Ignored,
}

/// A client's end of a connection. Its methods panic when what they wait for does not come within [`LIMIT`].
pub struct Peer {
    socket: UnixStream,
    unread: Vec<u8>,
    fds: Vec<OwnedFd>,
    next_id: u16,
    broken: bool,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("unread", &self.unread.len()).field("broken", &self.broken).finish()
    }
}

impl Peer {
    /// Connects and says nothing.
    ///
    /// # Errors
    /// When nobody listens there.
    pub fn connect(path: &Path) -> io::Result<Self> {
        Self::over(UnixStream::connect(path)?)
    }

    /// Connects, if the listener's queue has room right now: connecting waits as long as it has none.
    ///
    /// # Errors
    /// When nobody listens there, or `WouldBlock` when the queue is full.
    pub fn connect_now(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
        let socket = UnixStream::from(socket);
        socket.set_nonblocking(false)?;
        Self::over(socket)
    }

    /// Over a connection that exists.
    ///
    /// # Errors
    /// When the socket takes no time-outs.
    pub fn over(socket: UnixStream) -> io::Result<Self> {
        socket.set_read_timeout(Some(LIMIT))?;
        socket.set_write_timeout(Some(LIMIT))?;
        // Ids that are not those of the server's own commands, which may well start at 0.
        Ok(Self { socket, unread: Vec::new(), fds: Vec::new(), next_id: 0x4000, broken: false })
    }

    /// Negotiates as QEMU does.
    ///
    /// # Panics
    /// When the server does not go along.
    #[track_caller]
    pub fn negotiate(&mut self) {
        self.ok(&payload::qemu_version());
    }

    /// Negotiates with this text.
    ///
    /// # Panics
    /// When the server does not go along.
    #[track_caller]
    pub fn negotiate_with(&mut self, text: &str) -> Vec<u8> {
        self.ok(&payload::version(0, 1, format!("{text}\0")))
    }

    /// The socket.
    pub fn socket(&self) -> &UnixStream {
        &self.socket
    }

    /// The descriptors that came so far.
    pub fn take_fds(&mut self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.fds)
    }

    /// Sends a message. That the server has closed its end is seen by the next read.
    ///
    /// # Panics
    /// When the server takes no bytes.
    #[track_caller]
    pub fn send(&mut self, message: &Message) {
        self.send_bytes(&message.encode(), &[]);
    }

    /// Sends a message with descriptors on its first byte.
    ///
    /// # Panics
    /// When the server takes no bytes.
    #[track_caller]
    pub fn send_with(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) {
        self.send_bytes(&message.encode(), fds);
    }

    /// Sends bytes, descriptors on the first of them.
    ///
    /// # Panics
    /// When the server takes no bytes.
    #[track_caller]
    pub fn send_bytes(&mut self, mut bytes: &[u8], mut fds: &[BorrowedFd<'_>]) {
        while !bytes.is_empty() && !self.broken {
            match wire::send(&self.socket, bytes, fds) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(e) if is_end(&e) => self.broken = true,
                Err(e) => panic!("the server takes no bytes: {e}"),
            }
            fds = &[];
        }
    }

    /// Sends bytes in pieces of `size` bytes, a `sendmsg` each, descriptors on the first.
    ///
    /// # Panics
    /// When the server takes no bytes.
    #[track_caller]
    pub fn send_pieces(&mut self, bytes: &[u8], size: usize, fds: &[BorrowedFd<'_>]) {
        for (number, piece) in bytes.chunks(size).enumerate() {
            self.send_bytes(piece, if number == 0 { fds } else { &[] });
        }
    }

    /// Sends what the server takes of `bytes` without waiting for it: how many.
    ///
    /// # Panics
    /// When the server has closed the connection.
    #[track_caller]
    pub fn stuff(&mut self, bytes: &[u8]) -> usize {
        self.socket.set_nonblocking(true).unwrap_or_else(|e| panic!("{e}"));
        let mut sent = 0;
        while sent < bytes.len() {
            match wire::send(&self.socket, &bytes[sent..], &[]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => panic!("after {sent} bytes: {e}"),
            }
        }
        self.socket.set_nonblocking(false).unwrap_or_else(|e| panic!("{e}"));
        sent
    }

    /// The next message. `None` if the connection has ended.
    ///
    /// # Panics
    /// When nothing comes, or what comes has no possible size.
    #[track_caller]
    pub fn next_message(&mut self) -> Option<Message> {
        self.fill(Header::SIZE)?;
        let mut header = [0; Header::SIZE];
        header.copy_from_slice(&self.unread[..Header::SIZE]);
        let header = Header::decode(header);
        let size = header.size as usize;
        assert!(
            (Header::SIZE..1 << 24).contains(&size),
            "the server sent a message of {size} bytes: {header:?}"
        );
        self.fill(size)?;
        let rest = self.unread.split_off(size);
        let body = std::mem::replace(&mut self.unread, rest).split_off(Header::SIZE);
        Some(Message { header, body })
    }

    /// The next message.
    ///
    /// # Panics
    /// When none comes, or the connection ends.
    #[track_caller]
    pub fn message(&mut self) -> Message {
        self.next_message().unwrap_or_else(|| panic!("the server closed the connection"))
    }

    /// Bytes that have come and were not asked for yet, without waiting for more.
    pub fn pending(&mut self) -> usize {
        let waiting = rustix::io::ioctl_fionread(&self.socket).unwrap_or(0);
        self.unread.len() + usize::try_from(waiting).unwrap_or(usize::MAX)
    }

    #[track_caller]
    fn fill(&mut self, size: usize) -> Option<()> {
        while self.unread.len() < size {
            let mut chunk = vec![0; (size - self.unread.len()).max(1 << 16)];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(64))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let mut iov = [IoSliceMut::new(&mut chunk)];
            match recvmsg(&self.socket, &mut iov, &mut control, RecvFlags::CMSG_CLOEXEC) {
                Ok(received) if received.bytes == 0 => return None,
                Ok(received) => {
                    for message in control.drain() {
                        if let RecvAncillaryMessage::ScmRights(fds) = message {
                            self.fds.extend(fds);
                        }
                    }
                    self.unread.extend_from_slice(&chunk[..received.bytes]);
                }
                Err(e) if is_end(&e.into()) => return None,
                Err(e) => panic!("nothing came within {LIMIT:?} ({e}); so far {:02x?}", self.unread),
            }
        }
        Some(())
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id.wrapping_add(1);
        self.next_id
    }

    /// Sends a command under an id of its own and returns what came of it.
    ///
    /// # Errors
    /// The errno of an error reply.
    ///
    /// # Panics
    /// When the next message is not its reply, or an error reply is not a bare header with an errno.
    #[track_caller]
    pub fn call(&mut self, message: &Message) -> Result<Vec<u8>, u32> {
        self.call_with(message, &[])
    }

    /// As [`call`](Self::call), with descriptors.
    ///
    /// # Errors
    /// The errno of an error reply.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    #[track_caller]
    pub fn call_with(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<Vec<u8>, u32> {
        let header = self.begin(message, fds);
        self.outcome(&header)
    }

    /// Sends a command under an id of its own; the header is for [`outcome`](Self::outcome).
    ///
    /// # Panics
    /// When the server takes no bytes.
    #[track_caller]
    pub fn begin(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Header {
        let message = message.clone().id(self.id());
        self.send_with(&message, fds);
        message.header
    }

    /// Reads the reply to this command.
    ///
    /// # Errors
    /// The errno of an error reply.
    ///
    /// # Panics
    /// As [`call`](Self::call).
    #[track_caller]
    pub fn outcome(&mut self, command: &Header) -> Result<Vec<u8>, u32> {
        let Some(reply) = self.next_message() else {
            panic!("the connection ended, no reply to {command:?}")
        };
        checked_reply(command, reply)
    }

    /// A command that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn ok(&mut self, message: &Message) -> Vec<u8> {
        self.ok_with(message, &[])
    }

    /// A command with descriptors that must succeed.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn ok_with(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Vec<u8> {
        let result = self.call_with(message, fds);
        result.unwrap_or_else(|errno| panic!("errno {errno} for {}", show(message)))
    }

    /// A command that must be refused while the connection goes on, in step: its errno.
    ///
    /// # Panics
    /// When it is not refused.
    #[track_caller]
    pub fn refused(&mut self, message: &Message) -> u32 {
        self.refused_with(message, &[])
    }

    /// As [`refused`](Self::refused), with descriptors.
    ///
    /// # Panics
    /// When it is not refused.
    #[track_caller]
    pub fn refused_with(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> u32 {
        let Err(errno) = self.call_with(message, fds) else { panic!("not refused: {}", show(message)) };
        self.in_step();
        errno
    }

    /// That a following command gets its own reply, and gets it first.
    ///
    /// # Panics
    /// When something else comes.
    #[track_caller]
    pub fn in_step(&mut self) {
        let info = self.ok(&payload::get_info());
        assert_eq!(info.len(), 16, "DEVICE_GET_INFO's reply: {info:02x?}");
        assert_eq!(&info[8..], [9, 0, 0, 0, 5, 0, 0, 0], "9 regions and 5 interrupt types: {info:02x?}");
    }

    /// That the server ends the connection, at most one error reply ahead.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn ended(&mut self) {
        let Some(last) = self.next_message() else { return };
        assert!(last.is_reply(), "expected the end, got {last:?}");
        assert!(
            last.errno().is_some_and(|errno| errno != 0) && last.body.is_empty(),
            "no error reply: {last:?}"
        );
        let more = self.next_message();
        assert!(more.is_none(), "expected the end, got {more:?} after {last:?}");
    }

    /// Sends a message about which the protocol leaves the choice: it is answered, ignored, or ends the connection, but if
    /// the connection goes on, it is in step.
    ///
    /// # Panics
    /// When it is not.
    #[track_caller]
    pub fn tolerates(&mut self, message: &Message, fds: &[BorrowedFd<'_>]) -> Choice {
        let sent = self.begin(message, fds);
        let probe = self.begin(&payload::get_info(), &[]);
        let Some(first) = self.next_message() else { return Choice::Ended };
        if first.header.id == probe.id {
            assert!(checked_reply(&probe, first).is_ok());
            return Choice::Ignored;
        }
        let answer = checked_reply(&sent, first);
        let Some(second) = self.next_message() else { return Choice::Ended };
        assert!(checked_reply(&probe, second).is_ok(), "after {answer:02x?}");
        Choice::Answered(answer)
    }

    /// Says that nothing more will be sent.
    pub fn finish_sending(&self) {
        // Fails when the other end has gone, which is what a test then sees.
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

impl AsFd for Peer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[track_caller]
fn checked_reply(command: &Header, reply: Message) -> Result<Vec<u8>, u32> {
    let header = reply.header;
    assert!(reply.is_reply(), "expected the reply to {command:?}, got {reply:02x?}");
    assert_eq!(
        (header.id, header.command),
        (command.id, command.command),
        "a reply to another command: {header:?}"
    );
    let known = flags::TYPE | flags::NO_REPLY | flags::ERROR;
    assert_eq!(header.flags & !known, 0, "unknown flags in {header:?}");
    let Some(errno) = reply.errno() else { return Ok(reply.body) };
    assert!(reply.body.is_empty(), "an error reply with a payload: {reply:02x?}");
    assert_ne!(errno, 0, "an error without an errno: {header:?}");
    assert!(errno < 4096, "an errno of {errno}");
    Err(errno)
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, NotConnected};
    matches!(error.kind(), BrokenPipe | ConnectionReset | NotConnected)
}

fn show(message: &Message) -> String {
    let shown = &message.body[..message.body.len().min(64)];
    format!("{:?} {shown:02x?}", message.header)
}

/// A command of the server to its client.
///
/// # Panics
/// When this is none.
#[track_caller]
pub fn expect_dma(message: &Message) -> (u64, u64) {
    assert!(!message.is_reply(), "expected a command of the server, got {:?}", message.header);
    assert!(
        matches!(message.header.command, command::DMA_READ | command::DMA_WRITE),
        "an unexpected command: {message:?}"
    );
    (payload::u64_at(&message.body, 0), payload::u64_at(&message.body, 8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::dev_null;

    fn pair() -> (Peer, Peer) {
        let (a, b) = UnixStream::pair().unwrap();
        (Peer::over(a).unwrap(), Peer::over(b).unwrap())
    }

    #[test]
    fn messages_are_read_however_they_were_cut() {
        let (mut client, mut server) = pair();
        let read = payload::region_read(1, 2, 3).id(4);
        for size in 1..40 {
            let null = dev_null().unwrap();
            client.send_pieces(&[read.encode(), payload::reset().encode()].concat(), size, &[null.as_fd()]);
            assert_eq!(server.message(), read);
            assert_eq!(server.message(), payload::reset());
            assert_eq!(server.take_fds().len(), 1);
        }
    }

    #[test]
    fn calls_get_their_own_replies_only() {
        let (mut client, mut server) = pair();
        let header = client.begin(&payload::reset(), &[]);
        let command = server.message();
        server.send(&Message::error_to(&command.header, 95));
        assert_eq!(client.outcome(&header), Err(95));
        let header = client.begin(&payload::reset(), &[]);
        server.send(&Message::reply_to(&header, [1, 2]));
        assert_eq!(client.outcome(&header), Ok(vec![1, 2]));
    }

    #[test]
    #[should_panic(expected = "a reply to another command")]
    fn another_ones_reply_is_no_reply() {
        let (mut client, mut server) = pair();
        let header = client.begin(&payload::reset(), &[]);
        server.send(&Message::reply_to(&header, []).id(3));
        let _ = client.outcome(&header);
    }

    #[test]
    #[should_panic(expected = "an error without an errno")]
    fn errors_need_an_errno() {
        let (mut client, mut server) = pair();
        let header = client.begin(&payload::reset(), &[]);
        server.send(&Message::error_to(&header, 0));
        let _ = client.outcome(&header);
    }

    #[test]
    fn the_end_is_seen() {
        let (mut client, server) = pair();
        drop(server);
        client.ended();
        client.send(&payload::reset());
        client.ended();
    }
}
