//! Receiving from a unix socket so that no descriptor that the kernel hands over is lost.
//!
//! Descriptors do not only come as `SCM_RIGHTS`. Whoever shares a socket can set `SO_PASSPIDFD` on it (Linux 6.5), and from
//! then on the kernel installs a descriptor of the sender's process with each message that is received. A reader that
//! does not know of it leaks one each time. So the control messages are gone through here, and such descriptors closed.
//!
//! The buffer is on the stack. Callers: whoever reads from clients, with descriptors or without.

#![expect(
    unsafe_code,
    reason = "a number in a control message becomes an owned descriptor here, which has no safe way"
)]

use std::io::IoSliceMut;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use crate::room;

/// The most descriptors that one message can carry (`SCM_MAX_FD` of Linux).
pub const MAX_FDS: usize = 253;

/// The security label of a sender, which whoever shares the socket can ask for (`SO_PASSSEC`), is shorter.
const LABEL: usize = 512;

/// Room for a full message's descriptors, and for all else that whoever shares the socket can ask for: without room for
/// what comes first, descriptors are closed by the kernel, on this thread.
const ROOM: usize = rustix::cmsg_space!(ScmRights(MAX_FDS), ScmCredentials(1), ScmRights(1)) + LABEL;

/// The size of a control message that carries nothing.
const HEADER: usize = 16;

/// The level and the type of a message with a descriptor of the sender's process.
const SOL_SOCKET: i32 = 1;
const SCM_PIDFD: i32 = 4;

/// Aligned as the kernel wants control messages.
#[repr(C, align(8))]
struct Control<const N: usize>([MaybeUninit<u8>; N]);

/// Receives one message, or bytes of a stream up to descriptors. What came as `SCM_RIGHTS` is pushed, close-on-exec; other
/// descriptors are closed. Gives the number of bytes, and the kernel's flags: `CTRUNC` if not all descriptors came.
///
/// # Errors
/// What the kernel says.
pub fn receive(
    socket: BorrowedFd<'_>,
    buf: &mut [u8],
    flags: RecvFlags,
    fds: &mut Vec<OwnedFd>,
) -> rustix::io::Result<(usize, ReturnFlags)> {
    let before = fds.len();
    let mut space = Control([MaybeUninit::new(0); ROOM]);
    let mut control = RecvAncillaryBuffer::new(&mut space.0);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    drop(control);
    room::took(fds.len() - before);
    // SAFETY: all bytes were zero to begin with, and the kernel has written bytes.
    let written = unsafe { &*(&raw const space.0).cast::<[u8; ROOM]>() };
    for number in pidfds(written) {
        // SAFETY: the kernel has just made this descriptor for us, and the loop above did not take it. The buffer was zero,
        // so there is nothing in it but what the kernel has written.
        // A close of such a descriptor never waits, and no client has a say in it.
        drop(unsafe { OwnedFd::from_raw_fd(number) });
    }
    Ok((received.bytes, received.flags))
}

/// Looks at what can be received without taking it, and says how many bytes that is and whether descriptors come with it: if not,
/// then certainly not with those bytes.
///
/// With a control buffer that holds a header and no descriptor, the kernel reports truncation (`MSG_CTRUNC`) exactly
/// if there were descriptors to deliver, and installs none. A buffer of size zero would not do: it is taken for "not
/// interested". When the buffer is full the kernel goes on looking through what is queued behind, up to the first write
/// with descriptors, so the answer can be "yes" for a write that is not shown; never "no" for one that is. It is "yes" too
/// where whoever shares the socket has asked for credentials or the like: they do not fit either. The kernel has those at the end
/// of a stream, too, where there are no descriptors for certain: they come with bytes only.
///
/// # Errors
/// What the kernel says.
pub fn peek(socket: BorrowedFd<'_>, buf: &mut [u8]) -> rustix::io::Result<(usize, bool)> {
    let mut space = Control([MaybeUninit::uninit(); HEADER]);
    let mut control = RecvAncillaryBuffer::new(&mut space.0);
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let seen = recvmsg(socket, &mut [IoSliceMut::new(buf)], &mut control, flags)?;
    Ok((seen.bytes, seen.bytes > 0 && seen.flags.contains(ReturnFlags::CTRUNC)))
}

/// Has a connected unix socket deliver what is urgent (`MSG_OOB`) where it stands, like all else. To be called before anything is
/// read, or looked at. Otherwise the next read skips a byte that was sent so, and closes, on this thread, what descriptors came with
/// it; and a look does not see them. Whoever else has the socket can undo it.
pub fn take_urgent_in_line(socket: BorrowedFd<'_>) {
    // An error says that it is no such socket, to which nothing urgent comes.
    let _ = rustix::net::sockopt::set_socket_oobinline(socket, true);
}

/// The numbers in the messages that carry a descriptor of a process. Behind the last message there are zeros.
fn pidfds(mut control: &[u8]) -> impl Iterator<Item = RawFd> {
    const WORD: usize = size_of::<usize>();
    const HEADER: usize = WORD + 8;
    let number = |bytes: &[u8], at: usize| Some(i32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    std::iter::from_fn(move || {
        loop {
            let len = usize::from_ne_bytes(control.get(..WORD)?.try_into().ok()?);
            let message = control.get(..len).filter(|_| len >= HEADER)?;
            control = control.get(len.next_multiple_of(WORD)..).unwrap_or_default();
            if (number(message, WORD)?, number(message, WORD + 4)?) == (SOL_SOCKET, SCM_PIDFD) {
                return number(message, HEADER);
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: i32, data: &[u8]) -> Vec<u8> {
        let len = size_of::<usize>() + 8 + data.len();
        let mut bytes =
            [&len.to_ne_bytes()[..], &SOL_SOCKET.to_ne_bytes(), &kind.to_ne_bytes(), data].concat();
        bytes.resize(bytes.len().next_multiple_of(size_of::<usize>()), 0);
        bytes
    }

    #[test]
    fn finds_processes_among_other_messages() {
        let rights = message(1, &[9, 0, 0, 0, 8, 0, 0, 0, 7, 0, 0, 0]);
        let (credentials, process) = (message(2, &[1; 12]), message(SCM_PIDFD, &77_i32.to_ne_bytes()));
        let all = [&credentials[..], &rights, &process, &[0; 64]].concat();
        assert_eq!(pidfds(&all).collect::<Vec<_>>(), [77]);
        assert_eq!(pidfds(&[&process[..], &rights, &process].concat()).collect::<Vec<_>>(), [77, 77]);
        assert_eq!(pidfds(&rights).count() + pidfds(&[0; 64]).count() + pidfds(&[]).count(), 0);
        assert_eq!(pidfds(&process[..process.len() - 5]).count(), 0, "cut off");
    }
}
