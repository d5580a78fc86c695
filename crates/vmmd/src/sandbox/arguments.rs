//! Which arguments a call may have, where a filter can see them and it matters.

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCondition, SeccompRule};
use syscalls::Sysno;
use vmm_control::ThreadKind;

use super::Role;

type Rules = Result<Vec<SeccompRule>, BackendError>;

/// Families of sockets. Netlink is how the C library learns which addresses this host has, before it resolves a name.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// What files and sockets are asked by `ioctl`: a terminal's settings and whether there is one, how many bytes wait,
/// close-on-exec and not to block.
const REQUESTS: [u64; 13] = [
    libc::TCGETS as _,
    libc::TCSETS as _,
    libc::TCSETSW as _,
    libc::TCSETSF as _,
    // The same with any speed of the line.
    libc::TCGETS2 as _,
    libc::TCSETS2 as _,
    libc::TCSETSW2 as _,
    libc::TCSETSF2 as _,
    libc::TIOCGPGRP as _,
    libc::FIONREAD as _,
    libc::TIOCOUTQ as _,
    libc::FIONBIO as _,
    libc::FIOCLEX as _,
];

/// What a thread says of itself: its name (also that of its memory, where the C library does that), and that it wants no rights by `exec`.
const OPTIONS: [i32; 5] =
    [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_NO_NEW_PRIVS, libc::PR_SET_VMA, PR_GET_AUXV];

/// Not yet known to `libc`: what the kernel told the program of the machine.
const PR_GET_AUXV: i32 = 0x4155_5856;

/// The rules one of which a call's arguments must obey. None: any will do.
pub(super) fn allowed(call: Sysno, role: Role) -> Rules {
    let me = u64::from(std::process::id());
    match call {
        Sysno::socket | Sysno::socketpair => one_of(0, FAMILIES.map(bits)),
        Sysno::ioctl => one_of(1, REQUESTS),
        Sysno::prctl => one_of(0, OPTIONS.map(bits)),
        // A thread, not a process.
        Sysno::clone => Ok(vec![rule(vec![set(0, Qword, bits(libc::CLONE_THREAD))?])?]),
        // One's own limits and memory, and signals to oneself.
        Sysno::prlimit64 => Ok(vec![rule(vec![is(0, 0)?, condition(2, Qword, Eq, 0)?])?]),
        Sysno::tgkill | Sysno::process_vm_writev | Sysno::process_vm_readv => one_of(0, [me]),
        Sysno::seccomp => Ok(vec![rule(vec![is(0, u64::from(libc::SECCOMP_SET_MODE_FILTER))?, is(1, 0)?])?]),
        // No new code. Name resolution loads its modules, so threads that may resolve names, and those that start them, may.
        Sysno::mmap | Sysno::mprotect if !loads_code(role) => {
            Ok(vec![rule(vec![condition(2, Dword, MaskedEq(bits(libc::PROT_EXEC)), 0)?])?])
        }
        _ => Ok(Vec::new()),
    }
}

/// Whether threads of this role resolve names, or start those that do.
fn loads_code(role: Role) -> bool {
    matches!(role, Role::Main | Role::Library(ThreadKind::Plane | ThreadKind::Blocking))
}

fn one_of<const N: usize>(argument: u8, values: [u64; N]) -> Rules {
    values.into_iter().map(|value| rule(vec![is(argument, value)?])).collect()
}

fn rule(conditions: Vec<SeccompCondition>) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions)
}

/// An argument of 32 bits is this.
fn is(argument: u8, value: u64) -> Result<SeccompCondition, BackendError> {
    condition(argument, Dword, Eq, value)
}

/// An argument has these bits.
fn set(argument: u8, len: SeccompCmpArgLen, bits: u64) -> Result<SeccompCondition, BackendError> {
    condition(argument, len, MaskedEq(bits), bits)
}

fn condition(
    argument: u8,
    len: SeccompCmpArgLen,
    op: SeccompCmpOp,
    value: u64,
) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, len, op, value)
}

/// A constant of C's, none of which is negative.
fn bits(constant: i32) -> u64 {
    u64::from(constant.unsigned_abs())
}
