//! The threads that close, and the one that starts them.
//!
//! A thread inherits what its starter is confined to. If closers started each other, each would be confined once more than the one
//! before, and the kernel has a limit for that. So one thread, the supervisor, does nothing but start the others; it is started by
//! who comes first, and ends after the last closer.

use std::io;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use thread_start::{Starter, ThreadKind};

use crate::queues::{MAX_THREADS, Queues};
use crate::{Closing, hooks};

/// What the threads are called.
const NAME: &str = "fd-closer";

/// Closing needs next to no stack, but hooks run here, which may put together a filter, or panic with a backtrace. Only what is
/// used of it is memory.
const STACK: usize = 256 * 1024;

/// How long a thread waits for more to do before it ends. As often it is tried again to start one, where that has failed.
pub const IDLE: Duration = Duration::from_secs(2);

struct Pool {
    state: Mutex<State>,
    /// Something waits: for an idle closer.
    work: Condvar,
    /// More threads may be wanted, or one has gone: for the supervisor.
    threads: Condvar,
}

struct State {
    queues: Queues<Closing>,
    /// Closers.
    threads: usize,
    idle: usize,
    /// A closer has been started that has not looked yet.
    starting: bool,
    /// The supervisor is there, or about to be.
    supervised: bool,
}

impl State {
    /// Whether nobody would look at what waits, but one more thread could.
    fn wants_thread(&self) -> bool {
        self.idle == 0 && !self.starting && self.threads < MAX_THREADS && self.queues.is_ready()
    }
}

static POOL: LazyLock<Pool> = LazyLock::new(|| Pool {
    state: Mutex::new(State {
        queues: Queues::new(),
        threads: 0,
        idle: 0,
        starting: false,
        supervised: false,
    }),
    work: Condvar::new(),
    threads: Condvar::new(),
});

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a descriptor closed by one of the threads. Starts one at most, the supervisor, which sees to it that there are others.
pub(crate) fn close(closing: Closing) {
    let mut state = POOL.lock();
    state.queues.push(closing.owner, closing);
    let supervise = !mem::replace(&mut state.supervised, true);
    look(state);
    if supervise && start(supervise_all).is_err() {
        // What comes next tries again: this may be a thread that must not wait.
        POOL.lock().supervised = false;
    }
}

/// Lets go of the state, then wakes whoever can do something about what waits, if anything may be done.
fn look(state: MutexGuard<'_, State>) {
    let someone_is_idle = state.idle > 0 && state.queues.is_ready();
    let one_more = state.wants_thread();
    drop(state);
    if someone_is_idle {
        POOL.work.notify_one();
    } else if one_more {
        POOL.threads.notify_one();
    }
}

/// Starts a thread, whose `body` learns whether its hooks have run. One that has panicked does not keep it from being: what would
/// stay open is worse.
fn start(body: fn(bool)) -> io::Result<()> {
    let announced = move || {
        // The hooks are let go of before anything can take long.
        let hooked = catch_unwind(AssertUnwindSafe(|| hooks::all().announce(ThreadKind::FdCloser, NAME)));
        body(hooked.is_ok());
    };
    let builder = thread::Builder::new().stack_size(STACK);
    Starter::default().start_with(builder, ThreadKind::FdCloser, NAME, announced).map(drop)
}

/// The supervisor.
fn supervise_all(_: bool) {
    let mut state = POOL.lock();
    loop {
        if state.wants_thread() {
            state.starting = true;
            state.threads += 1;
            drop(state);
            let started = start(run);
            state = POOL.lock();
            if started.is_err() {
                state.starting = false;
                state.threads -= 1;
                state = POOL.threads.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner).0;
            }
        } else if state.threads == 0 {
            // Nothing waits: without closers, all that does is ready.
            state.supervised = false;
            return;
        } else {
            state = POOL.threads.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// A closer: closes what waits, then waits for more, then ends. One whose hook has panicked closes one thing and ends.
fn run(hooked: bool) {
    let mut state = POOL.lock();
    state.starting = false;
    let mut closed = false;
    loop {
        let goes_on = hooked || !closed;
        if goes_on && let Some((owner, closing)) = state.queues.take() {
            let crowded = state.queues.is_crowded(owner);
            // This close may take for ever: others are to see to what else waits.
            look(state);
            let left = closing.close(crowded);
            state = POOL.lock();
            state.queues.done(owner);
            for closing in left {
                match closing.is_loose() {
                    true => state.queues.push_next(closing.owner, closing),
                    false => state.queues.push(closing.owner, closing),
                }
            }
            closed = true;
            continue;
        }
        if !hooked {
            break;
        }
        state.idle += 1;
        let (woken, timeout) = POOL.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() && !state.queues.is_ready() {
            break;
        }
    }
    // Under the same lock as the last look, so that what comes next does not count on this thread.
    state.threads -= 1;
    POOL.threads.notify_one();
}

#[cfg(test)]
mod tests {
    use super::*;
    use budget::Budget;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::task::Waker;

    /// A socket whose close blocks until its peer reads, and that peer.
    fn lingering() -> (OwnedFd, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, _) = listener.accept().unwrap();
        rustix::net::sockopt::set_socket_linger(&socket, Some(Duration::from_secs(60))).unwrap();
        socket.set_nonblocking(true).unwrap();
        while !matches!(socket.write(&[7; 65536]), Err(e) if e.kind() == ErrorKind::WouldBlock) {}
        socket.set_nonblocking(false).unwrap();
        (socket.into(), peer)
    }

    /// A unix socket with such a one unread in its queue, which nobody can tell not to linger.
    fn stuck() -> (OwnedFd, TcpStream) {
        let (lingering, peer) = lingering();
        let (carrier, keeper) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut space = [mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [std::os::fd::AsFd::as_fd(&lingering)];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [io::IoSlice::new(b"x")];
        rustix::net::sendmsg(&carrier, &bytes, &mut control, rustix::net::SendFlags::empty()).unwrap();
        (keeper.into(), peer)
    }

    /// Many closes that block do not hold up one that does not.
    #[test]
    fn stuck_closes_hold_up_neither_the_caller_nor_each_other() {
        let (stuck, peers): (Vec<_>, Vec<_>) = (0..40).map(|_| stuck()).unzip();
        stuck.into_iter().for_each(crate::close);
        let (mut reader, writer) = io::pipe().unwrap();
        crate::close(writer.into());
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        // Resetting them lets them go.
        drop(peers);
    }

    #[test]
    fn the_peer_of_one_that_was_read_to_its_end_sees_the_end() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        theirs.shutdown(std::net::Shutdown::Write).unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        // With a copy of it, its close ends nothing.
        let _copy = ours.try_clone().unwrap();
        crate::close_spent_connection(ours.into());
        assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn a_socket_that_is_closed_sends_what_it_had() {
        let (socket, mut peer) = lingering();
        crate::close(socket);
        let mut all = Vec::new();
        peer.read_to_end(&mut all).unwrap();
        assert!(!all.is_empty() && all.iter().all(|byte| *byte == 7));
    }

    /// A close that does not end keeps its charge; one that does gives it back.
    #[test]
    fn a_descriptor_is_charged_until_it_is_closed() {
        let budget = Budget::new(10);
        let holder = budget.holder(Waker::noop().clone());
        let ((stuck, peer), charge) = (stuck(), holder.account().charge(1));
        drop(crate::Received::charged(stuck, charge));
        let null = std::fs::File::open("/dev/null").unwrap();
        let quick = crate::Received::charged(null.into(), holder.account().charge(1));
        assert_eq!(budget.used(), 2);
        drop(quick);
        assert_eq!(budget.used(), 1);
        drop(holder);
        assert_eq!(budget.used(), 1, "it is still being closed");
        drop(peer);
        while budget.used() > 0 {
            thread::yield_now();
        }
    }
}
