//! Which arguments a call may have, where a filter can see them and it matters.

use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{self, Eq, MaskedEq};
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCondition, SeccompRule};
use syscalls::Sysno;
use vmm_control::ThreadKind;

use super::Role;

type Rules = Result<Vec<SeccompRule>, BackendError>;

/// Constants of C's, each with its name, none of which is negative.
macro_rules! named {
    ($($name:ident),* $(,)?) => { [$((stringify!($name), libc::$name as u64)),*] };
}

/// Families of sockets. Netlink is how the C library learns which addresses this host has, before it resolves a name.
const FAMILIES: [(&str, u64); 4] = named![AF_UNIX, AF_INET, AF_INET6, AF_NETLINK];

/// What files and sockets are asked by `ioctl`: a terminal's settings and whether there is one, how many bytes wait,
/// close-on-exec and not to block.
/// (`TCGETS2` and the like are for any speed of the line.)
const REQUESTS: [(&str, u64); 13] = named![
    TCGETS, TCSETS, TCSETSW, TCSETSF, TCGETS2, TCSETS2, TCSETSW2, TCSETSF2, TIOCGPGRP, FIONREAD, TIOCOUTQ,
    FIONBIO, FIOCLEX
];

/// What a thread says of itself: its name (also that of its memory, where the C library does that), and that it wants no rights by
/// `exec`; and what the kernel told the program of the machine.
const OPTIONS: [(&str, u64); 5] = {
    let [name, named, no_new_privs, vma] = named![PR_SET_NAME, PR_GET_NAME, PR_SET_NO_NEW_PRIVS, PR_SET_VMA];
    // Not yet known to `libc`.
    [name, named, no_new_privs, vma, ("PR_GET_AUXV", 0x4155_5856)]
};

/// The rules one of which a call's arguments must obey. None: any will do.
pub(super) fn allowed(call: Sysno, role: Role) -> Rules {
    let me = u64::from(std::process::id());
    match call {
        Sysno::socket | Sysno::socketpair => one_of(0, values(FAMILIES)),
        Sysno::ioctl => one_of(1, values(REQUESTS)),
        Sysno::prctl => one_of(0, values(OPTIONS)),
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

fn values<const N: usize>(named: [(&str, u64); N]) -> [u64; N] {
    named.map(|(_, value)| value)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Whoever copies the document's rows allows what we do.
    #[test]
    fn the_document_names_the_same_arguments() {
        let document = include_str!("../../../../docs/SECCOMP.md");
        for (call, ours) in [("socket", &FAMILIES[..]), ("ioctl", &REQUESTS), ("prctl", &OPTIONS)] {
            let head = format!("| `{call}` | ");
            // The rows of the large table begin likewise, with who makes the call.
            let row = document
                .lines()
                .find(|line| line.strip_prefix(&head).is_some_and(|rest| rest.starts_with('`')));
            let words = row.unwrap().strip_prefix(&head).unwrap().split('`').skip(1).step_by(2);
            let theirs: BTreeSet<_> = words.filter(|word| **word == word.to_uppercase()).collect();
            assert_eq!(theirs, ours.iter().map(|(name, _)| *name).collect(), "{call}");
        }
    }
}
