//! The threads that close.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use thread_start::ThreadKind;

use crate::{Closing, hooks};

/// Closes that may be stuck at once before further ones wait behind them. Each keeps a descriptor of the process's busy,
/// of which there are seldom many more.
pub const MAX_THREADS: usize = 1024;

/// What the threads are called.
const NAME: &str = "fd-closer";

/// Closing needs next to no stack.
const STACK: usize = 64 * 1024;

/// How long a thread waits for more to do before it ends.
pub const IDLE: Duration = Duration::from_secs(2);

struct Pool {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Closing>,
    threads: usize,
    idle: usize,
    /// A thread has been started that has not looked yet.
    starting: bool,
}

impl State {
    /// Whether nobody would look at what waits, but one more thread could. To be followed by [`start`].
    fn wants_thread(&mut self) -> bool {
        let wants =
            !self.waiting.is_empty() && self.idle == 0 && !self.starting && self.threads < MAX_THREADS;
        if wants {
            self.starting = true;
            self.threads += 1;
        }
        wants
    }
}

static POOL: Pool = Pool {
    state: Mutex::new(State { waiting: VecDeque::new(), threads: 0, idle: 0, starting: false }),
    work: Condvar::new(),
};

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has a descriptor closed by one of the threads. Starts one at most, however many descriptors come in a row: each thread
/// sees to it that there is another before it closes something.
pub(crate) fn close(closing: Closing) {
    let mut state = POOL.lock();
    state.waiting.push_back(closing);
    let start_one = state.wants_thread();
    drop(state);
    if start_one { start() } else { POOL.work.notify_one() }
}

/// Starts the thread that was counted already.
fn start() {
    let (builder, place) = (thread::Builder::new().stack_size(STACK), Place { begun: false });
    // If that cannot be, the place is dropped, and with it goes all that there is to do about it.
    let _ = hooks::all().start_with(builder, ThreadKind::FdCloser, NAME, move || run(place));
}

/// A thread's place among those that are counted.
struct Place {
    /// The thread has got as far as to look at what waits.
    begun: bool,
}

impl Drop for Place {
    /// The thread could not be started, or a hook has panicked on it. In the first case others will get to what waits, or a
    /// thread that is started for what comes next: this may be a thread that must not wait. In the second it is a thread of
    /// ours, which closes what it was started for, and ends.
    fn drop(&mut self) {
        let mut state = POOL.lock();
        state.threads -= 1;
        if self.begun {
            return;
        }
        state.starting = false;
        if thread::panicking() && thread::current().name() == Some(NAME) {
            let here = std::mem::take(&mut state.waiting);
            drop(state);
            here.into_iter().for_each(Closing::close);
        }
    }
}

/// A thread: closes what waits, then waits for more, then ends.
fn run(mut place: Place) {
    let mut state = POOL.lock();
    state.starting = false;
    place.begun = true;
    loop {
        if let Some(closing) = state.waiting.pop_front() {
            // This close may take for ever.
            let start_one = state.wants_thread();
            drop(state);
            if start_one {
                start();
            }
            closing.close();
            state = POOL.lock();
            continue;
        }
        state.idle += 1;
        let (woken, timeout) = POOL.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
        state = woken;
        state.idle -= 1;
        if timeout.timed_out() && state.waiting.is_empty() {
            // Under the same lock as the look, so that what comes next does not count on this thread.
            state.threads -= 1;
            std::mem::forget(place);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use budget::Budget;
    use std::io::{ErrorKind, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::OwnedFd;

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
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = rustix::net::SendAncillaryBuffer::new(&mut space);
        let fds = [std::os::fd::AsFd::as_fd(&lingering)];
        assert!(control.push(rustix::net::SendAncillaryMessage::ScmRights(&fds)));
        let bytes = [std::io::IoSlice::new(b"x")];
        rustix::net::sendmsg(&carrier, &bytes, &mut control, rustix::net::SendFlags::empty()).unwrap();
        (keeper.into(), peer)
    }

    /// Many closes that block do not hold up one that does not.
    #[test]
    fn stuck_closes_hold_up_neither_the_caller_nor_each_other() {
        let (stuck, peers): (Vec<_>, Vec<_>) = (0..40).map(|_| stuck()).unzip();
        stuck.into_iter().for_each(|fd| close(Closing { fd, charge: None }));
        let (mut reader, writer) = std::io::pipe().unwrap();
        close(Closing { fd: writer.into(), charge: None });
        assert_eq!(reader.read(&mut [0]).unwrap(), 0);
        // Resetting them lets them go.
        drop(peers);
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
        let holder = budget.holder(|| {});
        let ((stuck, peer), charge) = (stuck(), holder.account().charge(1));
        close(Closing { fd: stuck, charge: Some(charge) });
        let (_reader, writer) = std::io::pipe().unwrap();
        let quick = crate::Received::charged(writer.into(), holder.account().charge(1));
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
