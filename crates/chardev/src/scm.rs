//! Receiving from unix sockets, with descriptors and without.
//!
//! A read can return bytes of several writes. The kernel ends it after a write that carried descriptors, but puts
//! descriptor-less writes before it into the same read. Only a look beforehand tells the two apart: see [`peek`].
//!
//! Control buffers are on the stack; nothing is allocated but room in the caller's vector.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use peer_admission::Credentials;
use rustix::io::Errno;
use rustix::net::{RecvFlags, ReturnFlags, SendFlags, recv, send};

pub use fd_closer::MAX_FDS;

use crate::duplex::set_nonblocking;

/// What [`Connection::try_peek`](crate::Connection::try_peek) saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peeked {
    /// Bytes copied into the buffer. 0: the peer has closed its side.
    pub len: usize,
    /// `false`: the bytes shown carry no descriptors, for certain. `true`: a write that carries some is the last among
    /// them, or, if the buffer is full, may begin anywhere behind them.
    pub fds: bool,
}

/// What [`Connection::try_take`](crate::Connection::try_take) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// So many bytes were taken; no descriptors came with them. 0: the peer has closed its side.
    Bytes(usize),
    /// So many bytes are shown in the buffer, and none was taken: there are descriptors among them, as [`Peeked::fds`]
    /// says.
    Fds(usize),
}

/// What [`Connection::try_recv`](crate::Connection::try_recv) took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes read into the buffer. 0: the peer has closed its side.
    pub len: usize,
    /// Descriptors came with them and were pushed.
    pub fds: bool,
    /// Descriptors came that the kernel could not all deliver (this process has too many open). None was kept.
    pub truncated: bool,
}

/// Looks without taking, as [`fd_closer::peek`] does.
pub(crate) fn peek(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<Peeked> {
    let (len, fds) = fd_closer::peek(fd, buf)?;
    Ok(Peeked { len, fds })
}

/// Takes what is there, unless there are descriptors among it. `shared`: others may have the socket, and read it too.
pub(crate) fn take(fd: BorrowedFd<'_>, shared: bool, buf: &mut [u8]) -> io::Result<Taken> {
    let shown = peek(fd, buf)?;
    if shown.fds || shown.len == 0 {
        return Ok(if shown.fds { Taken::Fds(shown.len) } else { Taken::Bytes(0) });
    }
    let buf = &mut buf[..shown.len];
    // What has been shown is there and has no descriptors, whatever arrived meanwhile: unless others who have the socket
    // read it, or have moved what a look begins at. Room for descriptors would cost as much again.
    let len = if shared { receive_plain(fd, buf)? } else { recv(fd, buf, RecvFlags::DONTWAIT)?.0 };
    Ok(Taken::Bytes(len))
}

/// Reads bytes, and pushes the descriptors that come with them.
///
/// # Errors
/// `EMFILE` when there is not room for all of them, as far as can be told beforehand: nothing is taken then. What the kernel
/// cannot hand over it closes on this thread, and a close can block.
pub(crate) fn receive(fd: BorrowedFd<'_>, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<Received> {
    let before = fds.len();
    let (len, complete) = if fd_closer::has_room(fd) {
        let (len, flags) = fd_closer::receive(fd, buf, RecvFlags::DONTWAIT, fds)?;
        (len, !flags.contains(ReturnFlags::CTRUNC))
    } else {
        receive_copies(fd, buf, fds)?
    };
    fds.iter().skip(before).for_each(make_blocking);
    if !complete {
        close_unwanted(fd, fds.split_off(before));
    }
    Ok(Received { len, fds: fds.len() > before, truncated: !complete })
}

/// The same where it is not known whether the descriptors find room. A look makes copies of them, which are kept if they are all
/// there. Then the bytes are taken without room for the originals: the kernel closes those on this thread, but they are not the
/// last. `false`: what was taken is not what was shown. Who shares the socket reads it too, or has moved what a look begins at.
fn receive_copies(fd: BorrowedFd<'_>, buf: &mut [u8], fds: &mut Vec<OwnedFd>) -> io::Result<(usize, bool)> {
    let mut copies = Vec::new();
    let look = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let taken = match fd_closer::receive(fd, buf, look, &mut copies) {
        Ok((_, flags)) if flags.contains(ReturnFlags::CTRUNC) => Err(Errno::MFILE),
        Ok((shown, _)) => {
            recv(fd, &mut buf[..shown], RecvFlags::DONTWAIT).map(|(len, _)| (len, len == shown))
        }
        Err(error) => Err(error),
    };
    match taken {
        Ok(_) => fds.append(&mut copies),
        Err(_) => close_unwanted(fd, copies),
    }
    Ok(taken?)
}

/// Reads bytes. Descriptors that come with them all the same are closed, by [`fd_closer`]: without room for them the kernel
/// would close them on this thread, and a close can block.
pub(crate) fn receive_plain(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    let mut unwanted = Vec::new();
    let (bytes, _) = fd_closer::receive(fd, buf, RecvFlags::DONTWAIT, &mut unwanted)?;
    close_unwanted(fd, unwanted);
    Ok(bytes)
}

/// The same for who has not looked before.
///
/// # Errors
/// `EMFILE` when descriptors come and there may be no room for them; nothing is taken then.
pub(crate) fn receive_unseen(fd: BorrowedFd<'_>, buf: &mut [u8]) -> io::Result<usize> {
    if fd_closer::has_room(fd) {
        return receive_plain(fd, buf);
    }
    match take(fd, true, buf)? {
        Taken::Bytes(len) => Ok(len),
        Taken::Fds(_) => Err(Errno::MFILE.into()),
    }
}

/// Has descriptors closed that came through this socket, as its peer's.
fn close_unwanted(socket: BorrowedFd<'_>, fds: Vec<OwnedFd>) {
    if !fds.is_empty() {
        fd_closer::close_all_of(fds, Credentials::of(socket).map(|peer| peer.uid));
    }
}

/// Writes what fits.
pub(crate) fn transmit(fd: BorrowedFd<'_>, buf: &[u8]) -> io::Result<usize> {
    Ok(send(fd, buf, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// As QEMU does with every received descriptor. Where it cannot be done it need not be.
fn make_blocking(fd: &OwnedFd) {
    let _ = set_nonblocking(fd.as_fd(), false);
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;
    use std::os::unix::net::UnixStream;

    use rustix::fs::OFlags;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, sendmsg};

    use super::*;

    /// One write; `fds` copies of a descriptor go with it.
    fn write(to: &UnixStream, bytes: &[u8], fds: usize) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(300))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let null = std::fs::File::open("/dev/null").unwrap();
        let copies = vec![null.as_fd(); fds];
        if fds > 0 {
            assert!(control.push(SendAncillaryMessage::ScmRights(&copies)));
        }
        sendmsg(to, &[io::IoSlice::new(bytes)], &mut control, SendFlags::empty())
    }

    #[test]
    fn takes_in_one_go_up_to_descriptors() {
        takes_up_to_descriptors(false);
        takes_up_to_descriptors(true);
    }

    fn takes_up_to_descriptors(shared: bool) {
        let (ours, theirs) = pair();
        let mut buf = [0; 16];
        write(&theirs, b"ab", 0).unwrap();
        write(&theirs, b"cd", 0).unwrap();
        assert_eq!(take(ours.as_fd(), shared, &mut buf).unwrap(), Taken::Bytes(4));
        write(&theirs, b"ef", 0).unwrap();
        write(&theirs, b"gh", 1).unwrap();
        assert_eq!(take(ours.as_fd(), shared, &mut buf).unwrap(), Taken::Fds(4));
        let mut fds = Vec::new();
        assert_eq!(receive(ours.as_fd(), &mut buf, &mut fds).unwrap().len, 4, "nothing was taken before");
        assert_eq!(fds.len(), 1);
        drop(theirs);
        assert_eq!(take(ours.as_fd(), shared, &mut buf).unwrap(), Taken::Bytes(0));
    }

    /// Whoever shares a socket can have the kernel say more than fits, at the end of the stream as well.
    #[test]
    fn the_end_is_seen_where_credentials_come_with_it() {
        let shared = true;
        let (ours, theirs) = pair();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        let mut buf = [0; 16];
        write(&theirs, b"last", 0).unwrap();
        assert_eq!(take(ours.as_fd(), shared, &mut buf).unwrap(), Taken::Fds(4));
        assert_eq!(receive(ours.as_fd(), &mut buf, &mut Vec::new()).unwrap().len, 4);
        drop(theirs);
        assert_eq!(peek(ours.as_fd(), &mut buf).unwrap(), Peeked { len: 0, fds: false });
        assert_eq!(take(ours.as_fd(), shared, &mut buf).unwrap(), Taken::Bytes(0));
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    fn received(len: usize, fds: bool) -> Received {
        Received { len, fds, truncated: false }
    }

    #[test]
    fn one_and_all_and_one_too_many() {
        let (a, b) = pair();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        write(&a, b"1", 1).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), received(1, true));
        assert_eq!(fds.len(), 1);
        write(&a, b"all", MAX_FDS).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), received(3, true));
        assert_eq!(fds.len(), 1 + MAX_FDS);
        for fd in &fds {
            assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        }
        assert_eq!(write(&a, b"more", MAX_FDS + 1), Err(Errno::INVAL));
    }

    #[test]
    fn peek_is_exact() {
        let (a, b) = pair();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        write(&a, b"plain", 0).unwrap();
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap(), Peeked { len: 5, fds: false });
        write(&a, b"with", 2).unwrap();
        write(&a, b"after", 0).unwrap();
        // A full buffer says yes for what is behind it. Reading exactly these bytes is right either way.
        assert_eq!(peek(b.as_fd(), &mut buf[..5]).unwrap(), Peeked { len: 5, fds: true });
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap(), Peeked { len: 9, fds: true });
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap(), Peeked { len: 9, fds: true }); // nothing was taken
        assert_eq!(receive(b.as_fd(), &mut buf[..5], &mut fds).unwrap(), received(5, false));
        assert_eq!(receive(b.as_fd(), &mut buf[..2], &mut fds).unwrap(), received(2, true));
        assert_eq!(fds.len(), 2);
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap(), Peeked { len: 7, fds: false });
        assert_eq!(receive_plain(b.as_fd(), &mut buf).unwrap(), 7);
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(a);
        assert_eq!(peek(b.as_fd(), &mut buf).unwrap(), Peeked { len: 0, fds: false });
    }

    #[test]
    fn bulk_read_glues_what_comes_before() {
        let (a, b) = pair();
        let (mut buf, mut fds) = ([0; 16], Vec::new());
        write(&a, b"plain", 0).unwrap();
        write(&a, b"with", 1).unwrap();
        assert_eq!(receive(b.as_fd(), &mut buf, &mut fds).unwrap(), received(9, true));
    }

    #[test]
    fn received_descriptors_block() {
        let (a, b) = pair();
        let (sent, _other) = pair();
        sent.set_nonblocking(true).unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let borrowed = [sent.as_fd()];
        assert!(control.push(SendAncillaryMessage::ScmRights(&borrowed)));
        sendmsg(&a, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
        let mut fds = Vec::new();
        receive(b.as_fd(), &mut [0; 1], &mut fds).unwrap();
        assert!(!rustix::fs::fcntl_getfl(&fds[0]).unwrap().contains(OFlags::NONBLOCK));
    }
}
