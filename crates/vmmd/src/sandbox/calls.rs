//! The names of the calls that each role may make.

use vmm_control::ThreadKind;

use super::Role;

/// What every thread may do on top: confine itself as it starts, report a refused call and die of it.
const EVERY: &[&str] = &["gettid", "getpid", "poll", "ppoll", "prctl", "seccomp", "tgkill", "write"];

/// What the first thread does on top of what all others do: it lets go of a terminal and a directory (`-daemonize`), resolves links on
/// the way to the time zone and the pid file, makes the runtime, and ends the process.
const MAIN: &[&str] = &["chdir", "dup2", "dup3", "exit_group", "readlink", "readlinkat"];

/// The names of a role's calls, and whether a filter may answer them with an error.
pub(super) fn of(role: Role) -> impl Iterator<Item = (&'static str, bool)> {
    let (kind, more) = match role {
        Role::Main => (ThreadKind::Plane, MAIN),
        Role::Library(kind) => (kind, &[][..]),
        // They wait, write, and could drop a descriptor: what a thread can do without which there is none.
        Role::Vcpu | Role::Log => (ThreadKind::FdCloser, &[][..]),
    };
    let library = kind.filter().into_iter().map(|call| (call.name, call.optional));
    let own = more.iter().chain(EVERY).map(|name| (*name, false));
    library.chain(own)
}
