//! Which system calls the library's threads make, and why: for filters.
//!
//! Recorded over the integration tests with glibc 2.36 on x86-64, and read from the code for what happens seldom. Names are those of
//! all architectures and of both C libraries: where a kernel has no `poll`, it is `ppoll` that is called; where the C library is
//! musl, `clone` and not `clone3`. What musl, older versions of glibc and other architectures call is read from their sources, and
//! not tested. What a program's own handlers, devices and subscriber call comes on top.
//!
//! This is the one list: `docs/SECCOMP.md` shows it (a test compares), and `vmmd -sandbox on` enforces it.

use crate::ThreadKind::{self, Acceptor, Blocking, FdCloser, Helper, IoThread, Plane};

/// A system call, and who makes it for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemCall {
    /// Its name, as in `man 2 syscalls`.
    pub name: &'static str,
    /// The kinds of threads that make it.
    pub kinds: &'static [ThreadKind],
    /// What for.
    pub reason: &'static str,
    /// It may be answered with an error (`EACCES`, say) instead of being made: who makes it goes on without.
    pub optional: bool,
}

const fn call(name: &'static str, kinds: &'static [ThreadKind], reason: &'static str) -> SystemCall {
    SystemCall { name, kinds, reason, optional: false }
}

const fn optional(name: &'static str, kinds: &'static [ThreadKind], reason: &'static str) -> SystemCall {
    SystemCall { name, kinds, reason, optional: true }
}

const ALL: &[ThreadKind] = &ThreadKind::ALL;
const NOT_CLOSER: &[ThreadKind] = &[Plane, Blocking, IoThread, Helper];
/// Who may be the last to have a listener, and gives it up then.
const LAST_OWNERS: &[ThreadKind] = &[Plane, Blocking, IoThread, Acceptor, Helper];
const NOT_BLOCKING: &[ThreadKind] = &[Plane, IoThread, FdCloser, Acceptor, Helper];
const BACKTRACE: &str = "a panic's backtrace (`RUST_BACKTRACE=1`)";
const PLANE: &[ThreadKind] = &[Plane];
const PLANE_BLOCKING: &[ThreadKind] = &[Plane, Blocking];
const PLANE_BLOCKING_IO: &[ThreadKind] = &[Plane, Blocking, IoThread];
const PLANE_IO: &[ThreadKind] = &[Plane, IoThread];
const BLOCKING: &[ThreadKind] = &[Blocking];
const BLOCKING_IO: &[ThreadKind] = &[Blocking, IoThread];
const DEVICES: &[ThreadKind] = &[Blocking, IoThread, Helper];
const IO: &[ThreadKind] = &[IoThread];

/// All of them, by what they are for. A name can come twice, for different kinds.
pub const SYSTEM_CALLS: &[SystemCall] = &[
    // Any thread.
    call("brk", ALL, "glibc: gives back memory that the main thread had allocated"),
    call("clock_gettime", ALL, "the time, where the vDSO cannot tell it"),
    call("clone", ALL, "starts a thread (musl, and glibc where `clone3` is answered with `ENOSYS`)"),
    call("clone3", ALL, "starts a thread (glibc)"),
    call("close", ALL, "descriptors"),
    call("exit", ALL, "the thread's end"),
    call("exit_group", ALL, "the C library: `abort`, where the signal has not ended the process"),
    call(
        "fcntl",
        ALL,
        "flags and duplicates of descriptors, seals of memory; in debug builds, whether what is closed is open",
    ),
    call("futex", ALL, "locks, condition variables, joining threads"),
    call("getpid", ALL, "whether memory or a signal is this process's"),
    call("getrandom", ALL, "keys of hash maps; malloc's of musl"),
    call("gettid", ALL, "the thread's own id"),
    call(
        "madvise",
        ALL,
        "gives back a stack at the thread's end, a heap's end; memory that children shall not inherit",
    ),
    call("mmap", ALL, "memory: heaps, stacks of threads, a client's memory"),
    call("mprotect", ALL, "heaps grow, stacks get their guard pages"),
    call("mremap", ALL, "large blocks of memory grow"),
    call("munmap", ALL, "memory"),
    call("prctl", ALL, "the thread's name (`PR_SET_NAME`), the size of a page (`PR_GET_AUXV`)"),
    call(
        "restart_syscall",
        ALL,
        "the kernel's own, after a wait that a stop (SIGSTOP, a debugger) interrupted",
    ),
    call("rseq", ALL, "glibc: a thread starts"),
    call("rt_sigaction", ALL, "Rust: after a fault that was no stack overflow"),
    call(
        "rt_sigprocmask",
        ALL,
        "a thread starts with signals blocked; the C library starts and ends threads",
    ),
    call("rt_sigreturn", ALL, "the end of a signal handler"),
    call("sched_getaffinity", ALL, "glibc: where a thread's stack is; CPUs of an iothread"),
    call("sched_yield", ALL, "a lock is contended for"),
    call("set_robust_list", ALL, "the C library: a thread starts"),
    call(
        "sigaltstack",
        ALL,
        "Rust: a thread starts and ends, with a stack for the report of a stack overflow",
    ),
    call("tgkill", ALL, "`abort`"),
    call("write", ALL, "wakes another thread up (an eventfd); a panic's message"),
    optional(
        "openat",
        NOT_BLOCKING,
        "glibc's malloc: the number of CPUs (`/sys/devices/system/cpu/online`), once in a process; a panic's backtrace",
    ),
    optional("getcwd", NOT_BLOCKING, BACKTRACE),
    optional("readlink", NOT_BLOCKING, BACKTRACE),
    // Waiting.
    call("epoll_create1", PLANE_BLOCKING, "a runtime, an iothread, a device's context is made"),
    call("epoll_ctl", LAST_OWNERS, "which descriptors are waited for"),
    call("epoll_pwait", PLANE_IO, "waits"),
    call("epoll_wait", PLANE_IO, "waits"),
    call("eventfd2", PLANE_BLOCKING_IO, "an iothread is made; a client's interrupt"),
    call("poll", BLOCKING, "names are resolved"),
    call(
        "ppoll",
        PLANE_BLOCKING_IO,
        "whether a descriptor is ready, without waiting; names are resolved (`poll`, where a kernel has none)",
    ),
    call("read", PLANE_BLOCKING_IO, "eventfds, timers, files, fifos, terminals"),
    call("timerfd_create", BLOCKING, "a device's context is made"),
    call("timerfd_settime", IO, "a device's deadline"),
    // Sockets.
    call("accept4", &[Plane, IoThread, Acceptor], "clients"),
    call("bind", PLANE_BLOCKING, "listens; names are resolved"),
    call("connect", PLANE_BLOCKING, "connects; whether somebody listens on a path that is to be taken over"),
    call("getpeername", PLANE, "who a client is"),
    call("getsockname", PLANE_BLOCKING, "where a socket listens; names are resolved"),
    call(
        "getsockopt",
        ALL,
        "a client's credentials, a passed socket's type, how a connection went; whose a socket is that is closed",
    ),
    call("listen", PLANE_BLOCKING, "listens"),
    call("recvfrom", PLANE_BLOCKING, "requests"),
    call(
        "recvmsg",
        &[Plane, Blocking, IoThread, FdCloser],
        "requests with descriptors; descriptors that nobody has read are closed one by one",
    ),
    call("sendmsg", IO, "replies with descriptors"),
    call("sendto", PLANE_BLOCKING_IO, "replies, events"),
    call(
        "setsockopt",
        ALL,
        "credentials, keep-alive, no delay, urgent bytes in line; a socket that is closed does not linger",
    ),
    call("shutdown", ALL, "hangs up"),
    call("socket", PLANE_BLOCKING, "listens, connects; names are resolved"),
    call(
        "socketpair",
        PLANE_IO,
        "an end for a session of the process's own; the socket for DMA of a client that asks for one",
    ),
    // Files.
    call("fchmod", PLANE_BLOCKING, "a unix socket is its owner's alone before it has a name"),
    call("fstat", BLOCKING_IO, "what kind of file was passed or opened; the C library reads its files"),
    call("ftruncate", BLOCKING_IO, "the size of memory that is made to be shared"),
    call("ioctl", PLANE_BLOCKING, "a terminal's settings and whose it is; descriptors that do not block"),
    call("memfd_create", BLOCKING_IO, "memory to be shared"),
    call("newfstatat", NOT_CLOSER, "whether a socket's file is still the one that was made"),
    call("stat", NOT_CLOSER, "the same, and what the C library reads (musl, older glibc)"),
    call("lstat", NOT_CLOSER, "the same"),
    call(
        "statx",
        ALL,
        "whether a socket's file is still the one that was made; what kind of file was passed, opened or is closed; how many \
         descriptors there are",
    ),
    call("unlink", NOT_CLOSER, "removes a socket's file"),
    call("unlinkat", NOT_CLOSER, "the same"),
    call("fchmodat", BLOCKING, "as `fchmod`, where a socket's file is to be everybody's"),
    call("chmod", BLOCKING, "the same"),
    call("geteuid", PLANE_BLOCKING, "whose clients may connect"),
    call("getpgrp", PLANE, "whether a terminal is ours to set"),
    call("getpgid", PLANE, "the same"),
    call("open", BLOCKING, "files and fifos of chardevs"),
    call("openat", BLOCKING, "the same; what the host is like; names are resolved"),
    call("openat2", BLOCKING, "files of chardevs, where links are not followed"),
    call("getcwd", BLOCKING, "a relative path, in full"),
    call("readlink", BLOCKING, "names are resolved: whether `/etc/resolv.conf` is a link"),
    call("readlinkat", IO, "whether a descriptor is an eventfd, where the kernel has no asynchronous I/O"),
    call("lseek", BLOCKING, "the C library reads its files"),
    call(
        "prlimit64",
        &[Plane, IoThread, FdCloser],
        "how large a file may be, how many descriptors there may be",
    ),
    // A client's memory.
    call("fallocate", IO, "memory of a device is set to zero"),
    call("fstatfs", BLOCKING_IO, "what file system memory is on"),
    call(
        "io_destroy",
        DEVICES,
        "a client's eventfds are signalled by the kernel's asynchronous I/O, so that nobody waits",
    ),
    call("io_getevents", IO, "the same"),
    call("io_setup", IO, "the same"),
    call("io_submit", IO, "the same"),
    call(
        "pread64",
        BLOCKING_IO,
        "memory that could shrink under a load; the C library loads modules that resolve names",
    ),
    call("preadv2", PLANE_IO, "a pipe, an eventfd is read without waiting"),
    call("pwritev2", PLANE, "a pipe is written without waiting"),
    call(
        "process_vm_writev",
        IO,
        "memory that could shrink under a store: our own, with an error instead of a signal",
    ),
    call("pwrite64", IO, "memory that could shrink under a store"),
    call("sched_setaffinity", BLOCKING, "an iothread's `cpu-affinity`"),
    // Resolving names.
    call("recvmmsg", BLOCKING, "the same"),
    call("sendmmsg", BLOCKING, "the same"),
    call("uname", BLOCKING, "the same"),
];

/// [`SYSTEM_CALLS`] as a table in Markdown: `x` for who makes a call, `(x)` where it is [optional](SystemCall::optional).
#[must_use]
pub fn markdown() -> String {
    let kinds = ThreadKind::ALL.map(|kind| format!(" {kind} |")).concat();
    let mut table =
        format!("| system call |{kinds} what for |\n|---|{}---|\n", "---|".repeat(ThreadKind::ALL.len()));
    for call in SYSTEM_CALLS {
        let mark = if call.optional { " (x) |" } else { " x |" };
        let marks = ThreadKind::ALL.map(|kind| if call.kinds.contains(&kind) { mark } else { " |" }).concat();
        table.push_str(&format!("| `{}` |{marks} {} |\n", call.name, call.reason));
    }
    table
}

impl ThreadKind {
    /// The system calls that threads of this kind make. Those that start a thread are made by its starter, up to the hook: see
    /// [`starts`](Self::starts).
    pub fn system_calls(self) -> impl Iterator<Item = &'static SystemCall> {
        SYSTEM_CALLS.iter().filter(move |call| call.kinds.contains(&self))
    }

    /// The kinds of threads that such a thread starts. They inherit its filter, and whatever filter they add, it remains.
    #[must_use]
    pub const fn starts(self) -> &'static [Self] {
        match self {
            Plane => &[Blocking, IoThread, FdCloser, Acceptor, Helper],
            Blocking => &[IoThread, FdCloser, Acceptor, Helper],
            IoThread => &[FdCloser, Acceptor],
            FdCloser | Acceptor | Helper => &[FdCloser],
        }
    }

    /// The system calls that a filter on such a thread has to allow: its own, and those of all threads that it starts and that they
    /// start. Sorted by name; a call that one of them cannot do without is not [optional](SystemCall::optional) here.
    #[must_use]
    pub fn filter(self) -> Vec<&'static SystemCall> {
        let mut kinds = vec![self];
        let mut looked = 0;
        while let Some(kind) = kinds.get(looked) {
            let more: Vec<_> = kind.starts().iter().filter(|kind| !kinds.contains(kind)).collect();
            kinds.extend(more);
            looked += 1;
        }
        let mut calls: Vec<_> = kinds.into_iter().flat_map(Self::system_calls).collect();
        calls.sort_by_key(|call| (call.name, call.optional));
        calls.dedup_by_key(|call| call.name);
        calls
    }
}
