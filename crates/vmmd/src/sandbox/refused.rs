//! What happens when a filter refuses a system call: the kernel raises SIGSYS on the thread, which says what it was about and lets the
//! process die of the signal, as it would have without a handler.

#![expect(unsafe_code, reason = "a signal handler, and what the kernel tells it, have no safe wrapper")]

use std::fmt::{self, Write};
use std::{io, mem, ptr};

use libc::{c_int, c_long, c_void, siginfo_t};
use syscalls::Sysno;

/// The beginning of what `siginfo_t` holds for SIGSYS on machines of 64 bits (`man 2 sigaction`), which `libc` does not know.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _pad: c_int,
    address: *mut c_void,
    call: c_int,
    arch: u32,
}

/// `si_code` for a signal that a filter has raised.
const SYS_SECCOMP: c_int = 1;

const _: () = assert!(size_of::<Info>() <= size_of::<siginfo_t>());

/// Has refused calls reported.
pub(super) fn install() -> io::Result<()> {
    // SAFETY: all zeros are a `sigaction`: no flags, no signal blocked meanwhile, no handler.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = refused;
    action.sa_sigaction = handler as usize;
    // Once: the same signal again, from whichever thread, ends the process.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESETHAND | libc::SA_NODEFER | libc::SA_ONSTACK;
    // SAFETY: `action` is valid, and its handler does nothing that a signal handler may not do: it calls the system and writes to
    // memory of its own.
    if unsafe { libc::sigaction(libc::SIGSYS, &raw const action, ptr::null_mut()) } == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

extern "C" fn refused(_: c_int, info: *mut siginfo_t, _: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel hands in a `siginfo_t`, which is at least as large as `Info` and aligned as it.
    let Info { code, call, .. } = unsafe { ptr::read(info.cast::<Info>()) };
    if code == SYS_SECCOMP {
        let mut name = [0_u8; 16];
        // SAFETY: the kernel writes at most 16 bytes, the last of which is 0.
        unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
        let thread =
            name.split(|byte| *byte == 0).next().and_then(|name| str::from_utf8(name).ok()).unwrap_or("?");
        let known = usize::try_from(call).ok().and_then(Sysno::new).map_or("unknown", |call| call.name());
        say(format_args!("vmmd: -sandbox: thread '{thread}' may not make system call {call} ({known})\n"));
    }
    // SAFETY: these take numbers only. The handler is gone by now, so this ends the process.
    unsafe {
        libc::syscall(
            libc::SYS_tgkill,
            c_long::from(libc::getpid()),
            libc::syscall(libc::SYS_gettid),
            c_long::from(libc::SIGSYS),
        );
    }
}

/// Writes a line of less than 256 bytes to standard error, if somebody takes it at once. Allocates nothing.
pub(super) fn say(text: fmt::Arguments<'_>) {
    let mut line = Line { bytes: [0; 256], len: 0 };
    // Cut off where it is too long.
    let _ = line.write_fmt(text);
    let mut stderr = libc::pollfd { fd: 2, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one `pollfd` is given, and as many bytes as there are in the line. A pipe that is ready has room for the line.
    unsafe {
        if libc::poll(&raw mut stderr, 1, 0) == 1 {
            libc::write(2, line.bytes.as_ptr().cast(), line.len);
        }
    }
}

struct Line {
    bytes: [u8; 256],
    len: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.len..];
        let taken = text.len().min(room.len());
        room[..taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.len += taken;
        if taken == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}
