//! `-sandbox on`: each thread of the process may make only the system calls that it is there for.
//!
//! [`turn_on`] is called by `main` before there is any other thread. It confines the main thread, whose filter all threads inherit. Each
//! thread calls [`enter`] as it starts, which adds the filter of its [`Role`]. Filters only ever add up: what a thread may do, those
//! that start it must be allowed too, so that the filters grow from the threads that do one thing to the main thread:
//!
//! ```text
//! fd-closer < acceptor < iothread < blocking < worker < main
//! fd-closer < helper < blocking
//! fd-closer < virtual CPU, log < main
//! ```
//!
//! What the library's threads call is said by the library, in [`thread_start::SYSTEM_CALLS`](vmm_control::thread_start::SYSTEM_CALLS);
//! what `vmmd`'s own do is in `calls`, which arguments are allowed in `arguments`. A call that is not allowed ends the process, by SIGSYS, with a line that says which one it
//! was (`refused`).
//!
//! This is the process's, as filters and the signal are. Without [`turn_on`], [`enter`] does nothing.

mod arguments;
mod calls;
mod refused;

use std::collections::BTreeMap;
use std::io;
use std::sync::OnceLock;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch, apply_filter};
use syscalls::Sysno;
use vmm_control::ThreadKind;

use crate::config::SandboxConfig;

/// What a thread of `vmmd` is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The first thread: opens what the command line names, and ends the process.
    Main,
    /// A thread of the library's kinds. The workers of the runtime are its [`ThreadKind::Plane`].
    Library(ThreadKind),
    /// A virtual CPU.
    Vcpu,
    /// Writes the log.
    Log,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// Nobody has written filters for this architecture.
    #[error("-sandbox on does not know the system calls of {}", std::env::consts::ARCH)]
    Architecture,
    /// A filter cannot be made.
    #[error("a system call filter cannot be made: {0}")]
    Filter(#[from] seccompiler::BackendError),
    /// The kernel does not take it.
    #[error("the kernel takes no system call filter: {0}")]
    Install(#[from] seccompiler::Error),
    /// Refused calls cannot be reported.
    #[error("SIGSYS cannot be handled: {0}")]
    Handler(io::Error),
    /// It is on already.
    #[error("the sandbox is on already")]
    Again,
}

/// The filters that threads add as they start.
struct Programs(Vec<(Role, BpfProgram)>);

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

/// Confines the calling thread, and with it all that it starts, if `config` asks for that.
///
/// # Errors
/// This machine has no filters, or we have none for it.
pub fn turn_on(config: &SandboxConfig) -> Result<(), SandboxError> {
    if !config.enable {
        return Ok(());
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|_| SandboxError::Architecture)?;
    let roles = ThreadKind::ALL.into_iter().map(Role::Library).chain([Role::Main, Role::Vcpu, Role::Log]);
    let made: Result<Vec<_>, SandboxError> =
        roles.map(|role| programs(role, refusal(config), arch)).collect();
    let made = Programs(made?.into_iter().flatten().collect());
    let no_clone3 = no_clone3(arch)?;
    refused::install().map_err(SandboxError::Handler)?;
    apply_filter(&no_clone3)?;
    made.apply(Role::Main)?;
    PROGRAMS.set(made).map_err(|_| SandboxError::Again)
}

/// Confines the calling thread further, to what `role` needs. For threads that have just started.
///
/// The process ends when that cannot be: the thread was counted on to be confined.
pub fn enter(role: Role) {
    let Some(programs) = PROGRAMS.get() else { return };
    if let Err(error) = programs.apply(role) {
        refused::say(format_args!("vmmd: a {role:?} thread cannot be confined: {error}\n"));
        std::process::abort();
    }
}

impl Programs {
    fn apply(&self, role: Role) -> Result<(), seccompiler::Error> {
        self.0.iter().filter(|(of, _)| *of == role).try_for_each(|(_, program)| apply_filter(program))
    }
}

/// What becomes of a call that is not allowed.
fn refusal(config: &SandboxConfig) -> SeccompAction {
    if config.log { SeccompAction::Log } else { SeccompAction::Trap }
}

/// The filters of `role`: one that refuses all other calls, and one that answers those with an error that can do without.
fn programs(
    role: Role,
    refusal: SeccompAction,
    arch: TargetArch,
) -> Result<Vec<(Role, BpfProgram)>, SandboxError> {
    let (mut allowed, mut answered) = (BTreeMap::new(), BTreeMap::new());
    for (name, optional) in calls::of(role) {
        // Names that this architecture does not have are others' way to do the same.
        let Ok(call) = name.parse::<Sysno>() else { continue };
        allowed.insert(i64::from(call.id()), arguments::allowed(call, role)?);
        if optional {
            answered.insert(i64::from(call.id()), Vec::new());
        }
    }
    let mut programs = vec![SeccompFilter::new(allowed, refusal, SeccompAction::Allow, arch)?.try_into()?];
    if !answered.is_empty() {
        programs.push(answer(answered, libc::EACCES, arch)?);
    }
    Ok(programs.into_iter().map(|program| (role, program)).collect())
}

/// Answers these calls with an error.
fn answer(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    errno: i32,
    arch: TargetArch,
) -> Result<BpfProgram, SandboxError> {
    let error = SeccompAction::Errno(errno.unsigned_abs());
    Ok(SeccompFilter::new(calls, SeccompAction::Allow, error, arch)?.try_into()?)
}

/// Has the C library start threads by `clone`, whose flags a filter can see, instead of `clone3`, whose it cannot.
fn no_clone3(arch: TargetArch) -> Result<BpfProgram, SandboxError> {
    answer([(i64::from(Sysno::clone3.id()), Vec::new())].into(), libc::ENOSYS, arch)
}
